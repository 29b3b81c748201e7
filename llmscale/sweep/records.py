"""The records of a sweep: one row a run, from the folders of the runs to the two tables.

Each table notes which file of which run it was made from, by time and size: only what has changed since is read again.
A run whose folder is gone keeps its rows.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from llmscale.command_lines import command_line
from llmscale.curve_file import GROUP_ROWS, CurveFile
from llmscale.errors import InputError, WorkError
from llmscale.executors import Event
from llmscale.job import Job, run_row
from llmscale.progress import LOG_NAME
from llmscale.recipe import DEFAULT
from llmscale.runs import (
    CurvePoint,
    ResultsFolder,
    Run,
    plain_name,
    row_from_json,
    rows_table,
    write_groups,
    write_text,
)

FINISHED = ("done", "diverged")
SHARE = 20
"""A table is rewritten no sooner than so many times later as its last rewriting took: 5% of the time at most."""

Stamp: TypeAlias = str
"""When a file was last written, and its size: another one where it has changed."""

_NOTED = b"made_from"
_SECONDS_A_ROW = 1e-6
"""Of rewriting curves.parquet, before this process has done it."""
_BYTES_A_ROW = 100
_took: dict[Path, float] = {}
"""Seconds that this process took to write each table last."""


def finished_runs(folder: ResultsFolder) -> dict[str, Run]:
    """The runs that `folder` holds and that need no more training, by id."""
    return {run.run_id: run for run in recorded_runs(folder) if run.status in FINISHED}


def read_run(folder: ResultsFolder, run_id: str) -> Run | None:
    """The row that the run's worker wrote, or None where it has not ended."""
    path = folder.run_folder(run_id) / "run.json"
    stamp = _stamp(path)
    return _row(path, stamp) if stamp else None


def recorded_runs(folder: ResultsFolder) -> list[Run]:
    """Every run known to the folder by size, budget, seed and recipe; those begun and not ended are `running`."""
    return _recorded(folder)[0]


def write_tables(folder: ResultsFolder, *, final: bool = False) -> bool:
    """Bring runs.parquet and curves.parquet up to the folders of the runs, keeping rows whose folder is gone.

    What takes long is not done every time but where it is `final`: until then the folders of the runs have it. Whether
    runs.parquet was written.
    """
    if not (final or _is_due(folder.runs_path, 0.0)):
        return False
    started = time.monotonic()
    for left in folder.path.glob(".*.parquet.*.part"):  # by a process that was killed: this one holds the folder
        left.unlink(missing_ok=True)
    runs, stamps = _recorded(folder)
    noted = json.dumps({run.run_id: stamps[run.run_id] for run in runs if run.run_id in stamps})
    folder.write_runs(runs, {_NOTED.decode(): noted})
    _took[folder.runs_path] = time.monotonic() - started
    if final or _is_due(folder.curves_path, _SECONDS_A_ROW * _rows(folder.curves_path)):
        started = time.monotonic()
        _write_curves(folder, [run.run_id for run in runs])
        _took[folder.curves_path] = time.monotonic() - started
    return True


def write_row(folder: ResultsFolder, row: Run) -> None:
    write_text(folder.run_folder(row.run_id) / "run.json", json.dumps(asdict(row), indent=2) + "\n")


def record_end(folder: ResultsFolder, job: Job, event: Event, device: str) -> None:
    """Write a row for a worker that ended without writing one, killed for its memory, say."""
    path = event.folder / "run.json"
    if event.exit_code in (0, 130) or path.exists():
        return
    code = event.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    log = event.folder / LOG_NAME
    write_row(folder, run_row(job, "failed", device, error=f"{event.message or f'its process {how}'}; see {log}"))


def _recorded(folder: ResultsFolder) -> tuple[list[Run], dict[str, Stamp]]:
    """The rows of all runs in order, and what run.json those that have ended come from.

    One that has not changed since runs.parquet was written is not read: its row is there.
    """
    table = _stamp(folder.runs_path)
    rows, noted = _table(folder.runs_path, table) if table else ({}, {})
    runs, stamps = dict(rows), {}
    for run_id in _run_ids(folder):
        path = folder.path / "runs" / run_id
        stamp = _stamp(path / "run.json")
        if stamp is None or noted.get(run_id) != stamp or run_id not in runs:
            spec = _stamp(path / "spec.json")
            if spec is None:
                continue
            runs[run_id] = _row(path / "run.json", stamp) if stamp else _unfinished(path / "spec.json", spec)
        if stamp:
            stamps[run_id] = stamp
    return sorted(runs.values(), key=_order), stamps


