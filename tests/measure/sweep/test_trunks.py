"""Trunks and branches: what is trained once is what each run would have trained itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained import train_one

from llmscale.measure.sweep.devices import best_workers
from llmscale.measure.sweep.makespan import Duration, makespan, speedup
from llmscale.measure.sweep.trunks import BranchPoint, beginning_of_stream, descents
from llmscale.measure.train import job as job_module
from llmscale.measure.train.batches import Batches
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job, JobText, make_job
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.recipe import Recipe
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import CHECKPOINT
from llmscale.runs.shape import shape_for
from llmscale.runs.trunk_costs import tokens_trained

VOCAB, CONTEXT = 60, 32
CPU = Conditions("cpu", micro_batch=4)
TRAIN, VALIDATION = (
    (np.cumsum(np.random.default_rng(seed).integers(1, 4, tokens)) % VOCAB).astype(np.uint16)
    for seed, tokens in enumerate((60_000, 2_000))
)


def job(
    tokens: int,
    *,
    text_tokens: int = len(TRAIN),
    part: int | None = None,
    seed: int = 0,
    **recipe: object,
) -> Job:
    """A run of a size whose smallest budget is 20k tokens."""
    settings = Recipe(**{"context": CONTEXT, "batch_tokens": 64, **recipe})  # type: ignore[arg-type]
    return make_job(
        "1x16x1",
        shape_for("1x16x1", vocab_size=VOCAB, context=CONTEXT),
        tokens,
        settings,
        JobText("chain", "f", text_tokens, len(VALIDATION), part),
        seed=seed,
        dtype="float32",
        begins_like=20_000,
    )


def timeless(curve: tuple[CurvePoint, ...], after: int = 0) -> list[CurvePoint]:
    return [
        replace(point, tokens_per_second=None, seconds=0.0) for point in curve if point.step > after
    ]


@pytest.mark.parametrize(
    ("cooldown", "optimizer"),
    [
        pytest.param(0.0, "adamw", marks=pytest.mark.slow),
        (0.2, "muon"),
        pytest.param(0.7, "adamw", marks=pytest.mark.slow),
    ],
)
def test_a_branch_is_bit_for_bit_the_run_that_trains_all_its_steps_itself(
    cooldown: float, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "LOGGED_STEPS", 180)  # so that short runs skip some
    settings: dict[str, Any] = {"cooldown": cooldown, "optimizer": optimizer}
    branch, trunk = job(20_000, **settings), job(24_000, **settings)
    assert branch.log_every < trunk.log_every
    folders = [tmp_path / name for name in ("alone", "trunk", "branch", "whole trunk")]
    for folder in folders:
        folder.mkdir()
    point = folders[1] / "point.pt"
    alone = train_one(branch, CPU, TRAIN, VALIDATION, folders[0])
    ahead = train_one(
        trunk, CPU, TRAIN, VALIDATION, folders[1], branch_points={branch.branch_step: point}
    )
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 10

    with pytest.raises(TrainingInterrupted):
        train_one(branch, CPU, TRAIN, VALIDATION, folders[2], start=point, stop=stop)
    found = train_one(branch, CPU, TRAIN, VALIDATION, folders[2], start=point)

    assert found.evaluation == alone.evaluation
    first = next(point.step for point in found.curve if point.step > branch.branch_step)
    assert first <= 0.95 * branch.steps
    assert timeless(found.curve, first) == timeless(alone.curve, first)
    before = [point for point in ahead.curve if point.step <= branch.branch_step]
    assert list(found.curve[: len(before)]) == [
        replace(point, run_id=branch.run_id) for point in before
    ]
    assert (found.parent, found.parent_step) == (trunk.run_id, branch.branch_step)
    assert 0 < found.seconds < found.curve[-1].seconds
    assert timeless(ahead.curve) == timeless(
        train_one(trunk, CPU, TRAIN, VALIDATION, folders[3]).curve
    )


def test_a_branch_without_its_branch_point_trains_all_steps_itself(tmp_path: Path) -> None:
    found = train_one(job(20_000), CPU, TRAIN, VALIDATION, tmp_path, start=tmp_path / "lost.pt")
    assert found.status == "done"
    assert (found.parent, found.parent_step) == (None, 0)


def test_of_its_own_checkpoint_and_a_branch_point_a_run_takes_the_later(tmp_path: Path) -> None:
    point, branch = tmp_path / "point.pt", job(20_000)
    with pytest.raises(TrainingInterrupted):
        train_one(branch, CPU, TRAIN, VALIDATION, tmp_path, stop=lambda: True)
    assert (tmp_path / CHECKPOINT).exists()
    (other := tmp_path / "other").mkdir()
    train_one(job(40_000), CPU, TRAIN, VALIDATION, other, branch_points={branch.branch_step: point})
    assert (
        train_one(branch, CPU, TRAIN, VALIDATION, tmp_path, start=point).parent_step
        == branch.branch_step
    )


def test_only_runs_of_one_recipe_text_and_seed_begin_alike() -> None:
    first = job(20_000)
    assert first.begins_like(job(50_000))
    for other in (
        job(50_000, seed=1), job(50_000, lr_scale=2.0), job(50_000, text_tokens=50_000),
        job(50_000, batch_tokens=128),
        replace(first, dtype="bfloat16"), replace(first, data_fingerprint="g"),
    ):  # fmt: skip
        assert not first.begins_like(other)
    assert job(50_000, schedule="cosine").branch_step == 0


@given(st.integers(1, 60), st.integers(1, 300), st.integers(1, 300), st.integers(0, 3))
def test_longer_runs_on_a_stream_begin_with_the_sequences_of_the_shorter(
    smallest: int, shorter: int, longer: int, seed: int
) -> None:
    context, stream = 4, np.arange(200 * 4 + 1, dtype=np.uint16)
    shorter, longer = sorted((max(smallest, shorter), max(smallest, longer)))
    orders = []
    for sequences in (shorter, longer):
        text, part = beginning_of_stream(sequences * context, smallest * context, context)
        batches = Batches(stream[: min(text, len(stream))], context, seed, part=part)
        orders.append(batches.read(0, min(shorter, 200))[0][:, 0].tolist())
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == len(orders[0])


def test_the_largest_budget_is_the_trunk_and_saves_more_than_half() -> None:
    jobs = [job(20_000 * times) for times in (1, 1.5, 2, 3, 4)]  # type: ignore[arg-type]
    found = descents(jobs, [])
    trunk = jobs[-1]
    assert [found[one.run_id].parent for one in jobs] == [trunk] * 4 + [None]
    assert found[trunk.run_id].branch_steps == tuple(one.branch_step for one in jobs)
    trained = sum(one.tokens - found[one.run_id].step * one.batch_tokens for one in jobs)
    assert sum(one.tokens for one in jobs) / trained == pytest.approx(230 / 110, rel=1e-3)


def test_a_larger_budget_goes_on_from_the_last_trunk_and_a_smaller_one_begins_anew() -> None:
    small, middle, large, larger = (job(tokens) for tokens in (20_000, 30_000, 40_000, 80_000))
    left = BranchPoint(large, large.branch_step, Path("trunk.pt"))
    found = descents([larger], [left])
    assert (found[larger.run_id].parent, found[larger.run_id].step) == (large, large.branch_step)
    assert not found[larger.run_id].waits
    found = descents([small, middle, larger], [left])
    assert found[larger.run_id].parent == large
    assert (found[small.run_id].parent, found[small.run_id].waits) == (middle, True)
    assert found[middle.run_id].parent is None
    ready = BranchPoint(large, small.branch_step, Path("branch.pt"))
    found = descents([small, large], [ready])
    assert (found[small.run_id].parent, found[small.run_id].waits) == (large, False)
    assert found[large.run_id].parent is None


def test_the_makespan_is_that_of_longest_first_with_branches_behind_their_trunk() -> None:
    assert makespan([Duration(2), Duration(3), Duration(4), Duration(5)], 2) == 7
    assert makespan([Duration(2), Duration(3), Duration(4), Duration(5)], 1) == 14
    trunk, branch = Duration(10), Duration(2, after=0, share=0.5)
    assert makespan([trunk, branch], 2) == 10
    assert makespan([trunk, branch], 1) == 12
    assert makespan([trunk, Duration(2, after=0, share=0.9)], 2) == 11
    assert makespan([], 3) == 0


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=8), st.integers(1, 8))
def test_a_makespan_lies_between_its_bounds_and_the_best_number_of_workers_has_the_shortest(
    seconds: list[float], cores: int
) -> None:
    runs = [Duration(value) for value in seconds]
    for workers in range(1, cores + 1):
        shortest = max(sum(seconds) / workers, *seconds, 0.0)
        assert shortest <= makespan(runs, workers) * (1 + 1e-9)
        assert makespan(runs, workers) <= (2 - 1 / workers) * shortest * (1 + 1e-9)  # Graham 1966

    best = best_workers(cores, cores, runs)
    times = [makespan(runs, workers) / speedup(cores // workers) for workers in range(1, cores + 1)]
    assert times[best - 1] == min(times)


def test_one_long_run_takes_all_cores_and_many_equal_ones_a_core_each() -> None:
    assert best_workers(1, 8, [Duration(100)]) == 1
    assert best_workers(8, 8, [Duration(100)] * 16) == 8
    assert best_workers(2, 8, [Duration(100)] * 2) == 2
    assert best_workers(4, 4, [Duration(100), Duration(1), Duration(1), Duration(1)]) == 1
    assert (
        best_workers(4, 4, [Duration(100, threads=1), Duration(1), Duration(1), Duration(1)]) == 4
    )


@pytest.mark.parametrize("tokens", [(20_000,), (20_000, 24_000), (20_000, 30_000, 60_000)])
@pytest.mark.parametrize("saved_by", [None, 20_000, 40_000])
def test_what_runs_of_a_size_cost_in_tokens_is_what_their_arrangement_leaves_to_train(
    tokens: tuple[int, ...], saved_by: int | None
) -> None:
    jobs = [job(one) for one in tokens]
    first = job(saved_by) if saved_by else None
    saved = [BranchPoint(first, first.branch_step, Path("x"))] if first else []
    jobs = [one for one in jobs if one != first]
    arranged = descents(jobs, saved)
    trained = sum((one.steps - arranged[one.run_id].step) * one.batch_tokens for one in jobs)
    before = first.branch_step * first.batch_tokens if first else 0.0
    expected = tokens_trained([one.tokens for one in jobs], jobs[0].cooldown, before) if jobs else 0
    assert trained == pytest.approx(expected, rel=0.01)
