"""`curves.parquet`: the curves of all runs, gathered from their folders.

It notes which file of which run it was made from, by time and size: a curve is read again only if
it has changed since, and one whose run has no folder any more is kept."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmscale.runs.checked import REMAKE, DamagedFile, check
from llmscale.runs.columns import rows_table
from llmscale.runs.curve_file import GROUP_ROWS, CurveFile
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_paths import is_plain
from llmscale.runs.safe_write import write_groups
from llmscale.runs.unchanged import Stamp, stamp_of

NOTED = "made_from"
"""What a table calls its note of the files that it was made from."""
_BYTES_A_ROW = 100
_ROWS_OF_A_CURVE = 1000
"""More than a curve has, to say how much room is needed."""


def write_curves(folder: ResultsFolder, run_ids: list[str], every_page: bool) -> None:
    """Rewrite curves.parquet in the order of `run_ids` if a curve is missing in it or has changed.

    Rows go from the old file and the runs' own into the new one, a row group at a time. A damaged
    file is kept aside: `every_page` has all of it looked at."""
    old = None
    try:
        if folder.curves_path.exists():
            old = _curves_before(folder.curves_path, every_page)
        _rewrite(folder, run_ids, old)
    except DamagedFile as error:
        if error.path != folder.curves_path:
            raise
        keep_aside(folder.curves_path)
        _rewrite(folder, run_ids, None)


def damaged_curves(folder: ResultsFolder) -> list[DamagedFile]:
    """curves.parquet and the curves of runs that are not in it yet, as far as they are damaged."""
    found = []
    before: dict[str, Stamp | None] = {}
    if folder.curves_path.exists():
        try:
            before = _curves_before(folder.curves_path, every_page=True).stamps
        except DamagedFile as error:
            found.append(error)
    for run in folder.run_folders:
        stamp = stamp_of(run.curve_path)
        is_news = stamp is not None and stamp != before.get(run.run_id)
        damage = _damage_of(run) if is_news else None
        if damage:
            found.append(damage)
    return found


def curve_rows(path: Path) -> int:
    """How many rows a curves.parquet has; 0 if that cannot be read."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def stamps_noted(noted: dict[str, str], path: Path) -> dict[str, Any]:
    """What a table notes of the files that it was made from. Raises DamagedFile."""
    try:
        stamps: dict[str, Any] = json.loads(noted.get(NOTED, "{}"))
        check(stamps, dict, NOTED)
    except ValueError as error:
        raise DamagedFile(path, f"its notes are torn: {error}", REMAKE) from error
    return stamps


def keep_aside(path: Path) -> None:
    """Rename a damaged table: it may have the rows of runs whose folder is gone."""
    path.replace(path.with_name(f"{path.name}.damaged"))


@dataclass(frozen=True)
class _Curves:
    """A curves.parquet, and which run's file each of its curves was made from."""

    file: CurveFile
    stamps: dict[str, Stamp | None]


def _curves_before(path: Path, every_page: bool) -> _Curves:
    """Raises DamagedFile if what is read is damaged: every page, or those of the runs' ids."""
    file = CurveFile(path)
    try:
        noted = {key.decode(): value.decode() for key, value in file.metadata.items()}
        _ = file.spans
        if every_page:
            file.check()
    except (ValueError, KeyError) as error:
        raise DamagedFile(path, str(error), REMAKE) from error
    return _Curves(file, stamps_noted(noted, path))


def _rewrite(folder: ResultsFolder, run_ids: list[str], old: _Curves | None) -> None:
    before, there = (old.stamps, old.file.spans) if old else ({}, {})
    now: dict[str, Stamp | None] = {}
    for run_id in dict.fromkeys([*run_ids, *there]):
        stamp = _new_stamp(folder, run_id, before.get(run_id))
        if stamp or run_id in there:
            now[run_id] = stamp or before.get(run_id)
    if old and list(now.items()) == list(before.items()):
        return
    schema = rows_table(CurvePoint, []).schema

    def curves() -> Iterator[pa.Table]:
        for run_id, stamp in now.items():
            has_changed = stamp is not None and stamp != before.get(run_id)
            if old and run_id in there and not has_changed:
                yield _aligned(old.file.table(run_id), schema, folder.curves_path)
            else:
                run = folder.run_folder(run_id)
                yield _aligned(run.read_curve(), schema, run.curve_path)

    noted = schema.with_metadata({NOTED: json.dumps(now).encode()})
    new_rows = _ROWS_OF_A_CURVE * len([run_id for run_id in now if run_id not in there])
    most_bytes = _BYTES_A_ROW * (new_rows + curve_rows(folder.curves_path))
    write_groups(folder.curves_path, noted, _groups(curves()), most_bytes)


def _new_stamp(folder: ResultsFolder, run_id: str, before: Stamp | None) -> Stamp | None:
    """That of a run's own curve; None if it has none, or if what is new is damaged."""
    if not is_plain(run_id):
        return None
    run = folder.run_folder(run_id)
    stamp = stamp_of(run.curve_path)
    if stamp is None or stamp == before:
        return stamp
    return None if _damage_of(run) else stamp  # as damaged_curves says to the next command


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


def _damage_of(run: RunFolder) -> DamagedFile | None:
    try:
        _aligned(run.read_curve(), rows_table(CurvePoint, []).schema, run.curve_path)
    except DamagedFile as error:
        return error
    return None


def _aligned(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """`table` with the columns of `schema`, empty if it lacks them. Raises DamagedFile."""
    arrays = []
    try:
        for field in schema:
            there = field.name in table.column_names
            nothing = pa.nulls(len(table), field.type)
            arrays.append(table[field.name].cast(field.type) if there else nothing)
    except pa.ArrowException as error:
        raise DamagedFile(path, str(error), REMAKE) from error
    return pa.table(arrays, schema=schema)
