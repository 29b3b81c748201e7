"""Carrying a plan out: one sweep a folder, runs trained once, tables rewritten as each run ends."""

import fcntl
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import llmscale
from llmscale.errors import InputError
from llmscale.executors import Event, Task, local
from llmscale.job import Job, run_row
from llmscale.machine import available_cores, device_name
from llmscale.recipe import Recipe
from llmscale.runs import ResultsFolder, Run, make_folder, row_from_json, write_text
from llmscale.sweep.plan import Plan, PlannedRun
from llmscale.sweep.spec import SweepSpec
from llmscale.sweep.trunks import branch_file, remove_unneeded, share_trunks
from llmscale.tokens import TokenStore

FINISHED = ("done", "diverged")


def check_folder(folder: ResultsFolder, spec: SweepSpec) -> None:
    """Raise InputError where `folder` holds another sweep's runs, or something else."""
    path = folder.path
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "name a folder with --out")
    if not folder.sweep_path.exists():
        if path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            raise InputError(f"{path} holds files but no sweep", "name a new or empty folder with --out")
        return
    before, now = folder.read_sweep().get("basis"), json.loads(json.dumps(spec.basis()))
    if before and "recipe" in before:
        before["recipe"] = {**asdict(Recipe()), **before["recipe"]}  # settings younger than the folder
    changed = difference(before, now)
    if changed:
        raise InputError(f"{path} holds a sweep of another specification: {changed}", "name another folder with --out")


def finished_runs(folder: ResultsFolder) -> dict[str, Run]:
    """The runs that `folder` holds and that need no more training, by id."""
    return {run.run_id: run for run in _recorded_runs(folder) if run.status in FINISHED}


def read_run(folder: ResultsFolder, run_id: str) -> Run | None:
    """The row that the run's worker wrote, or None where it has not ended."""
    path = folder.run_folder(run_id) / "run.json"
    run: Run | None = row_from_json(Run, json.loads(path.read_text())) if path.exists() else None
    return run


def carry_out(
    plan: Plan,
    spec: SweepSpec,
    store: TokenStore,
    folder: ResultsFolder,
    command: str,
    report: Callable[[Event], object],
) -> list[Run]:
    """Train what is waiting in `plan`, write the tables, and return the rows of all runs of the folder.

    Raises KeyboardInterrupt, with the tables written and every started run resumable, when interrupted.
    """
    make_folder(folder.path)
    with only_writer(folder.path):
        folder.write_sweep(provenance(plan, spec, store, folder, command))
        waiting = plan.waiting
        jobs = {run.job.run_id: run.job for run in plan.runs}
        for run in waiting:
            write_spec(folder, run, plan, store)
        name = device_name(plan.device)

        def settle(ended: str | None = None) -> None:
            if share_trunks(spec):
                _end_with_trunk(folder, plan, ended, name)
                remove_unneeded(folder, finished_runs(folder))
            write_tables(folder)

        def pass_on(event: Event) -> object:
            if event.kind == "ended":
                record_end(folder, jobs[event.run_id], event, name)
                settle(event.run_id)
            return report(event)

        try:
            settle()
            tasks = [
                Task(tuple(folder.run_folder(run.job.run_id) for run in group), after=_start(folder, group[0]))
                for group in plan.together
            ]
            local.run(tasks, plan.places, pass_on)
        finally:
            write_tables(folder)
    return _recorded_runs(folder)


def write_tables(folder: ResultsFolder) -> None:
    """Rewrite runs.parquet and curves.parquet from the folders of the runs, keeping rows whose folder is gone."""
    runs = _recorded_runs(folder)
    curves = []
    with_folder = set()
    for run in runs:
        path = folder.run_folder(run.run_id) / "curve.parquet"
        if path.exists():
            curves.append(pq.read_table(path))
            with_folder.add(run.run_id)
    if folder.curves_path.exists():
        old = pq.read_table(folder.curves_path)
        kept = pa.array([run_id not in with_folder for run_id in old["run_id"].to_pylist()], pa.bool_())
        curves.append(old.filter(kept))
    folder.write_runs(runs)
    folder.write_curves(curves)


def _recorded_runs(folder: ResultsFolder) -> list[Run]:
    """Every run known to the folder by size, budget and seed; those begun and not ended are `running`."""
    runs: dict[str, Run] = {}
    if folder.runs_path.exists():
        for row in pq.read_table(folder.runs_path).to_pylist():
            run = row_from_json(Run, row)
            runs[run.run_id] = run
    for spec_path in folder.path.glob("runs/*/spec.json"):
        run_id = spec_path.parent.name
        spec = json.loads(spec_path.read_text())
        unfinished = run_row(Job.from_json(spec["job"]), "running", spec["device_name"])
        runs[run_id] = read_run(folder, run_id) or unfinished
    return sorted(runs.values(), key=lambda run: (run.params, run.tokens, run.seed))


