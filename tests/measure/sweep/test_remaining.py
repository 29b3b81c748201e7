"""What is left of runs, and how long it takes: one reckoning for the plan, the live view and
`llmscale status`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweeps import write_counting
from trained import job

from llmscale.measure.sweep.estimate import RUN_SECONDS
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.notes import held_out_note, noise_note
from llmscale.measure.sweep.plan import Plan, plan_sweep
from llmscale.measure.sweep.remaining import Work, pace_of, work_left
from llmscale.measure.sweep.result import _most_held_out
from llmscale.measure.sweep.spec import SweepSpec, parse_budgets, parse_flops
from llmscale.measure.sweep.status import sweep_status
from llmscale.measure.sweep.validation import named_by, settled, suited_tokens
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.measure.train.calibrate import Speeds
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.recipe import Recipe
from llmscale.quantity import format_count, parse_count
from llmscale.runs.results_folder import ResultsFolder

TRAINED, EVALUATED = 1e9, 4e9
"""FLOP/s, those of evaluating in what training on as many tokens would take."""
SHORT = Recipe(context=32)
SPEEDS = {"adamw": Speeds(1e11, ((1e4, TRAINED),), ((1e4, EVALUATED),))}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return prepare(
        TextSpec(source=str(write_counting(tmp_path_factory.mktemp("text"))), tokenizer="bpe:300")
    )


def plan(
    store: TokenStore,
    reached: dict[str, int] | None = None,
    finished: Sequence[str] = (),
    recipe: Recipe = SHORT,
) -> Plan:
    """A trunk of 40k tokens and a branch of 20k."""
    spec = SweepSpec(
        sizes=("1x16x1",),
        tokens=parse_budgets("20k,40k"),
        data=TextSpec(source=store.name, tokenizer="bpe:300"),
        recipe=recipe,
        hardware=Hardware(device="cpu", dtype="float32", workers=1, compile="never"),
    )
    steps = reached or {}
    return plan_sweep(
        spec,
        store,
        finished.__contains__,
        speeds=SPEEDS,
        reached=lambda run_id: steps.get(run_id, 0),
    )


def seconds(one: Job, work: Work, store: TokenStore) -> float:
    each = one.shape.flops_per_token
    return (
        RUN_SECONDS
        + work.tokens * each / TRAINED
        + work.evaluations * store.validation_tokens * each / EVALUATED
    )


def test_a_plan_counts_every_evaluation_that_is_left_and_no_step_that_is_trained(
    store: TokenStore,
) -> None:
    branch, trunk = plan(store).runs
    assert branch.descent.parent == trunk.job
    left = work_left(branch.job, branch.descent.step)
    assert 0 < left.tokens < 0.4 * branch.job.tokens
    assert left.evaluations >= 1
    for run in (branch, trunk):
        speedup = seconds(run.job, run.left, store) - RUN_SECONDS
        assert run.seconds - RUN_SECONDS <= speedup * (1 + 1e-9)
        assert (run.seconds - RUN_SECONDS) / speedup == pytest.approx(
            (trunk.seconds - RUN_SECONDS) / (seconds(trunk.job, trunk.left, store) - RUN_SECONDS)
        )
    half = trunk.job.steps // 2
    begun = plan(store, {trunk.job.run_id: half})
    assert begun.runs[1].left == work_left(trunk.job, half)
    assert begun.runs[1].origin == f"{half / trunk.job.steps:.0%} trained"
    assert begun.own_flops == plan(store).flops
    assert begun.flops == pytest.approx(
        plan(store).flops - trunk.job.shape.flops_per_token * half * trunk.job.batch_tokens
    )


def test_status_counts_a_trunk_once_and_runs_without_any_trace(
    store: TokenStore, tmp_path: Path
) -> None:
    from llmscale.measure.sweep.provenance import provenance
    from llmscale.measure.sweep.run import write_spec

    asked = plan(store)
    folder = ResultsFolder(tmp_path / "out")
    folder.path.mkdir()
    spec = SweepSpec(sizes=("1x16x1",), data=TextSpec(source=store.name))
    folder.write_sweep(provenance(asked, spec, store, folder, "llmscale sweep x"))
    for present in (False, True):
        if present:
            for run in asked.runs:
                write_spec(folder, run, asked, store)
        status = sweep_status(folder)
        assert [run.state for run in status.runs] == ["waiting", "waiting"]
        assert [run.size for run in status.runs] == ["1x16x1"] * 2
        assert status.flops == status.flops_left == asked.flops
        assert not status.finished
    branch, trunk = asked.runs
    folder.write_runs(
        [run_row(trunk.job, "done", "x", loss=4.0), run_row(branch.job, "running", "x")]
    )
    left = sweep_status(folder)
    assert left.flops == asked.flops
    assert (
        left.flops_left == plan(store, finished=[trunk.job.run_id]).runs[0].own_flops
        or left.flops_left > 0
    )


def test_the_last_evaluation_is_waited_for_at_its_measured_length() -> None:
    one, clock = replace(job(), evaluations=3), 0.0
    rows: list[dict[str, Any]] = []
    evaluated = sorted(one.evaluated_steps)
    for step in range(1, evaluated[-2] + 3):
        clock += one.batch_tokens / 1000 + (7.0 if step in one.evaluated_steps else 0.0)
        loss = 3.0 if step in one.evaluated_steps else None
        rows.append(
            {
                "step": step,
                "tokens": step * one.batch_tokens,
                "seconds": clock,
                "loss": loss,
                "tokens_per_second": 1000.0,
            }
        )
    pace, left = pace_of(rows), work_left(one, rows[-1]["step"])
    assert left.evaluations == 1
    assert pace.evaluation_seconds == pytest.approx(7.0)
    assert pace.tokens_per_second == pytest.approx(1000.0)
    assert pace.seconds_left(left, 99.0, waited=1.0) == pytest.approx(
        left.tokens / 1000 + 7.0 - 1.0
    )
    assert pace_of(rows[:2]).seconds_left(Work(1000, 2), 5.0, 0.0) == pytest.approx(11.0)
    assert pace_of([]).seconds_left(left, 5.0, 0.0) is None


@pytest.mark.parametrize(
    ("settings", "held_out"),
    [
        ({"sizes": ("10k",)}, 1_000_000),
        ({"sizes": ("10k",), "tokens": parse_budgets("4M")}, 1_000_000),
        ({"sizes": ("10k",), "tokens": parse_budgets("2M,40M")}, 500_000),
        ({"sizes": ("10k", "1M"), "tokens": parse_budgets("20x")}, 200_000),
        ({"sizes": ("10k",), "tokens": parse_budgets("100k")}, 100_000),
        ({"flops": parse_flops("1e18")}, 1_000_000),
    ],
)
def test_so_much_text_is_held_out_that_reading_it_costs_a_tenth_of_the_smallest_run(
    settings: dict[str, object], held_out: int
) -> None:
    spec = SweepSpec(**settings)  # type: ignore[arg-type]
    assert suited_tokens(spec) == held_out
    assert settled(spec).data.validation_tokens == held_out
    begun = {"data": {"validation_tokens": 1_000_000}}
    assert settled(spec, begun).data.validation_tokens == 1_000_000
    stated = replace(spec, data=TextSpec(validation_tokens=7))
    assert settled(stated, begun) == stated
    assert named_by(spec).data.validation_tokens == 1_000_000


def test_a_loss_too_noisy_to_tell_sizes_apart_is_said() -> None:
    def rows(stderr: float) -> list[object]:
        losses = {"1x16x1": 3.2, "1x32x1": 3.1}
        return [
            run_row(job(size=size), "done", "x", loss=loss, loss_stderr=stderr)
            for size, loss in losses.items()
        ]

    def again(tokens: str) -> str:
        return f"again on {tokens}"

    assert noise_note(rows(0.019), 1000, again) is None  # type: ignore[arg-type]
    note = noise_note(rows(0.021), 1000, again)  # type: ignore[arg-type]
    assert note is not None
    assert note.code == "noisy-loss"
    assert "0.021" in note.message
    assert "0.100" in note.message
    assert str(note).endswith("measure it on more text: again on 1.1k")
    small = noise_note(rows(0.021), 1000, again, 1050)  # type: ignore[arg-type]
    assert "this text has 1.05k tokens to measure on at most: use more text" in str(small)
    assert noise_note([], 1000, again) is None


def test_a_text_with_fewer_tokens_to_measure_on_than_asked_for_is_named(store: TokenStore) -> None:
    held = store.validation_tokens
    assert held_out_note(None, store) is held_out_note(held, store) is None
    note = held_out_note(100 * held, store)
    assert note is not None
    assert f"the text has {format_count(held)}" in note.message


def test_runs_on_the_tokens_that_a_plan_advises_have_enough_steps(store: TokenStore) -> None:
    (note,) = [one for one in plan(store).notes if one.code == "few-steps"]
    assert note.message.startswith("1 of 2 runs has fewer than 300 steps")
    advised = re.search(r"on (\S+) tokens or more in .* \(--batch-tokens (\d+)\)", note.message)
    assert advised
    batch = int(advised[2])
    assert 300 * batch <= parse_count(advised[1]) < 330 * batch
    recipe = Recipe(context=32, batch_tokens=batch)
    for times in (1, 1.3, 2, 3.7):
        tokens = round(times * parse_count(advised[1]))
        assert tokens >= 300 * 32 * recipe.batch_sequences(1000, tokens)
    (note,) = [one for one in plan(store, recipe=recipe).notes if one.code == "few-steps"]
    assert note.message.endswith("tokens or more, or in smaller batches (--batch-tokens)")


def test_what_a_mixture_can_hold_out_follows_from_each_of_its_sources(store: TokenStore) -> None:
    sources = {"code": 10_000, "docs": 2_000}
    parts = {
        name: {"first": 0, "tokens": tokens // 20, "bytes": 1} for name, tokens in sources.items()
    }
    known = {
        name: {"available_tokens": tokens - tokens // 20, "complete": True, "share": 0.5}
        for name, tokens in sources.items()
    }
    meta = {**store.meta, "complete": False, "mixture": {"sources": known, "validation": parts}}
    mixed = replace(store, meta=meta)
    assert _most_held_out({"meta": meta}) == 0.1 * 2 * 2_000
    note = held_out_note(1000, mixed)
    assert note is not None
    assert "asked for 500 tokens of each source, and there are 100 of docs:" in note.message
    assert held_out_note(200, mixed) is None
    known["docs"]["complete"] = False  # and has more than was read
    assert _most_held_out({"meta": meta}) == 0.1 * 2 * 10_000
