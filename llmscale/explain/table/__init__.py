"""The table of runs that laws are fitted to: a results folder, a file, a stream or a frame,
checked.

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

from llmscale.errors import InputError, Note, first_lines, listed
from llmscale.errors.command_lines import command_line
from llmscale.errors.printable import shortened
from llmscale.explain import html
from llmscale.explain.table import _plausible, _retries, _where
from llmscale.explain.table._columns import (
    ALIASES,
    COUNTS,
    Found,
    find_columns,
    nearest,
    quantity_of,
    resolve,
)
from llmscale.explain.table._cut_short import cut_short, passes
from llmscale.explain.table._files import read_source
from llmscale.explain.table._identity import STEP_TWICE, identify
from llmscale.explain.table._losses import mixed_splits
from llmscale.explain.table._nested import refuse_chart, state_column
from llmscale.explain.table._pairs import parse_columns
from llmscale.explain.table._quantities import check_positive, with_quantities
from llmscale.explain.table._reading import describe
from llmscale.explain.table._spelled_out import with_spelled_out
from llmscale.explain.table._status import parse_status, status_option, statuses
from llmscale.explain.table._taken import Taken
from llmscale.explain.table._units import known_units, parse_units
from llmscale.notes.reading import FILTERED
from llmscale.runs.folder import REMAKE, ResultsFolder
from llmscale.runs.title import run_title

__all__ = [
    "ALIASES",
    "COUNTS",
    "Excluded",
    "RunTable",
    "groups",
    "parse_columns",
    "parse_units",
    "read_table",
]

_MOST_NATS = 1e6
"""A finished run of our own has a loss far below this: more is a damaged value."""
_NO_LOSS = "no positive finite loss"

_LEFT_OUT = 5
"""Runs left out that a notebook names."""

NO_VALUE = "(none)"
"""The group of runs whose column is empty."""


@dataclass(frozen=True)
class Excluded:
    """A run left out of every fit, and why; `values` are its row, as far as the source gives
    one.
    """

    run_id: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def title(self) -> str:
        """How people name it: its size and tokens if its id says nothing."""
        return run_title(self.run_id, self.values)


@dataclass(frozen=True)
class RunTable:
    """Usable runs: float64 columns `params`, `tokens`, `flops`, `loss`, text `run_id`, and the
    source's others.

    `params` holds the count asked for (`count`), `loss` is in nats per token. `params`, `tokens`
    and `flops` are NaN where the source does not give them; `path` is `<stdin>` or `<table>` for a
    stream or a frame. `columns` is the source's column of every quantity that was found in it, and
    `reading` says so in a sentence."""

    path: Path
    frame: pd.DataFrame
    excluded: tuple[Excluded, ...]
    notes: tuple[Note, ...]
    count: str
    columns: Mapping[str, str] = field(default_factory=dict)
    reading: str = ""
    asked: tuple[str, ...] = ()
    """The options by which a command read it, to be given again."""

    @property
    def runs(self) -> int:
        """How many runs the rows are of: fewer than rows if these are checkpoints."""
        return int(self.frame["run_id"].nunique())

    @property
    def size(self) -> str:
        """`24 runs`, or `240 rows of 6 runs`."""
        runs = f"{self.runs} run" if self.runs == 1 else f"{self.runs} runs"
        return runs if self.runs == len(self.frame) else f"{len(self.frame)} rows of {runs}"

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        left_out = f", {len(self.excluded)} left out" if self.excluded else ""
        return f"{self.size} from {self.path}{left_out}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first runs, what became of columns, and what was left out."""
        first = ["run_id", *ALIASES]
        more = [name for name in self.columns if name in self.frame and name not in first]
        shown = self.frame[first + more]
        rows = [tuple(map(_shown, row)) for row in shown.head(html.MOST_ROWS).values]
        left_out = [f"left out: {run.title} ({run.reason})" for run in self.excluded[:_LEFT_OUT]]
        more_rows = len(shown) - len(rows)
        more_out = len(self.excluded) - _LEFT_OUT
        if more_out > 0:
            left_out.append(f"and {more_out} more left out")
        parts = [
            html.title(self.size, f"from {self.path}"),
            html.sentence(self.reading) if self.reading else "",
            html.table(list(shown.columns), rows),
            html.sentence(f"and {more_rows} more rows") if more_rows > 0 else "",
            *map(html.sentence, left_out),
            html.notes(self.notes),
        ]
        return "".join(parts)

    def command(self, verb: str, *options: object) -> str:
        """`llmscale VERB TABLE OPTIONS`, to paste; a stream or a frame has to be put into a file
        first.
        """
        place = self.path if self.path.exists() else "FILE"
        return command_line("llmscale", verb, place, *self.asked, *options)

    def select(self, mask: ArrayLike) -> "RunTable":
        """The runs where `mask` (one truth a run) is true, with the same notes and runs left
        out.
        """
        return replace(
            self, frame=self.frame.loc[np.asarray(mask, dtype=bool)].reset_index(drop=True)
        )


