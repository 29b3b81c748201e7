"""The records of a sweep: one row a run, from the folders of the runs to the two tables.

Each table notes which file of which run it was made from, by time and size: only what has changed
since is read again. A run whose folder is gone keeps its rows."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmscale.measure.executors import Event
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.run_spec import read_spec
from llmscale.runs.checked import REMAKE, DamagedFile, check
from llmscale.runs.columns import rows_table
from llmscale.runs.curve_file import GROUP_ROWS, CurveFile
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.rows import read_rows
from llmscale.runs.run import DEFAULT_RECIPE, FINISHED, CurvePoint, Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_paths import is_plain
from llmscale.runs.safe_write import write_groups
from llmscale.runs.unchanged import Stamp, stamp_of

SHARE = 20
"""A table is rewritten no sooner than so many times later as its last rewriting took: 5% of the
time at most.
"""

_NOTED = "made_from"
_SECONDS_A_ROW = 1e-6
"""Of rewriting curves.parquet, before this process has done it."""
_BYTES_A_ROW = 100
_FROM_TABLE = "its row is taken from runs.parquet"
_AGAIN = "the run is trained again"
_FROM_COMMAND = "the command that began the run writes it anew; others leave the run out"
_took: dict[Path, float] = {}
"""Seconds that this process took to write each table last."""


def finished_runs(folder: ResultsFolder) -> dict[str, Run]:
    """The runs that `folder` holds and that need no more training, by id."""
    return {run.run_id: run for run in recorded_runs(folder) if run.status in FINISHED}


def read_run(folder: ResultsFolder, run_id: str) -> Run | None:
    """The row that the run's worker wrote, or None where it has not ended, or where its row is
    damaged.
    """
    return folder.run_folder(run_id).known_row()


def recorded_runs(folder: ResultsFolder) -> list[Run]:
    """Every run known to the folder by size, budget, seed and recipe; those begun and not ended are
    `running`.
    """
    return _recorded(folder).runs


def known_ids(folder: ResultsFolder) -> set[str]:
    """The ids of the runs that the folder holds anything of."""
    named = {run.run_id for run in folder.run_folders}
    return named | {run.run_id for run in recorded_runs(folder)}


def find_damage(folder: ResultsFolder) -> list[DamagedFile]:
    """The files of the records that are damaged, each with what becomes of it as the sweep's
    command goes on.
    """
    found = list(_recorded(folder).damaged)
    before: dict[str, Stamp | None] = {}
    if folder.curves_path.exists():
        try:
            before = _curves_before(folder.curves_path, every_page=True).stamps
        except DamagedFile as error:
            found.append(error)
    for run in folder.run_folders:
        stamp = stamp_of(run.curve_path)
        damage = _damage_of_curve(run) if stamp and stamp != before.get(run.run_id) else None
        if damage:
            found.append(damage)
    return found


def mend_rows(folder: ResultsFolder) -> None:
    """Write each damaged run.json anew whose row the table has; remove the others: their runs are
    trained again.

    For the one that holds the folder.
    """
    recorded = _recorded(folder)
    rows = {run.run_id: run for run in recorded.runs}
    for damage in recorded.damaged:
        if damage.path.name != "run.json":
            continue
        row = rows.get(damage.path.parent.name)
        if row is not None and row.status in FINISHED:
            folder.run_folder(row.run_id).write_row(row)
        else:
            damage.path.unlink(missing_ok=True)


def write_tables(folder: ResultsFolder, *, final: bool = False) -> bool:
    """Bring runs.parquet and curves.parquet up to the folders of the runs, keeping rows whose
    folder is gone.

    What takes long is not done every time but where it is `final`: until then the folders of the
    runs have it. Whether runs.parquet was written."""
    if not (final or _is_due(folder.runs_path, 0.0)):
        return False
    started = time.monotonic()
    for left in folder.path.glob(
        ".*.parquet.*.part"
    ):  # by a process that was killed: this one holds the folder
        left.unlink(missing_ok=True)
    recorded = _recorded(folder)
    runs, stamps = recorded.runs, recorded.stamps
    if any(damage.path == folder.runs_path for damage in recorded.damaged):
        keep_aside(folder.runs_path)
    noted = json.dumps({run.run_id: stamps[run.run_id] for run in runs if run.run_id in stamps})
    folder.write_runs(runs, {_NOTED: noted})
    _took[folder.runs_path] = time.monotonic() - started
    if final or _is_due(folder.curves_path, _SECONDS_A_ROW * _rows(folder.curves_path)):
        started = time.monotonic()
        _write_curves(folder, [run.run_id for run in runs], every_page=final)
        _took[folder.curves_path] = time.monotonic() - started
    return True


def record_end(job: Job, event: Event, device: str) -> None:
    """Write a row for a worker that ended without writing one, killed for its memory, say."""
    run = RunFolder(event.folder)
    if event.exit_code in (0, 130) or run.has_ended:
        return
    code = event.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    error = f"{event.message or f'its process {how}'}; see {run.log_path}"
    run.write_row(run_row(job, "failed", device, error=error))


@dataclass(frozen=True)
class _Recorded:
    """The rows of all runs in order, what run.json those that have ended come from, and what could
    not be read.
    """

    runs: list[Run]
    stamps: dict[str, Stamp]
    damaged: list[DamagedFile]


def _recorded(folder: ResultsFolder) -> _Recorded:
    """A run.json that has not changed since runs.parquet was written is not read: its row is there.

    Where a run's own row is damaged, that of the table is taken; without one the run is `running`.
    """
    rows: dict[str, Run] = {}
    noted: dict[str, Stamp] = {}
    damaged: list[DamagedFile] = []
    try:
        rows, notes = read_rows(folder.runs_path)
        noted = _stamps(notes, folder.runs_path)
    except FileNotFoundError:
        pass
    except DamagedFile as error:
        damaged.append(error)
    runs, stamps = dict(rows), {}
    for run in folder.run_folders:
        run_id = run.run_id
        stamp = stamp_of(run.row_path)
        if stamp is None or noted.get(run_id) != stamp or run_id not in runs:
            row = None
            try:
                row = run.read_row() if stamp else None
            except DamagedFile as error:
                kept = run_id in rows and rows[run_id].status in FINISHED
                damaged.append(_said(error, _FROM_TABLE if kept else _AGAIN))
                stamp = None
                if kept:
                    continue
            try:
                row = row or _unfinished(run)
            except DamagedFile as error:
                damaged.append(_said(error, _FROM_COMMAND))
            if row is not None:
                runs[run_id] = row
        if stamp:
            stamps[run_id] = stamp
    return _Recorded(sorted(runs.values(), key=_order), stamps, damaged)


def _said(damage: DamagedFile, fix: str) -> DamagedFile:
    return DamagedFile(damage.path, damage.reason, fix)


def keep_aside(path: Path) -> None:
    """Rename a damaged table, which is made anew from the folders of the runs: a row whose folder
    is gone is in it.
    """
    path.replace(path.with_name(f"{path.name}.damaged"))


def _order(run: Run) -> tuple[object, ...]:
    return run.params, run.tokens, run.seed, run.recipe or DEFAULT_RECIPE, -run.lr, run.run_id


def _stamps(noted: dict[str, str], path: Path) -> dict[str, Any]:
    """What a table notes of the files that it was made from. Raises DamagedFile."""
    try:
        stamps: dict[str, Any] = json.loads(noted.get(_NOTED, "{}"))
        check(stamps, dict, _NOTED)
    except ValueError as error:
        raise DamagedFile(path, f"its notes are torn: {error}", REMAKE) from error
    return stamps


def _unfinished(run: RunFolder) -> Run | None:
    """The row of a run that has begun and not ended. Raises DamagedFile."""
    try:
        spec = read_spec(run)
    except FileNotFoundError:
        return None
    return run_row(spec.job, "running", spec.device_name or "")


def _is_due(path: Path, usually: float) -> bool:
    """Whether a table may be written again: `usually` is what that takes, before this process has
    done it.
    """
    if not path.exists():
        return True
    age = time.time() - path.stat().st_mtime
    return not 0 <= age < SHARE * _took.get(path, usually)


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def _write_curves(folder: ResultsFolder, run_ids: list[str], every_page: bool) -> None:
    """Rewrite curves.parquet in the order of `run_ids` where a curve is missing in it or has
    changed.

    Rows go from the old file and the runs' own into the new one, a row group at a time. A damaged
    file is kept aside."""
    try:
        old = (
            _curves_before(folder.curves_path, every_page) if folder.curves_path.exists() else None
        )
        _rewrite_curves(folder, run_ids, old)
    except DamagedFile as error:
        if error.path != folder.curves_path:
            raise
        keep_aside(folder.curves_path)
        _rewrite_curves(folder, run_ids, None)


@dataclass(frozen=True)
class _Curves:
    """A curves.parquet, and which run's file each of its curves was made from."""

    file: CurveFile
    stamps: dict[str, Stamp | None]


