"""The table of runs that laws are fitted to: a results folder, a file, a stream or a frame, checked.

>>> import pandas as pd
>>> runs = pd.DataFrame({"N": ["125M", "1.3B"], "D": [2.5, 26], "ppl": [24.1, 12.4]})
>>> table = read_table(runs, columns={"loss": "ppl"}, units={"tokens": "B", "loss": "perplexity"})
>>> print(table)
2 runs from <table>
>>> table.frame[["params", "tokens", "loss"]].round(3).to_numpy().tolist()
[[125000000.0, 2500000000.0, 3.182], [1300000000.0, 26000000000.0, 2.518]]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from llmscale.errors import InputError, Note, listed
from llmscale.table import _retries, _where
from llmscale.table._columns import ALIASES, COUNTS, find_columns, nearest, resolve
from llmscale.table._files import read_source
from llmscale.table._nested import refuse_chart, run_name_column, state_column
from llmscale.table._pairs import parse_columns
from llmscale.table._quantities import check_positive, with_quantities
from llmscale.table._units import known_units, parse_units

__all__ = ["ALIASES", "COUNTS", "Excluded", "RunTable", "groups", "parse_columns", "parse_units", "read_table"]

NO_VALUE = "(none)"
"""The group of runs whose column is empty."""

_DONE = ("done", "finished")


@dataclass(frozen=True)
class Excluded:
    """A run left out of every fit, and why; `values` are its row, as far as the source gives one."""

    run_id: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class RunTable:
    """Usable runs: float64 columns `params`, `tokens`, `flops`, `loss`, text `run_id`, and the source's others.

    `params` holds the count asked for (`count`), `loss` is in nats per token. `params`, `tokens` and `flops` are NaN
    where the source does not give them; `path` is `<stdin>` or `<table>` for a stream or a frame.
    """

    path: Path
    frame: pd.DataFrame
    excluded: tuple[Excluded, ...]
    notes: tuple[Note, ...]
    count: str

    def __str__(self) -> str:
        left_out = f", {len(self.excluded)} left out" if self.excluded else ""
        runs = "run" if len(self.frame) == 1 else "runs"
        return f"{len(self.frame)} {runs} from {self.path}{left_out}"

    def select(self, mask: ArrayLike) -> "RunTable":
        """The runs where `mask` (one truth a run) is true, with the same notes and runs left out."""
        return replace(self, frame=self.frame.loc[np.asarray(mask, dtype=bool)].reset_index(drop=True))


def read_table(
    source: Path | str | pd.DataFrame | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    count: str = "params",
    units: Mapping[str, str] | str | None = None,
    where: str | Sequence[str] = (),
) -> RunTable:
    """The usable runs of a results folder, a file, standard input (`-`) or a frame; None reads the newest sweep.

    `columns` names the source's column for a quantity, or for any other input of a law: {"params": "X"}. `units`
    says what the source counts in: {"params": "M", "flops": "PFdays", "loss": "bits"}. `where` keeps the runs that
    meet every filter, such as "flops < 1e20 and data == c4", in the table's own names and units. Raises InputError
    for anything that cannot be read as runs, naming the column and the rows.
    """
    if count not in COUNTS:
        raise InputError(f"there is no count {count!r}", f"use one of {', '.join(COUNTS)}{nearest(count, COUNTS)}")
    unit_of = parse_units(units) if units is None or isinstance(units, str) else known_units(units)
    filters = (where,) if isinstance(where, str) else tuple(where)
    for text in filters:
        _where.parse_where(text)
    path, raw, notes = read_source(source)
    refuse_chart(raw, path)
    state = None if "status" in raw.columns else state_column(raw)
    nested = state is not None or any(name.startswith(("config.", "summary.")) for name in raw.columns)
    found = find_columns(raw, path, dict(columns or {}), count, nested=nested)
    run_ids = _run_ids(raw, found.get("run_id") or (run_name_column(raw) if nested else None))
    frame, more = with_quantities(raw, found, unit_of, path)
    frame["run_id"] = run_ids

    usable, reasons = _usable(raw, state)
    again = _retries.superseded(raw, run_ids, usable)
    usable, reasons = usable & ~again, np.where(again, _retries.SUPERSEDED, reasons)
    if not usable.any():
        there = listed(list(dict.fromkeys(reasons)))
        what = "no rows" if raw.empty else f"no finished runs among its {len(raw)} rows ({there})"
        raise InputError(f"{path} has {what}", "measure some: llmscale sweep --sizes 1M,10M,100M")
    kept = _where.keep(frame, filters)
    left = usable & kept
    if not left.any():
        there = listed(list(dict.fromkeys(reasons[kept])))
        raise InputError(
            f"no finished run is left by --where {' and '.join(filters)!r} ({there})", "let more runs through"
        )
    for name in ALIASES:
        if name in found:
            check_positive(frame[name], raw[found[name]], left, run_ids, path, unit_of.get(name))
    more += _filtered(filters, int(left.sum()), int(usable.sum()))
    more += _repeated(run_ids[left])
    more += _retries.notes(frame[left])
    out = np.flatnonzero(kept & ~usable)
    rows = frame.iloc[out].to_dict("records")
    excluded = tuple(Excluded(row["run_id"], reason, row) for row, reason in zip(rows, reasons[out], strict=True))
    first = ["run_id", *ALIASES]
    frame = frame.loc[left, first + [name for name in frame.columns if name not in first]].reset_index(drop=True)
    return RunTable(path, frame, excluded, (*notes, *more), count)


def groups(table: RunTable, column: str) -> dict[str, RunTable]:
    """A table for every value of a column, in order of first appearance; runs without one are `(none)`.

    Every run left out goes with its group; a group of which no run is usable has no table. Raises InputError for an
    unknown column.
    """
    name = resolve(column, table.frame)
    keys = np.array([_group_of(value) for value in table.frame[name]], dtype=object)
    parts = {}
    for key in dict.fromkeys(keys):
        excluded = tuple(run for run in table.excluded if _group_of(run.values.get(name)) == key)
        parts[str(key)] = replace(table.select(keys == key), excluded=excluded)
    return parts


def _run_ids(raw: pd.DataFrame, column: str | None) -> pd.Series:
    """The source's run ids, or `row 1`, `row 2`, ... counted below the header."""
    rows = pd.Series([f"row {number}" for number in range(1, len(raw) + 1)], index=raw.index, dtype=object)
    if column is None:
        return rows
    given = raw[column]
    return given.astype(object).where(given.notna(), rows).astype(str).astype(object)


def _usable(raw: pd.DataFrame, state: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Which runs are finished, and the status of each."""
    column = "status" if "status" in raw.columns else state
    if column is None:
        return np.ones(len(raw), dtype=bool), np.full(len(raw), "done", dtype=object)
    status = raw[column].astype(object).where(raw[column].notna(), "no status").astype(str).to_numpy(dtype=object)
    return np.array([one.lower() in _DONE for one in status], dtype=bool), status


def _filtered(filters: Sequence[str], left: int, usable: int) -> list[Note]:
    if not filters:
        return []
    runs = "run" if usable == 1 else "runs"
    return [Note("filtered", f"{left} of {usable} {runs} remain after --where {' and '.join(filters)!r}")]


def _repeated(run_ids: pd.Series) -> list[Note]:
    repeated = list(dict.fromkeys(run_ids[run_ids.duplicated()]))
    if not repeated:
        return []
    verb = "stands" if len(repeated) == 1 else "stand"
    return [
        Note("run-id-repeated", f"{listed(repeated)} {verb} in more than one row: each row counts as a run of its own")
    ]


def _group_of(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return NO_VALUE
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < 1e15:
        return str(int(value))
    return str(value)