def read_table(
    source: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    count: str = "params",
    units: Mapping[str, str] | str | None = None,
    where: str | Sequence[str] | None = (),
    status: str | Sequence[str] | None = None,
    needs: Sequence[str] = (),
) -> RunTable:
    """The usable runs of a results folder, a file, a URL, standard input (`-`), a table of pandas,
    polars, pyarrow or anything that speaks Arrow, or a dict of columns; None reads the newest
    sweep.

    `columns` names the source's column for a quantity, or for any other input of a law: {"params":
    "X"}. `units` says what the source counts in: {"params": "M", "flops": "PFdays", "loss":
    "bits"}. `where` keeps the runs that meet every filter, such as "flops < 1e20 and data == c4",
    in the table's own names and units. `status` are the words of finished runs, such as
    "done=finished,crashed". `needs` are columns that a law takes by their own names. Raises
    InputError for anything that cannot be read as runs, naming the column and the rows, and for
    numbers that cannot be what they were taken for."""
    if count not in COUNTS:
        raise InputError(
            f"there is no count {count!r}",
            f"use one of {', '.join(COUNTS)}{nearest(str(count), COUNTS)}",
        )
    columns = _columns_told(columns)
    unit_of = parse_units(units) if units is None or isinstance(units, str) else known_units(units)
    if not (status is None or isinstance(status, (str, Sequence))):
        raise InputError(
            f"status is {status!r:.40}, which is no text", 'write it like "done=finished"'
        )
    done = parse_status(status)
    filters = _filters(where)
    for text in filters:
        _where.parse_where(text)
    path, raw, notes = read_source(source)
    refuse_chart(raw, path)
    state = None if "status" in raw.columns else state_column(raw)
    nested = state is not None or any(
        name.startswith(("config.", "summary.")) for name in raw.columns
    )
    told = dict(columns)
    own = _is_own(raw, path) and "loss" not in map(quantity_of, told)
    if own:
        if "loss" not in raw.columns:
            raise InputError(f"{ResultsFolder(path).runs_path} has no column 'loss'", REMAKE)
        told["loss"] = "loss"  # never the training loss next to it
    found = find_columns(raw, path, told, count, unit_of, needs, nested=nested)
    raw, found, spelled = with_spelled_out(raw, found, needs, path, unit_of)
    frame, more = with_quantities(raw, found.columns, unit_of, path, found.units)

    judged = statuses(raw, path, done)
    usable, reasons = judged.usable, judged.reasons
    if own and "loss" not in unit_of:
        loss = frame["loss"].to_numpy()
        lost = usable & ~((loss > 0) & (loss < _MOST_NATS))
        usable, reasons = usable & ~lost, np.where(lost, _NO_LOSS, reasons)
    identity = identify(raw, frame, found.columns, found.told, usable)
    run_ids = identity.run_ids
    frame["run_id"] = run_ids
    for again, why in (
        (_retries.superseded(raw, run_ids, usable), _retries.SUPERSEDED),
        (identity.repeated, STEP_TWICE),
    ):
        usable, reasons = usable & ~again, np.where(again, why, reasons)
    if not usable.any():
        there = listed(list(dict.fromkeys(reasons)))
        what = "no rows" if raw.empty else f"no finished runs among its {len(raw)} rows ({there})"
        reason = "" if raw.empty else str(reasons[0])
        raise InputError(f"{path} has {what}", _none_done(raw, path, reason, judged.columns))
    kept = _where.keep(frame, filters)
    left = usable & kept
    if not left.any():
        there = listed(list(dict.fromkeys(reasons[kept])))
        raise InputError(
            f"no finished run is left by --where {_where.short_filter(' and '.join(filters))} "
            f"({there})",
            "let more runs through",
        )
    named = _row_names(raw, run_ids)
    for name in ALIASES:
        if name in found.columns:
            unit = unit_of.get(name, found.units.get(name))
            check_positive(frame[name], raw[found.columns[name]], left, named, path, unit)
    # A sweep of our own writes what it counted; only what others wrote is doubted.
    more += [*spelled, *found.notes, *judged.notes, *identity.notes]
    if not path.is_dir():
        more += _doubts(frame[left], found, unit_of, named[left], path)
        more += [
            *cut_short(raw, frame, found.columns, left, named),
            *passes(raw, found.columns),
            *mixed_splits(raw[left]),
        ]
    more += _filtered(filters, int(left.sum()), int(usable.sum()))
    more += _retries.notes(frame[left])
    out = np.flatnonzero(kept & ~usable)
    rows = frame.iloc[out].to_dict("records")
    excluded = tuple(
        Excluded(name, reason, row)
        for name, reason, row in zip(named.iloc[out], reasons[out], rows, strict=True)
    )
    first = ["run_id", *ALIASES]
    frame = frame.loc[
        left, first + [name for name in frame.columns if name not in first]
    ].reset_index(drop=True)
    taken, reading = describe(
        found, unit_of, identity, judged.columns, [str(run.reason) for run in excluded]
    )
    return RunTable(path, frame, excluded, (*notes, *more), found.count, taken, reading)


