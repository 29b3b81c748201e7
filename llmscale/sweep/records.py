"""The records of a sweep: one row a run, from the folders of the runs to the two tables."""

import json
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from llmscale.executors import Event, local
from llmscale.job import Job, run_row
from llmscale.runs import ResultsFolder, Run, row_from_json, write_text

FINISHED = ("done", "diverged")


def finished_runs(folder: ResultsFolder) -> dict[str, Run]:
    """The runs that `folder` holds and that need no more training, by id."""
    return {run.run_id: run for run in recorded_runs(folder) if run.status in FINISHED}


def read_run(folder: ResultsFolder, run_id: str) -> Run | None:
    """The row that the run's worker wrote, or None where it has not ended."""
    path = folder.run_folder(run_id) / "run.json"
    run: Run | None = row_from_json(Run, json.loads(path.read_text())) if path.exists() else None
    return run


def write_tables(folder: ResultsFolder) -> None:
    """Rewrite runs.parquet and curves.parquet from the folders of the runs, keeping rows whose folder is gone."""
    runs = recorded_runs(folder)
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


def recorded_runs(folder: ResultsFolder) -> list[Run]:
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


def write_row(folder: ResultsFolder, row: Run) -> None:
    write_text(folder.run_folder(row.run_id) / "run.json", json.dumps(asdict(row), indent=2) + "\n")


def record_end(folder: ResultsFolder, job: Job, event: Event, device: str) -> None:
    """Write a row for a worker that ended without writing one, killed for its memory, say."""
    path = event.folder / "run.json"
    if event.exit_code in (0, 130) or path.exists():
        return
    code = event.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    log = event.folder / local.LOG_NAME
    write_row(folder, run_row(job, "failed", device, error=f"its process {how}; see {log}"))