def _end_with_trunk(folder: ResultsFolder, plan: Plan, ended: str | None, device: str) -> None:
    """Record runs that a trunk did not live to reach: diverged with it, or failed until it is trained again.

    A run that begins like one that has diverged by then would diverge, too: its steps are the same.
    """
    rows = {run.job.run_id: read_run(folder, run.job.run_id) for run in plan.runs}
    diverged = [run.job for run in plan.runs if (row := rows[run.job.run_id]) and row.status == "diverged"]
    unreached = ended if ended and not ((row := rows[ended]) and row.status in FINISHED) else None
    for run in plan.waiting:
        if rows[run.job.run_id] is not None:
            continue
        for trunk in (job for job in diverged if job.begins_like(run.job)):
            step = _last_step(folder, trunk.run_id)
            if step is not None and step <= min(trunk.branch_step, run.job.branch_step):
                error = f"its trunk diverged at step {step}: {rows[trunk.run_id].error}"  # type: ignore[union-attr]
                _write_row(folder, run_row(run.job, "diverged", device, error=error))
        start = _start(folder, run)
        if start and start.parent.name == unreached and not start.exists():
            error = f"its trunk, run {unreached}, has not been trained so far"
            _write_row(folder, run_row(run.job, "failed", device, error=error))


def _last_step(folder: ResultsFolder, run_id: str) -> int | None:
    """The last logged step of a run that has ended, where it was trained at all."""
    path = folder.run_folder(run_id) / "curve.parquet"
    step: int | None = pq.read_table(path, columns=["step"])["step"][-1].as_py() if path.exists() else None
    return step


def _start(folder: ResultsFolder, run: PlannedRun) -> Path | None:
    """The branch point that `run` starts from, whether it is there yet or not."""
    parent = run.descent.parent
    return folder.run_folder(parent.run_id) / branch_file(run.descent.step) if parent else None


def _write_row(folder: ResultsFolder, row: Run) -> None:
    write_text(folder.run_folder(row.run_id) / "run.json", json.dumps(asdict(row), indent=2) + "\n")


def write_spec(folder: ResultsFolder, run: PlannedRun, plan: Plan, store: TokenStore) -> None:
    """The run's `spec.json`. A run begun before keeps its conditions, so that it ends as if never interrupted."""
    path = folder.run_folder(run.job.run_id) / "spec.json"
    path.with_name("run.json").unlink(missing_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    start, points = _start(folder, run), {str(step): branch_file(step) for step in run.descent.branch_steps}
    spec = {
        "job": run.job.to_json(),
        "conditions": {
            "device": plan.device,
            "micro_batch": run.micro_batch,
            "compile": run.compile,
            "peak_flops": plan.peak_flops,
            "ops": run.ops,
            "threads": plan.places[0].threads if plan.device == "cpu" else 1,
            "deterministic": plan.hardware.deterministic,
        },
        "threads": plan.places[0].threads,
        "store": str(store.path.resolve()),
        "device_name": device_name(plan.device),
        **before,
        "start": os.path.relpath(start, path.parent) if start else None,
        "branch_points": {**before.get("branch_points", {}), **points},
    }
    write_text(path, json.dumps(spec, indent=2) + "\n")


def record_end(folder: ResultsFolder, job: Job, event: Event, device: str) -> None:
    """Write a row for a worker that ended without writing one, killed for its memory, say."""
    path = event.folder / "run.json"
    if event.exit_code in (0, 130) or path.exists():
        return
    code = event.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    log = event.folder / local.LOG_NAME
    _write_row(folder, run_row(job, "failed", device, error=f"its process {how}; see {log}"))


def provenance(plan: Plan, spec: SweepSpec, store: TokenStore, folder: ResultsFolder, command: str) -> dict[str, Any]:
    """What sweep.json says: specification, text, versions, hardware, command."""
    packages = ("torch", "numpy", "tokenizers", "pyarrow")
    return {
        "spec": spec.to_json(),
        "basis": spec.basis(),
        "runs": [run.job.run_id for run in plan.runs],
        "data": describe_text(store),
        "versions": {
            "llmscale": llmscale.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "hardware": {
            "device": plan.device,
            "device_name": device_name(plan.device),
            "dtype": plan.dtype,
            "cores": available_cores(),
            "workers": len(plan.places),
            "peak_flops": plan.peak_flops or folder_peak(folder),
        },
        "command": command,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def describe_text(store: TokenStore) -> dict[str, Any]:
    """The text of a sweep: what it is, how much of it there is, and the fingerprint that tells two texts apart."""
    return {
        "source": store.name,
        "fingerprint": store.fingerprint,
        "train_tokens": store.train_tokens,
        "validation_tokens": store.validation_tokens,
        "validation_bytes": store.validation_bytes,
        "vocab_size": store.vocab_size,
        "meta": store.meta,
    }


def folder_peak(folder: ResultsFolder) -> float | None:
    """The peak FLOP/s that an earlier command measured for this folder, or None."""
    if not folder.sweep_path.exists():
        return None
    peak: float | None = folder.read_sweep().get("hardware", {}).get("peak_flops")
    return peak


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with it, however it ends. Raises InputError."""
    lock = path / ".lock"
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(
                f"{path} is being written by {holder}", "wait for it, or name another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def difference(before: Any, now: Any, where: str = "") -> str | None:
    """The first value in which two specifications differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            found = difference(before.get(key), now.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    return None if before == now else f"{where} is {before} there and {now} here"


def command_line() -> str:
    """The command that runs this process, to be typed again."""
    return shlex.join(["llmscale", *sys.argv[1:]])
