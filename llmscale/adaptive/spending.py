"""What the runs of a results folder have cost, and how much of a budget a round may spend."""

from collections.abc import Mapping
from contextlib import suppress

from llmscale.errors import InputError
from llmscale.measure.sweep.run_status import RunStatus
from llmscale.measure.sweep.status import sweep_status
from llmscale.runs.log import last_progress
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder

STEPS = 2
"""Rounds over which a budget is spread, each with twice the FLOPs of the one before: the first
tells where the second is worth most. Of four, the first three took 29% of a budget on the CPU
ladder for an interval that was a tenth narrower (experiments/adaptive.py)."""


def round_budget(left: float, rounds_before: int, rounds_left: int) -> float:
    """FLOPs that a round may spend of what is `left`: a third of the budget, and then all."""
    steps = max(min(STEPS - rounds_before, rounds_left), 1)
    return left / (2.0**steps - 1.0)


def spent_flops(folder: ResultsFolder) -> dict[str, float]:
    """Training FLOPs that each run of the folder has cost so far, by id: a trunk once, of its
    branches what comes after the branch point, and of runs that diverged, failed or were
    interrupted the steps that they have logged."""
    runs: tuple[RunStatus, ...] = ()
    with suppress(InputError):  # there is nothing yet
        runs = sweep_status(folder).runs
    return {run.run_id: _spent(folder, run) for run in runs}


def spent_since(folder: ResultsFolder, before: Mapping[str, float]) -> float:
    """Training FLOPs that were spent in the folder since each run had cost what `before` says."""
    now = spent_flops(folder)
    return sum(max(flops - before.get(run_id, 0.0), 0.0) for run_id, flops in now.items())


def _spent(folder: ResultsFolder, run: RunStatus) -> float:
    home = folder.run_folder(run.run_id)
    if run.state == "done" or not (run.tokens and home.path.is_dir()):
        return run.own_flops - run.flops_left
    per_token = run.flops / run.tokens
    others = run.tokens - run.own_flops / per_token
    return max(_logged_tokens(home) - others, 0.0) * per_token


def _logged_tokens(home: RunFolder) -> float:
    """How far the run has got, by its last logged step: while it is under way, and at its end."""
    last = last_progress(home.path)
    if last is not None:
        return float(last["tokens"])
    with suppress(InputError):
        curve = home.read_curve()
        if curve.num_rows:
            return float(curve["tokens"][-1].as_py())
    return 0.0
