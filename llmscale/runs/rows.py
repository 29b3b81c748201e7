"""Rows of the table of runs, read from what a run's worker or a sweep has written, and checked."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmscale.errors import InputError
from llmscale.runs.checked import (
    REMAKE,
    DamagedFile,
    WrongValue,
    check_count,
    plain_file,
    read_object,
    reading,
    typed,
)
from llmscale.runs.columns import columns_of
from llmscale.runs.run import DEFAULT_RECIPE, STATUSES, Run
from llmscale.runs.safe_paths import plain_name
from llmscale.runs.unchanged import once_while_unchanged

if TYPE_CHECKING:
    import pyarrow as pa

REPEATED = "ids in more than one row"
"""What read_rows notes itself."""


@once_while_unchanged()
def read_row(path: Path) -> Run:
    """The row in a run's `run.json`. Raises DamagedFile, also for another run's; FileNotFoundError.
    In old files fields that may be empty may be missing."""
    try:
        row = _checked(typed(Run, read_object(path)))
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    if row.run_id != path.parent.name:
        raise DamagedFile(path, f"it is of run {row.run_id}")
    return row


@once_while_unchanged(kept=4)
def read_rows(path: Path) -> tuple[dict[str, Run], dict[str, str]]:
    """A `runs.parquet`: rows by id, and what it notes. Raises DamagedFile; FileNotFoundError."""
    import pyarrow.parquet as pq

    with reading(path):
        # pyarrow's shorter ways to read a table load pandas.
        table = pq.ParquetFile(plain_file(path), page_checksum_verification=True).read()
        rows = [_checked(Run(**values)) for values in _known_columns(table).to_pylist()]
        noted = table.schema.metadata or {}
        notes = {key.decode(): value.decode() for key, value in noted.items()}
        counts = Counter(row.run_id for row in rows)
        notes[REPEATED] = ", ".join(run_id for run_id, count in counts.items() if count > 1)
    try:
        return {plain_name(row.run_id): row for row in rows}, notes
    except InputError as error:
        raise DamagedFile(path, error.problem, REMAKE) from error


def _known_columns(table: "pa.Table") -> "pa.Table":
    """Of a table of any version, the columns that are known here, each of its type."""
    import pyarrow as pa

    columns = {}
    for column in columns_of(Run):
        if column.name in table.column_names:
            columns[column.name] = table[column.name].cast(column.kind)
        elif not column.may_be_empty:
            raise WrongValue(f"it has no column {column.name}")
        if not column.may_be_empty and columns[column.name].null_count:
            raise WrongValue(f"{columns[column.name].null_count} rows have no {column.name}")
    return pa.table(columns)


def _checked(row: Run) -> Run:
    """Raise WrongValue if a row cannot be one: others divide by its counts."""
    if row.status not in STATUSES:
        raise WrongValue(f"status is {row.status!r}")
    for name in ("params", "tokens", "steps", "context"):
        check_count(getattr(row, name), name)
    if not 0 < row.flops < math.inf:
        raise WrongValue(f"flops is {row.flops}")
    if row.seconds is not None and not 0 <= row.seconds < math.inf:
        raise WrongValue(f"seconds is {row.seconds}")
    return row if row.recipe else replace(row, recipe=DEFAULT_RECIPE)