def _order(run: Run) -> tuple[object, ...]:
    return run.params, run.tokens, run.seed, run.recipe or DEFAULT, -run.lr, run.run_id


def _run_ids(folder: ResultsFolder) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder.path / "runs")]
    except FileNotFoundError:
        return []


def _stamp(path: Path) -> Stamp | None:
    """None where there is no such file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{found.st_mtime_ns}-{found.st_size}"


@lru_cache(maxsize=4)
def _table(path: Path, stamp: Stamp) -> tuple[dict[str, Run], dict[str, Stamp]]:
    """The rows of runs.parquet by id, and the run.json that each was made from."""
    try:
        table = pq.read_table(path)
        rows = [row_from_json(Run, row) for row in table.to_pylist()]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{path} is not a table of runs: {error}", f"make it anew from runs/: rm {path}") from error
    noted = json.loads((table.schema.metadata or {}).get(_NOTED, b"{}"))
    return {plain_name(run.run_id): replace(run, recipe=run.recipe or DEFAULT) for run in rows}, noted


@lru_cache(maxsize=1 << 16)
def _row(path: Path, stamp: Stamp) -> Run:
    run: Run = row_from_json(Run, json.loads(path.read_text(encoding="utf-8")))
    plain_name(run.run_id)
    return run


@lru_cache(maxsize=1 << 16)
def _unfinished(path: Path, stamp: Stamp) -> Run:
    spec = json.loads(path.read_text(encoding="utf-8"))
    return run_row(Job.from_json(spec["job"]), "running", spec["device_name"])


def _is_due(path: Path, usually: float) -> bool:
    """Whether a table may be written again: `usually` is what that takes, before this process has done it."""
    if not path.exists():
        return True
    age = time.time() - path.stat().st_mtime
    return not 0 <= age < SHARE * _took.get(path, usually)


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def _write_curves(folder: ResultsFolder, run_ids: list[str]) -> None:
    """Rewrite curves.parquet in the order of `run_ids` where a curve is missing in it or has changed.

    Rows go from the old file and the runs' own into the new one, a row group at a time.
    """
    old = CurveFile(folder.curves_path) if folder.curves_path.exists() else None
    before: dict[str, Stamp | None] = json.loads(old.metadata.get(_NOTED, b"{}")) if old else {}
    there = old.spans if old else {}
    now: dict[str, Stamp | None] = {}
    for run_id in dict.fromkeys([*run_ids, *there]):
        stamp = _stamp(folder.path / "runs" / run_id / "curve.parquet")
        if stamp or run_id in there:
            now[run_id] = stamp or before.get(run_id)
    if old and list(now.items()) == list(before.items()):
        return
    schema = rows_table(CurvePoint, []).schema

    def curves() -> Iterator[pa.Table]:
        for run_id, stamp in now.items():
            if old and run_id in there and (stamp is None or stamp == before.get(run_id)):
                yield _aligned(old.table(run_id), schema)
            else:
                yield _aligned(_read_curve(folder.path / "runs" / run_id / "curve.parquet"), schema)

    noted = schema.with_metadata({_NOTED: json.dumps(now).encode()})
    new_rows = sum(1 for run_id in now if run_id not in there) * 1000 + _rows(folder.curves_path)
    write_groups(folder.curves_path, noted, _groups(curves()), _BYTES_A_ROW * new_rows)


def _groups(curves: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Whole runs together, as many as make a row group."""
    parts: list[pa.Table] = []
    rows = 0
    for curve in curves:
        parts.append(curve)
        rows += curve.num_rows
        if rows >= GROUP_ROWS:
            yield pa.concat_tables(parts)
            parts, rows = [], 0
    if parts:
        yield pa.concat_tables(parts)


def _read_curve(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise WorkError(
            f"{path} cannot be read: {error}", f"train the run again: {command_line('rm', '-r', path.parent)}"
        ) from error


def _aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the columns of `schema`, empty where an older file lacks them."""
    arrays = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
