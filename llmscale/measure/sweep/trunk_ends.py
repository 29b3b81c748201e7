"""Runs that never begin, because the trunk that they branch off did not live to reach them."""

from collections.abc import Mapping, Sequence

from llmscale.machine import device_name
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.planned_run import PlannedRun
from llmscale.measure.sweep.records import read_run
from llmscale.measure.sweep.retries import own_error
from llmscale.measure.sweep.trunks import branch_point
from llmscale.measure.train.job import Job, run_row
from llmscale.runs.checked import DamagedFile
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import FINISHED, Run

Rows = Mapping[str, Run | None]
"""The rows of runs by id; None of one that has not ended."""


def end_with_trunk(folder: ResultsFolder, plan: Plan, ended: str | None) -> None:
    """Record runs that a trunk did not live to reach: diverged with it, or failed until it is
    trained again.

    A run that begins like one that has diverged by then would diverge, too: its steps are the same.
    Of runs that begin otherwise than `ended` nothing has changed."""
    device = device_name(plan.device)
    among = _beginning_like(plan, ended)
    rows = {run.job.run_id: read_run(folder, run.job.run_id) for run in among}
    diverged: dict[Job, list[Job]] = {}
    for run in among:
        row = rows[run.job.run_id]
        if row is not None and row.status == "diverged":
            diverged.setdefault(run.job.beginning, []).append(run.job)
    unreached = _not_finished(ended, rows)
    for run in among:
        if run.finished or rows[run.job.run_id] is not None:
            continue
        for trunk in diverged.get(run.job.beginning, ()):
            step = _last_step(folder, trunk.run_id)
            if step is not None and step <= min(trunk.branch_step, run.job.branch_step):
                error = f"its trunk diverged at step {step}: {own_error(rows[trunk.run_id])}"
                _write(folder, run_row(run.job, "diverged", device, error=error))
        start = branch_point(folder, run.descent)
        if start and start.parent.name == unreached and not start.exists():
            error = f"its trunk, run {unreached}, has not been trained so far"
            _write(folder, run_row(run.job, "failed", device, error=error))


def _beginning_like(plan: Plan, ended: str | None) -> Sequence[PlannedRun]:
    """The runs that begin like `ended`, itself included; all if none is named."""
    if ended is None:
        return plan.runs
    beginning = next(run.job.beginning for run in plan.runs if run.job.run_id == ended)
    return [run for run in plan.runs if run.job.beginning == beginning]


def _write(folder: ResultsFolder, row: Run) -> None:
    folder.run_folder(row.run_id).write_row(row)


def _not_finished(ended: str | None, rows: Rows) -> str | None:
    """`ended`, if that run ended without a result."""
    row = rows.get(ended or "")
    return None if row is not None and row.status in FINISHED else ended


def _last_step(folder: ResultsFolder, run_id: str) -> int | None:
    """The last logged step of a run that has ended, if it was trained at all."""
    run = folder.run_folder(run_id)
    try:
        steps = run.read_curve()["step"] if run.curve_path.exists() else []
    except (DamagedFile, KeyError):
        return None
    step: int | None = steps[-1].as_py() if len(steps) else None
    return step
