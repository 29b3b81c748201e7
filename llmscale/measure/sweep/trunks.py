"""Trunks and branches: runs that begin alike are trained once up to where each cools down (Hägele
et al. 2024).

The largest token budget of a size and seed is the trunk; it saves its state where the cooldown of
each smaller one begins, and where its own does, for larger budgets that are added later. Five
budgets of 20, 30, 40, 60 and 80 tokens a parameter, a fifth of each cooled down, then cost 110
tokens a parameter in place of 230."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.train.job import Job
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import known_spec, start_of
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder

_POINT = "trunk-"


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


def share_trunks(spec: SweepSpec, recipe: Recipe | None = None) -> bool:
    """Whether the budgets of one size are to begin alike: by `recipe`, or by any of the sweep's."""
    recipes = spec.variants.values() if recipe is None else (recipe,)
    branching = (one.trunk and SCHEDULES.find(one.schedule).branches for one in recipes)
    several = len(spec.tokens) > 1 or (spec.unique_tokens and len(spec.epochs) > 1)
    return bool(several) and any(branching)


def sharing_recipes(spec: SweepSpec) -> set[str]:
    """The names of the recipes whose budgets are to begin alike."""
    return {name for name, recipe in spec.variants.items() if share_trunks(spec, recipe)}


def beginning_of_stream(tokens: int, smallest: int | None, context: int) -> tuple[int, int | None]:
    """How many tokens of a stream a run of `tokens` draws from, and in parts of how many sequences,
    None for one part.

    Budgets that begin alike read the stream in parts of the `smallest` of them, each in random
    order: so the longer runs, too, begin with all of the first part."""
    part = smallest // context if smallest and smallest != tokens else 0
    if part == 0:
        return tokens + 1, None
    parts = -(-(tokens // context) // part)
    return 1 + parts * part * context, part


def branch_file(step: int) -> str:
    """The name of a branch point in the folder of the run that saved it."""
    return f"{_POINT}{step}.pt"


def branch_point(folder: ResultsFolder, descent: Descent) -> Path | None:
    """The branch point that a run starts from, whether it is there yet or not."""
    parent = descent.parent
    if parent is None:
        return None
    return folder.run_folder(parent.run_id).path / branch_file(descent.step)


def descents(waiting: Sequence[Job], saved: Sequence[BranchPoint]) -> dict[str, Descent]:
    """For the runs to train, by id: which one each continues, from which `saved` point."""
    found: dict[str, Descent] = {}
    alike: dict[Job, list[Job]] = {}
    for job in sorted(waiting, key=lambda job: job.tokens):
        alike.setdefault(job.beginning, []).append(job)
    points: dict[Job, list[BranchPoint]] = {}
    for point in saved:
        points.setdefault(point.job.beginning, []).append(point)
    for beginning, left in alike.items():
        while left:
            arranged = _arrange(left, points.get(beginning, []))
            found |= arranged
            left = [job for job in left if job.run_id not in arranged]
    return found


def saved_branch_points(folder: ResultsFolder) -> list[BranchPoint]:
    """The branch points that runs of `folder` have left."""
    return [point for run in folder.run_folders for point in _points(run)]


def remove_unneeded(folder: ResultsFolder, finished: Collection[str]) -> None:
    """Remove branch points that no unfinished run needs, but for each beginning's last."""
    points = sorted(saved_branch_points(folder), key=lambda point: -point.step)
    if not points:
        return
    waiting = [run for run in folder.run_folders if run.run_id not in finished]
    specs = [(run, spec) for run in waiting if (spec := known_spec(run))]
    starts = {start.resolve() for run, spec in specs if (start := start_of(run, spec))}
    last: set[Job] = set()
    for point in points:
        if point.job.beginning not in last:
            last.add(point.job.beginning)
        elif point.path.resolve() not in starts:
            point.path.unlink(missing_ok=True)


def _arrange(jobs: Sequence[Job], saved: Sequence[BranchPoint]) -> dict[str, Descent]:
    """For runs that begin alike, by growing budget: the last is the trunk, if it can be."""
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
    found[trunk.run_id] = Descent(
        start.job if start else None, first_step, branch_steps=tuple(sorted(set(steps)))
    )
    return found


def _last_before(job: Job, saved: Sequence[BranchPoint]) -> BranchPoint | None:
    """The branch point of another run that leaves least of `job` to train."""
    others = (point for point in saved if point.job.run_id != job.run_id)
    usable = [point for point in others if point.step <= job.branch_step]
    return max(usable, key=lambda point: point.step, default=None)


def _points(run: RunFolder) -> list[BranchPoint]:
    """The branch points that are there in a run's folder. Of most runs it has none, and their
    specifications need not be read."""
    names = {name for name in os.listdir(run.path) if name.startswith(_POINT)}
    spec = known_spec(run) if names else None
    if spec is None:
        return []  # damaged: nothing starts from its branch points
    saved = spec.branch_points.items()
    return [BranchPoint(spec.job, step, run.path / name) for step, name in saved if name in names]
