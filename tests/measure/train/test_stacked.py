"""Runs trained as one stack are the runs that each would have been alone."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from sweeps import llmscale, options
from trained import TRAIN, VALIDATION, job, members_of, train_one, train_stack, without_times

from llmscale.measure.train.batches import Batches
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Outcome
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.resumable import can_stack
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import build_model
from llmscale.runs.run_folder import CHECKPOINT
from llmscale.runs.shape import shape_for

CPU = Conditions("cpu", micro_batch=8, ops="plain")


def folders(path: Path, count: int = 3) -> list[Path]:
    made = [path / str(seed) for seed in range(count)]
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
    return made


def losses(outcomes: list[Outcome]) -> list[float]:
    return [outcome.evaluation.loss for outcome in outcomes if outcome.evaluation]


@pytest.mark.parametrize(
    ("arch", "optimizer"),
    [
        pytest.param("llama", "adamw", marks=pytest.mark.slow),
        ("gpt2", "adamw"),
        pytest.param("llama", "muon", marks=pytest.mark.slow),
    ],
)
def test_a_stack_of_seeds_learns_what_each_learns_alone(
    arch: str, optimizer: str, tmp_path: Path
) -> None:
    jobs = [replace(job(arch=arch, optimizer=optimizer), seed=seed) for seed in range(3)]
    stacked = train_stack(jobs, CPU, TRAIN, VALIDATION, folders(tmp_path / "stacked"))
    alone = [
        train_one(one, CPU, TRAIN, VALIDATION, folder)
        for one, folder in zip(jobs, folders(tmp_path), strict=True)
    ]
    assert losses(stacked) == pytest.approx(losses(alone), abs=2e-4)
    assert len(set(losses(stacked))) == 3
    for one, other in zip(stacked, alone, strict=True):
        assert [point.step for point in one.curve] == [point.step for point in other.curve]
        assert one.curve[3].grad_norm == pytest.approx(other.curve[3].grad_norm, rel=1e-4)


def test_an_interrupted_stack_goes_on_stacked_or_alone(tmp_path: Path) -> None:
    jobs = [replace(job(), seed=seed) for seed in range(3)]
    wanted = train_stack(jobs, CPU, TRAIN, VALIDATION, folders(tmp_path / "whole"))
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        train_stack(jobs, CPU, TRAIN, VALIDATION, folders(tmp_path), stop=lambda: next(asked) > 20)
    alone = train_one(jobs[0], CPU, TRAIN, VALIDATION, copy_of(folders(tmp_path)[0]))
    assert can_stack(members_of(jobs, folders(tmp_path)))
    resumed = train_stack(jobs, CPU, TRAIN, VALIDATION, folders(tmp_path))
    assert [without_times(one) for one in resumed] == [without_times(one) for one in wanted]
    assert losses([alone]) == pytest.approx(losses(wanted[:1]), abs=2e-4)
    (folders(tmp_path)[1] / CHECKPOINT).unlink()
    assert not can_stack(members_of(jobs, folders(tmp_path)))


def copy_of(folder: Path) -> Path:
    other = folder.with_name("copy")
    other.mkdir()
    (other / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes())
    return other


def test_a_stack_passes_a_whole_batch_at_once_and_clips_each_member_by_its_own_norm() -> None:
    shape = shape_for("2x16x1", vocab_size=60, context=32)
    model = Stack([build_model(shape, seed) for seed in range(3)])
    passes, calls = Passes(model, 8), []
    real = passes.losses
    passes.losses = lambda *part: calls.append(len(part[0])) or real(*part)  # type: ignore[func-returns-value]
    inputs_BT, targets_BT = Batches(TRAIN, 32, 0).read(0, 8)
    losses_S = passes.gradient(model.for_each(inputs_BT), model.for_each(targets_BT))
    assert calls == [8]
    norms_S = model.clip_gradient(0.25)
    for seed in range(3):
        alone = build_model(shape, seed)
        loss = Passes(alone, 8).gradient(inputs_BT, targets_BT)
        assert float(losses_S[seed]) == pytest.approx(float(loss), rel=1e-5)
        assert float(norms_S[seed]) == pytest.approx(float(alone.clip_gradient(0.25)), rel=1e-4)
        for (_, stacked), own in zip(model.named_parameters(), alone.parameters(), strict=True):
            assert stacked.grad is not None
            torch.testing.assert_close(stacked.grad[seed], own.grad, rtol=1e-3, atol=1e-6)


def test_only_runs_alike_but_for_the_seed_are_stacked(tmp_path: Path) -> None:
    pair = folders(tmp_path, 2)
    assert can_stack(members_of([job(), replace(job(), seed=1)], pair))
    assert not can_stack(members_of([job(), job(lr_scale=2.0)], pair))
    own = replace(job(), optimizer=f"mine.py:Mine@{'0' * 16}")
    assert not can_stack(members_of([own, replace(own, seed=1)], pair))


def test_a_stack_whose_members_all_diverge_ends(tmp_path: Path) -> None:
    wild = [replace(job(lr=1000.0, clip=1e9), seed=seed) for seed in range(2)]
    outcomes = train_stack(wild, CPU, TRAIN, VALIDATION, folders(tmp_path, 2))
    assert [outcome.status for outcome in outcomes] == ["diverged", "diverged"]
    assert all(outcome.error and "step" in outcome.error for outcome in outcomes)


def test_a_sweep_stacks_its_seeds_and_the_fit_sees_their_spread(tmp_path: Path) -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lines = [" ".join(words[int(digit)] for digit in str(number)) for number in range(9_000)]
    (tmp_path / "text.txt").write_text(
        "\n\n".join("; ".join(lines[i : i + 40]) for i in range(0, len(lines), 40))
    )
    data, recipe = f"{tmp_path}/*.txt", ["--seeds", "3", "--lr", "0.002"]
    tables = {}
    for stack, more in (("always", []), ("never", ["--deterministic"])):
        command = options(data, tmp_path / stack, "1x16x1")
        result = llmscale(*command, *recipe, "--stack", stack, *more)
        assert result.exit_code == 0, result.output
        tables[stack] = pd.read_parquet(tmp_path / stack / "runs.parquet")
    assert list(tables["always"]["run_id"]) == list(tables["never"]["run_id"])
    assert tables["always"]["loss"].to_numpy() == pytest.approx(
        tables["never"]["loss"].to_numpy(), abs=2e-4
    )
    assert (tables["always"].groupby("size")["loss"].nunique() == 3).all()
    # Members of a stack end together, each with its share of the time.
    assert (tables["always"].groupby("size")["seconds"].nunique() == 1).all()
    wrong = llmscale(*command, *recipe, "--stack", "sometimes")
    assert wrong.exit_code == 2
    assert "stack 'sometimes' is not known" in wrong.stderr
