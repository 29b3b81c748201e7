"""Trunks and branches: runs that begin alike are trained once up to where each cools down (Hägele et al. 2024).

The largest token budget of a size and seed is the trunk; it saves its state where the cooldown of each smaller one
begins, and where its own does, for larger budgets that are added later. Five budgets of 20, 30, 40, 60 and 80 tokens a
parameter, a fifth of each cooled down, then cost 110 tokens a parameter in place of 230.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.job import Job
from llmscale.runs import ResultsFolder
from llmscale.sweep.spec import SweepSpec


@dataclass(frozen=True)
class BranchPoint:
    """The saved state of `job` after `step` steps, for runs that begin like it."""

    job: Job
    step: int
    path: Path


@dataclass(frozen=True)
class Descent:
    """Where the first steps of a run come from, and what it saves for others."""

    parent: Job | None = None
    """The run that trains the first `step` steps, or None."""
    step: int = 0
    waits: bool = False
    """Whether the parent is still to be trained, too."""
    branch_steps: tuple[int, ...] = ()
    """Steps after which this run saves its state."""


def share_trunks(spec: SweepSpec) -> bool:
    """Whether the budgets of one size are to begin alike."""
    return spec.recipe.trunk and spec.recipe.schedule == "wsd" and len(spec.tokens) > 1


def beginning_of_stream(tokens: int, smallest: int | None, context: int) -> tuple[int, int | None]:
    """How many tokens of a stream a run of `tokens` draws from, and in parts of how many sequences, None for one part.

    Budgets that begin alike read the stream in parts of the `smallest` of them, each in random order: so the longer
    runs, too, begin with all of the first part.
    """
    part = smallest // context if smallest and smallest != tokens else 0
    if part == 0:
        return tokens + 1, None
    parts = -(-(tokens // context) // part)
    return 1 + parts * part * context, part


def branch_file(step: int) -> str:
    """The name of a branch point in the folder of the run that saved it."""
    return f"trunk-{step}.pt"


def descents(waiting: Sequence[Job], saved: Sequence[BranchPoint]) -> dict[str, Descent]:
    """For the runs to train, by id: which one continues which, and from which of the `saved` branch points."""
    found: dict[str, Descent] = {}
    left = sorted(waiting, key=lambda job: job.tokens)
    while left:
        alike = [job for job in left if job.begins_like(left[-1])]
        arranged = _arrange(alike, [point for point in saved if point.job.begins_like(left[-1])])
        found |= arranged
        left = [job for job in left if job.run_id not in arranged]
    return found


def saved_branch_points(folder: ResultsFolder) -> list[BranchPoint]:
    """The branch points that runs of `folder` have left."""
    return [point for _, _, points in _specs(folder) for point in points]


def remove_unneeded(folder: ResultsFolder, finished: Collection[str]) -> None:
    """Remove the branch points that no unfinished run starts from, but for the last one of every beginning."""
    specs = list(_specs(folder))
    starts = {str((path / spec["start"]).resolve()) for path, spec, _ in specs if _unfinished(path, spec, finished)}
    points = sorted((point for _, _, found in specs for point in found), key=lambda point: -point.step)
    last: list[BranchPoint] = []
    for point in points:
        is_last = not any(point.job.begins_like(other.job) for other in last)
        if is_last:
            last.append(point)
        elif str(point.path.resolve()) not in starts:
            point.path.unlink(missing_ok=True)


def _arrange(jobs: Sequence[Job], saved: Sequence[BranchPoint]) -> dict[str, Descent]:
    """For runs that begin alike, by growing budget: the last is the trunk of those that it can be the trunk of."""
    trunk, others = jobs[-1], jobs[:-1]
    start = _last_before(trunk, saved)
    first_step = start.step if start else 0
    found = {}
    steps = []
    for job in others:
        own = _last_before(job, saved)
        if own and own.step == job.branch_step:
            found[job.run_id] = Descent(own.job, own.step)
        elif job.branch_step > first_step:
            found[job.run_id] = Descent(trunk, job.branch_step, waits=True)
            steps.append(job.branch_step)
    if trunk.branch_step > max((point.step for point in saved), default=0):
        steps.append(trunk.branch_step)
    found[trunk.run_id] = Descent(start.job if start else None, first_step, branch_steps=tuple(sorted(set(steps))))
    return found


def _last_before(job: Job, saved: Sequence[BranchPoint]) -> BranchPoint | None:
    """The branch point of another run that leaves least of `job` to train."""
    usable = [point for point in saved if point.step <= job.branch_step and point.job.run_id != job.run_id]
    return max(usable, key=lambda point: point.step, default=None)


def _specs(folder: ResultsFolder) -> Iterator[tuple[Path, dict[str, Any], list[BranchPoint]]]:
    """Of every run: its folder, its specification, and the branch points that are there."""
    for path in sorted(folder.path.glob("runs/*/spec.json")):
        spec = json.loads(path.read_text())
        names = spec.get("branch_points", {})
        job = Job.from_json(spec["job"]) if names else None
        points = [BranchPoint(job, int(step), path.with_name(name)) for step, name in names.items() if job]
        yield path.parent, spec, [point for point in points if point.path.exists()]


def _unfinished(path: Path, spec: dict[str, Any], finished: Collection[str]) -> bool:
    return bool(spec.get("start")) and path.name not in finished
