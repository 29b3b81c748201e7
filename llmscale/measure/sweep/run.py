"""Carrying a plan out: one sweep a folder, runs trained once, tables rewritten as each run ends."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmscale.machine import device_name
from llmscale.measure.executors import Event, Task, pick_executor
from llmscale.measure.sweep.kernels import check_kernels, without_kernels
from llmscale.measure.sweep.plan import Plan, PlannedRun
from llmscale.measure.sweep.provenance import provenance
from llmscale.measure.sweep.records import (
    FINISHED,
    finished_runs,
    mend_rows,
    read_curve,
    read_run,
    record_end,
    recorded_runs,
    write_row,
    write_tables,
)
from llmscale.measure.sweep.retries import name_retries, own_error
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.trunks import branch_file, remove_unneeded, share_trunks
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.run_spec import read_spec_file
from llmscale.runs.checked import DamagedFile, read_object
from llmscale.runs.folder import ResultsFolder, Run, make_folder, write_text
from llmscale.runs.lock import only_writer


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
                record_end(folder, jobs[event.run_id], event, name)
                settle(event.run_id)
            return report(event)

        try:
            settle()
            tasks = [
                Task(
                    tuple(folder.run_folder(run.job.run_id) for run in group),
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
                write_row(folder, run_row(run.job, "diverged", device, error=error))
        start = _start(folder, run)
        if start and start.parent.name == unreached and not start.exists():
            error = f"its trunk, run {unreached}, has not been trained so far"
            write_row(folder, run_row(run.job, "failed", device, error=error))


def _last_step(folder: ResultsFolder, run_id: str) -> int | None:
    """The last logged step of a run that has ended, where it was trained at all."""
    path = folder.run_folder(run_id) / "curve.parquet"
    try:
        steps = read_curve(path)["step"] if path.exists() else []
    except (DamagedFile, KeyError):
        return None
    step: int | None = steps[-1].as_py() if len(steps) else None
    return step


def _start(folder: ResultsFolder, run: PlannedRun) -> Path | None:
    """The branch point that `run` starts from, whether it is there yet or not."""
    parent = run.descent.parent
    return folder.run_folder(parent.run_id) / branch_file(run.descent.step) if parent else None


def write_spec(folder: ResultsFolder, run: PlannedRun, plan: Plan, store: TokenStore) -> None:
    """The run's `spec.json`.

    One begun before on such a device keeps its conditions, to end as if never interrupted.
    """
    path = folder.run_folder(run.job.run_id) / "spec.json"
    row = read_run(folder, run.job.run_id)
    if (
        row is None or row.status not in FINISHED
    ):  # a worker that lost its sweep may have finished it since
        path.with_name("run.json").unlink(missing_ok=True)
    before: dict[str, Any] = _spec_before(path)
    here = before.get("device_name") == device_name(plan.device)
    # Of a stack that was begun before evaluation_batch was known, micro_batch was that of all
    # members together.
    other_meaning = run.members > 1 and "evaluation_batch" not in before.get("conditions", {})
    # What was to run by kernels that cannot be made any more has not been begun, or check_kernels
    # would have said so.
    no_kernels = before.get("conditions", {}).get("ops") == "native" and without_kernels(plan)
    kept: dict[str, Any] = {}
    if here and not other_meaning and not no_kernels:
        kept = {key: before[key] for key in ("conditions", "threads") if key in before}
    start, points = (
        _start(folder, run),
        {str(step): branch_file(step) for step in run.descent.branch_steps},
    )
    spec = {
        "job": run.job.to_json(),
        "conditions": {
            "device": plan.device,
            "micro_batch": run.micro_batch,
            "evaluation_batch": run.evaluation_batch,
            "compile": run.compile,
            "peak_flops": plan.peak_flops,
            "ops": run.ops,
            "threads": plan.places[0].threads if plan.device == "cpu" else 1,
            "deterministic": plan.hardware.deterministic,
            "checkpoint_seconds": plan.hardware.checkpoint_seconds,
            "shard": run.shard,
        },
        "threads": plan.places[0].threads,
        "store": str(store.path.resolve()),
        "validation_tokens": store.validation_tokens,
        "device_name": device_name(plan.device),
        **kept,
        "start": os.path.relpath(start, path.parent) if start else None,
        "branch_points": {**before.get("branch_points", {}), **points},
    }
    own = run.job.own_texts()
    if own:
        # Counts stand next to it for those who look at the folder without running the file.
        spec |= {"own": own, "counts": asdict(run.job.shape.counts)}
    write_text(path, json.dumps(spec, indent=2) + "\n")


def _spec_before(path: Path) -> dict[str, Any]:
    """What an earlier command wrote; nothing where that is damaged: all of it follows from the job
    and this machine.
    """
    try:
        read_spec_file(path)
        return read_object(path)
    except (DamagedFile, FileNotFoundError):
        return {}