def groups(table: RunTable, column: str) -> dict[str, RunTable]:
    """A table for every value of a column, in order of first appearance; runs without one are
    `(none)`.

    Every run left out goes with its group; a group of which no run is usable has no table. Raises
    InputError for an unknown column."""
    name = resolve(column, table.frame)
    keys = np.array([_group_of(value) for value in table.frame[name]], dtype=object)
    parts = {}
    for key in dict.fromkeys(keys):
        excluded = tuple(run for run in table.excluded if _group_of(run.values.get(name)) == key)
        parts[str(key)] = replace(table.select(keys == key), excluded=excluded)
    return parts


def _is_own(raw: pd.DataFrame, path: Path) -> bool:
    """Whether the table is one that a sweep of our own wrote."""
    if not path.is_dir():
        return False
    marks = {"run_id", "status", "train_loss", "data_fingerprint"}
    return ResultsFolder(path).sweep_path.exists() or marks <= set(raw.columns)


def _doubts(
    frame: pd.DataFrame, found: Found, units: Mapping[str, str], names: pd.Series, path: Path
) -> list[Note]:
    """What is doubtful in what was taken for what. Raises InputError."""
    by_hand = {"params", "tokens"} <= set(found.told)
    taken = Taken(frame, found.columns, units, found.units, list(names), path, by_hand)
    return _plausible.check(taken)


def _row_names(raw: pd.DataFrame, run_ids: pd.Series) -> pd.Series:
    """The run of every row, with the row's number for runs of several rows."""
    many = run_ids.duplicated(keep=False)
    if not many.any():
        return run_ids
    rows = pd.Series(
        [f" (row {number})" for number in range(1, len(raw) + 1)], index=raw.index, dtype=object
    )
    return run_ids.where(~many, run_ids + rows)


def _none_done(raw: pd.DataFrame, path: Path, reason: str, columns: Sequence[str]) -> str:
    if reason == _NO_LOSS and path.is_dir():
        return REMAKE
    if raw.empty or path.is_dir():
        return "measure some: llmscale sweep --sizes 10k,30k,100k"
    for column in columns:
        reason = reason.removeprefix(f"{column} is ")
    return f"if such runs are finished, say so: {status_option(reason)}"


def _filters(where: object) -> tuple[str, ...]:
    """The filters as given in Python. Raises InputError."""
    if where is None:
        return ()
    given = [where] if isinstance(where, str) or not isinstance(where, Sequence) else list(where)
    filters: list[str] = []
    for text in given:
        if not isinstance(text, str):
            raise InputError(
                f"where is {shortened(repr(text), 40)}, which is no text",
                'write it like "flops < 1e20"',
            )
        filters.append(text)
    return tuple(filters)


def _columns_told(columns: object) -> dict[str, str]:
    """The columns as given in Python. Raises InputError."""
    given = {} if columns is None else columns
    if not isinstance(given, Mapping):
        raise InputError(
            f"columns is a {type(given).__name__}", 'give a mapping: columns={"params": "X"}'
        )
    for name, column in given.items():
        if not (isinstance(name, str) and isinstance(column, str)):
            raise InputError(
                f"columns gives {name!r} as {column!r:.40}", 'name columns: columns={"params": "X"}'
            )
    return dict(given)


def _filtered(filters: Sequence[str], left: int, usable: int) -> list[Note]:
    if not filters:
        return []
    short = _where.short_filter(" and ".join(filters))
    runs = "run" if usable == 1 else "runs"
    return [FILTERED.note(f"{left} of {usable} {runs} remain after --where {short}")]


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _group_of(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return NO_VALUE
    if (
        isinstance(value, (float, np.floating))
        and float(value).is_integer()
        and abs(float(value)) < 1e15
    ):
        return str(int(value))
    return str(value)