def _curves_before(path: Path, every_page: bool) -> _Curves:
    """Raises DamagedFile where what is read is damaged: every page, or those of the runs' ids."""
    file = CurveFile(path)
    try:
        noted = {key.decode(): value.decode() for key, value in file.metadata.items()}
        _ = file.spans
        if every_page:
            file.check()
    except (ValueError, KeyError) as error:
        raise DamagedFile(path, str(error), REMAKE) from error
    return _Curves(file, _stamps(noted, path))


def _rewrite_curves(folder: ResultsFolder, run_ids: list[str], old: _Curves | None) -> None:
    before, there = (old.stamps, old.file.spans) if old else ({}, {})
    now: dict[str, Stamp | None] = {}
    for run_id in dict.fromkeys([*run_ids, *there]):
        run = folder.run_folder(run_id) if is_plain(run_id) else None
        stamp = stamp_of(run.curve_path) if run else None
        if run and stamp and stamp != before.get(run_id) and _damage_of_curve(run):
            stamp = None  # as find_damage says to the next command
        if stamp or run_id in there:
            now[run_id] = stamp or before.get(run_id)
    if old and list(now.items()) == list(before.items()):
        return
    schema = rows_table(CurvePoint, []).schema

    def curves() -> Iterator[pa.Table]:
        for run_id, stamp in now.items():
            if old and run_id in there and (stamp is None or stamp == before.get(run_id)):
                yield aligned(old.file.table(run_id), schema, folder.curves_path)
            else:
                run = folder.run_folder(run_id)
                yield aligned(run.read_curve(), schema, run.curve_path)

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


def _damage_of_curve(run: RunFolder) -> DamagedFile | None:
    try:
        aligned(run.read_curve(), rows_table(CurvePoint, []).schema, run.curve_path)
    except DamagedFile as error:
        return error
    return None


def aligned(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """`table` with the columns of `schema`, empty where an older file lacks them.

    Raises DamagedFile.
    """
    try:
        arrays = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in schema
        ]
    except pa.ArrowException as error:
        raise DamagedFile(path, str(error), REMAKE) from error
    return pa.table(arrays, schema=schema)
