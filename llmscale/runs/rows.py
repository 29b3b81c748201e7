"""Rows of the table of runs, read from what a run's worker or a sweep has written, and checked."""

import math
from dataclasses import fields
from pathlib import Path

from llmscale.errors import InputError
from llmscale.runs.checked import (
    DamagedFile,
    WrongValue,
    check_count,
    may_be_empty,
    plain_file,
    read_object,
    typed,
)
from llmscale.runs.folder import REMAKE, RUN_COLUMNS, Run, plain_name

STATUSES = ("done", "diverged", "failed", "running", "stopped")
"""What a run can have come to; `stopped` by `tune`, or between two commands."""
_OPTIONAL = {field.name: may_be_empty(field.type) for field in fields(Run)}
_NO_VALUES = {name: None for name, optional in _OPTIONAL.items() if optional}


def read_row(path: Path) -> Run:
    """The row in a run's `run.json`. Raises DamagedFile, also for another run's; FileNotFoundError.

    In old files fields that may be empty may be missing.
    """
    try:
        row: Run = typed(Run, read_object(path))
        _check_row(row)
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    if row.run_id != path.parent.name:
        raise DamagedFile(path, f"it is of run {row.run_id}")
    return row


def read_rows(path: Path) -> tuple[dict[str, Run], dict[str, str]]:
    """The rows of a `runs.parquet` by id, and what is noted in the file.

    Raises DamagedFile; FileNotFoundError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # pyarrow's shorter ways to read a table load pandas.
        table = pq.ParquetFile(plain_file(path), page_checksum_verification=True).read()
        columns = {}
        for name, kind in RUN_COLUMNS.items():
            optional = _OPTIONAL[name]
            if name in table.column_names:
                columns[name] = table[name].cast(kind)
            elif not optional:
                raise WrongValue(f"it has no column {name}")
            if not optional and columns[name].null_count:
                raise WrongValue(f"{columns[name].null_count} rows have no {name}")
        rows = [Run(**{**_NO_VALUES, **row}) for row in pa.table(columns).to_pylist()]
        for row in rows:
            _check_row(row)
            plain_name(row.run_id)
        noted = {
            key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
        }
    except (FileNotFoundError, DamagedFile):
        raise
    except (OSError, ValueError, InputError, pa.ArrowException) as error:
        reason = error.problem if isinstance(error, InputError) else str(error)
        raise DamagedFile(path, reason, REMAKE) from error
    return {row.run_id: row for row in rows}, noted


def _check_row(row: Run) -> None:
    """Raise WrongValue where a row cannot be one: others divide by its counts."""
    if row.status not in STATUSES:
        raise WrongValue(f"status is {row.status!r}")
    for name in ("params", "tokens", "steps", "context"):
        check_count(getattr(row, name), name)
    if not 0 < row.flops < math.inf:
        raise WrongValue(f"flops is {row.flops}")
    if row.seconds is not None and not 0 <= row.seconds < math.inf:
        raise WrongValue(f"seconds is {row.seconds}")
