"""Carrying a plan out: one sweep a folder, runs trained once, tables rewritten as each run ends."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmscale.machine import device_name
from llmscale.measure.executors import Event, Task, pick_executor
from llmscale.measure.sweep.kernels import check_kernels, without_kernels
from llmscale.measure.sweep.plan import Plan, PlannedRun
from llmscale.measure.sweep.provenance import provenance
from llmscale.measure.sweep.records import (
    finished_runs,
    mend_rows,
    read_run,
    record_end,
    recorded_runs,
    write_tables,
)
from llmscale.measure.sweep.retries import name_retries, own_error
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.trunks import branch_file, remove_unneeded, share_trunks
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.run_spec import RunSpec, known_spec
from llmscale.menu import is_own
from llmscale.runs.checked import DamagedFile
from llmscale.runs.lock import only_writer
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import FINISHED, Run
from llmscale.runs.safe_write import make_folder


def carry_out(
    plan: Plan,
    spec: SweepSpec,
    store: TokenStore,
    folder: ResultsFolder,
    command: str,
    report: Callable[[Event], object],
) -> list[Run]:
    """Train what is waiting in `plan`, write the tables, and return the rows of all runs of the
    folder.

    Raises KeyboardInterrupt, with the tables written and every started run resumable, when
    interrupted."""
    make_folder(folder.path)
    with only_writer(folder.path):
        check_kernels(folder, plan)
        folder.write_sweep(provenance(plan, spec, store, folder, command))
        mend_rows(folder)
        waiting = plan.waiting
        jobs = {run.job.run_id: run.job for run in plan.runs}
        for run in waiting:
            write_spec(folder, run, plan, store)
        name = device_name(plan.device)

        def settle(ended: str | None = None, final: bool = False) -> None:
            if share_trunks(spec):
                _end_with_trunk(folder, plan, ended, name)
            name_retries(plan, folder)
            if write_tables(folder, final=final) and share_trunks(spec):
                remove_unneeded(folder, finished_runs(folder))

        def pass_on(event: Event) -> object:
            if event.kind == "ended":
                record_end(jobs[event.run_id], event, name)
                settle(event.run_id)
            return report(event)

        try:
            settle()
            tasks = [
                Task(
                    tuple(folder.run_folder(run.job.run_id).path for run in group),
                    after=_start(folder, group[0]),
                )
                for group in plan.together
            ]
            pick_executor(spec.hardware.executor).run(
                tasks, plan.places, pass_on, *spec.hardware.executor_options
            )
        finally:
            settle(final=True)
    return recorded_runs(folder)


def _end_with_trunk(folder: ResultsFolder, plan: Plan, ended: str | None, device: str) -> None:
    """Record runs that a trunk did not live to reach: diverged with it, or failed until it is
    trained again.

    A run that begins like one that has diverged by then would diverge, too: its steps are the same.
    """
    among = plan.runs
    if ended:  # then nothing has changed for runs that begin otherwise
        beginning = next(run.job.beginning for run in plan.runs if run.job.run_id == ended)
        among = tuple(run for run in plan.runs if run.job.beginning == beginning)
    rows = {run.job.run_id: read_run(folder, run.job.run_id) for run in among}
    diverged: dict[Job, list[Job]] = {}
    for run in among:
        if (row := rows[run.job.run_id]) and row.status == "diverged":
            diverged.setdefault(run.job.beginning, []).append(run.job)
    unreached = ended if ended and not ((row := rows[ended]) and row.status in FINISHED) else None
    for run in among:
        if run.finished or rows[run.job.run_id] is not None:
            continue
        for trunk in diverged.get(run.job.beginning, ()):
            step = _last_step(folder, trunk.run_id)
            if step is not None and step <= min(trunk.branch_step, run.job.branch_step):
                error = f"its trunk diverged at step {step}: {own_error(rows[trunk.run_id])}"
                folder.run_folder(run.job.run_id).write_row(
                    run_row(run.job, "diverged", device, error=error)
                )
        start = _start(folder, run)
        if start and start.parent.name == unreached and not start.exists():
            error = f"its trunk, run {unreached}, has not been trained so far"
            folder.run_folder(run.job.run_id).write_row(
                run_row(run.job, "failed", device, error=error)
            )


def _last_step(folder: ResultsFolder, run_id: str) -> int | None:
    """The last logged step of a run that has ended, where it was trained at all."""
    run = folder.run_folder(run_id)
    try:
        steps = run.read_curve()["step"] if run.curve_path.exists() else []
    except (DamagedFile, KeyError):
        return None
    step: int | None = steps[-1].as_py() if len(steps) else None
    return step


def _start(folder: ResultsFolder, run: PlannedRun) -> Path | None:
    """The branch point that `run` starts from, whether it is there yet or not."""
    parent = run.descent.parent
    return folder.run_folder(parent.run_id).path / branch_file(run.descent.step) if parent else None


def write_spec(folder: ResultsFolder, run: PlannedRun, plan: Plan, store: TokenStore) -> None:
    """The run's `spec.json`.

    One begun before on such a device keeps its conditions, to end as if never interrupted.
    """
    home = folder.run_folder(run.job.run_id)
    row = home.known_row()
    if row is None or row.status not in FINISHED:  # a worker that lost its sweep may have ended it
        home.row_path.unlink(missing_ok=True)
    before = known_spec(home)
    start = _start(folder, run)
    spec = RunSpec(
        run.job,
        _conditions(run, plan),
        plan.places[0].threads,
        str(store.path.resolve()),
        store.validation_tokens,
        device_name(plan.device),
        os.path.relpath(start, home.path) if start else None,
        {step: branch_file(step) for step in run.descent.branch_steps},
        own=run.job.own_texts(),
        counts=run.job.shape.counts if is_own(run.job.shape.arch) else None,
    )
    if before is not None:
        points = {**before.branch_points, **spec.branch_points}
        spec = replace(spec, branch_points=points)
        # What was to run by kernels that cannot be made any more has not been begun, or
        # check_kernels would have said so.
        no_kernels = before.conditions.ops == "native" and without_kernels(plan)
        if before.device_name == spec.device_name and not no_kernels:
            spec = replace(spec, conditions=before.conditions, threads=before.threads)
    spec.write(home)


def _conditions(run: PlannedRun, plan: Plan) -> Conditions:
    """How `run` is run here, if nothing of it is there yet."""
    return Conditions(
        plan.device,
        run.micro_batch,
        run.compile,
        run.ops,
        threads=plan.places[0].threads if plan.device == "cpu" else 1,
        deterministic=plan.hardware.deterministic,
        peak_flops=plan.peak_flops,
        checkpoint_seconds=plan.hardware.checkpoint_seconds,
        evaluation_batch=run.evaluation_batch,
        shard=run.shard,
    )
