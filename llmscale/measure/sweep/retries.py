"""Diverged runs tried again with half the learning rate, as runs of their own.

Runs that share a trunk are tried again together, those that have not diverged too, so that at each
size all budgets of the new trunk have one learning rate. A fit then takes these in place of the
first ones (table/rows/retries.py)."""

from dataclasses import replace

from llmscale.measure.sweep.plan import Plan, plan_sweep
from llmscale.measure.sweep.records import finished_runs, read_run
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.trunks import saved_branch_points
from llmscale.measure.text.prepare import TokenStore
from llmscale.runs.log import saved_step
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run

_AGAIN = "; tried again"


def next_round(
    plan: Plan, spec: SweepSpec, store: TokenStore, folder: ResultsFolder
) -> Plan | None:
    """The plan of the runs to try again now that `plan` has been carried out; None if there are
    none. Runs of `plan` that failed wait for the next command."""
    if not spec.retry_diverged:
        return None
    finished = finished_runs(folder)
    tried = {run.job.run_id for run in plan.runs}
    again = plan_sweep(
        spec,
        store,
        lambda run_id: run_id in finished or run_id in tried,
        saved=saved_branch_points(folder),
        diverged=lambda run_id: run_id in finished and finished[run_id].status == "diverged",
        speeds=plan.speeds,
        begun=plan.dtype,
        reached=lambda run_id: saved_step(folder.run_folder(run_id).path),
    )
    return again if again.waiting else None


def name_retries(plan: Plan, folder: ResultsFolder) -> None:
    """Say in the rows of diverged runs which run tries each again."""
    for job in (run.job for run in plan.runs):
        row = read_run(folder, job.retry_of) if job.retry_of else None
        if row and row.status == "diverged" and job.run_id not in (row.error or ""):
            error = f"{row.error}{_AGAIN} with learning rate {job.lr:.3g} as run {job.run_id}"
            folder.run_folder(row.run_id).write_row(replace(row, error=error))


def own_error(row: Run | None) -> str:
    """Why a run diverged, without the mention of the one that tries it again."""
    return (row.error or "").partition(_AGAIN)[0] if row else ""
