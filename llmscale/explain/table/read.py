"""Reading a source as a table of runs: what is asked, what is found, which rows are runs to fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, both, counted, listed
from llmscale.errors.printable import shortened
from llmscale.explain.table.columns.find import (
    ALIASES,
    COUNTS,
    WEIGHT,
    Found,
    find_columns,
    nearest,
    quantity_of,
)
from llmscale.explain.table.columns.loss_error import LOSS_SE, check_error
from llmscale.explain.table.columns.names import OWN_TABLE
from llmscale.explain.table.columns.quantities import check_above, with_quantities
from llmscale.explain.table.columns.resolve import SOURCE_COLUMNS
from llmscale.explain.table.columns.spelled_out import with_spelled_out
from llmscale.explain.table.columns.units import known_units, parse_units
from llmscale.explain.table.describe import describe, loss_unit_of, metric_of
from llmscale.explain.table.doubts import plausible
from llmscale.explain.table.doubts.cut_short import cut_short, passes
from llmscale.explain.table.doubts.losses import mixed_splits
from llmscale.explain.table.doubts.taken import Taken
from llmscale.explain.table.files.nested import refuse_chart, state_column
from llmscale.explain.table.files.source import read_source
from llmscale.explain.table.rows import retries, weights
from llmscale.explain.table.rows.asked_for import runs_asked_for
from llmscale.explain.table.rows.best import columns_said, others_of_point
from llmscale.explain.table.rows.identity import Identity, identify
from llmscale.explain.table.rows.resumed import COPY, STEP_TWICE
from llmscale.explain.table.rows.row_names import numbered
from llmscale.explain.table.rows.status import parse_status, status_option, statuses
from llmscale.explain.table.rows.where import keep, parse_where, short_filter
from llmscale.explain.table.run_table import FOLDER, Excluded, RunTable
from llmscale.notes.reading import FILTERED
from llmscale.runs.checked import REMAKE, DamagedFile
from llmscale.runs.results_folder import ResultsFolder

AS_THEY_STAND = "nats"
"""The unit of a loss that is taken as it is given, which ends all doubts of it."""
_MOST_NATS = 1e6
"""A finished run of our own has a loss far below this: more is a damaged value."""
_ALWAYS = ("run_id", "params", "tokens", "loss")
"""Columns of our own tables in every version."""
_NO_LOSS = "no positive finite loss"


def read_table(
    source: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    count: str = "params",
    units: Mapping[str, str] | str | None = None,
    where: str | Sequence[str] | None = (),
    best_of: str | Sequence[str] | None = (),
    status: str | Sequence[str] | None = None,
    needs: Sequence[str] = (),
    scores: bool = False,
) -> RunTable:
    """The usable runs of a results folder, a file, standard input (`-`) or a frame; None reads the
    newest sweep.

    `columns` names the source's column for a quantity, or for any other input of a law: {"params":
    "X"}. `units` says what the source counts in: {"params": "M", "flops": "PFdays", "loss":
    "bits"}. `where` keeps the runs that meet every filter, such as "flops < 1e20 and data == c4",
    in the table's own names and units; `best_of`, such as "params,tokens", of the runs that are
    alike in these columns only the one of the lowest loss. `status` are the words of finished runs,
    such as "done=finished,crashed". `needs` are columns that a law takes by their own names. With
    `scores` the loss may rise with size and be any number, as scores are. Raises InputError for
    anything that cannot be read as runs, naming the column and the rows, and for numbers that
    cannot be what they were taken for."""
    asked = replace(
        _asked(columns, count, units, where, status, needs),
        best_of=columns_said(best_of),
        scores=scores,
    )
    if scores:
        _refuse_best_score(asked)
        asked = replace(asked, units={"loss": AS_THEY_STAND, **asked.units})
    read = _read(source, asked)
    judged = _judge(read, asked)
    passed = _passed(read, judged, asked)
    worse = others_of_point(read.frame, asked.best_of, judged.usable & passed)
    passed &= ~worse
    kept = judged.usable & passed
    told = LOSS_SE in read.found.told
    error = check_error(read.frame[kept], read.found.columns, told, read.path)
    found = read.found if error is None else _without_error(read.found)
    notes = _notes(read, judged, kept, asked)
    left_out = _left_out(read, judged, passed)
    reasons = [str(run.reason) for run in left_out]
    as_given = {("loss", AS_THEY_STAND)} if scores else set()
    named = dict(asked.units.items() - as_given)
    taken, reading = describe(
        read.raw, found, named, judged.identity, judged.status_columns, reasons
    )
    first = ["run_id", *ALIASES]
    others = [name for name in read.frame.columns if name not in first]
    frame = read.frame.loc[kept, first + others].reset_index(drop=True)
    if WEIGHT in read.found.columns:
        frame = weights.with_ordinary_weights(frame)
    if read.own:
        frame.attrs[FOLDER] = str(read.path)
    if error is not None:
        frame, notes = frame.drop(columns=LOSS_SE), (*notes, error)
    return RunTable(
        read.path,
        frame,
        left_out,
        notes,
        read.found.count,
        taken,
        reading,
        metric=metric_of(read.raw, found, named),
        loss_unit=loss_unit_of(read.raw, found, named),
    )


def _without_error(found: Found) -> Found:
    """What was found, but for the errors of the loss."""
    rest = {name: column for name, column in found.columns.items() if name != LOSS_SE}
    return replace(found, columns=rest)


def _refuse_best_score(asked: "_Asked") -> None:
    """Raise InputError: the best of scores may be the highest."""
    if asked.best_of:
        raise InputError(
            "--best-of takes the lowest of each point, and the best score may be the highest",
            "leave --best-of out, and keep the best runs with --where",
        )


@dataclass(frozen=True)
class _Asked:
    """How a source is to be read, as its reader was told, checked."""

    columns: dict[str, str]
    count: str
    units: Mapping[str, str]
    filters: tuple[str, ...]
    done: frozenset[str] | None
    needs: Sequence[str]
    best_of: tuple[str, ...] = ()
    scores: bool = False


@dataclass(frozen=True)
class _Read:
    """A source with its columns found: `frame` holds the quantities in base units and the rest."""

    path: Path
    raw: pd.DataFrame
    frame: pd.DataFrame
    found: Found
    own: bool
    """Whether a sweep of our own wrote it."""
    notes: tuple[Note, ...]
    """Of the file, and of how its numbers were read."""
    more: tuple[Note, ...]


@dataclass(frozen=True)
class _Judged:
    """Which rows are runs to fit, one truth a row, and of the others why not."""

    usable: NDArray[np.bool_]
    reasons: NDArray[Any]
    identity: Identity
    names: pd.Series
    """How each row is named to people."""
    status_columns: tuple[str, ...]
    notes: tuple[Note, ...]


def _asked(
    columns: object,
    count: str,
    units: Mapping[str, str] | str | None,
    where: object,
    status: object,
    needs: Sequence[str],
) -> _Asked:
    if count not in COUNTS:
        raise InputError(
            f"there is no count {count!r}",
            f"use one of {', '.join(COUNTS)}{nearest(str(count), COUNTS)}",
        )
    told = _columns_told(columns)
    if units is None or isinstance(units, str):
        unit_of = parse_units(units)
    else:
        unit_of = known_units(units)
    if not (status is None or isinstance(status, (str, Sequence))):
        raise InputError(
            f"status is {status!r:.40}, which is no text", 'write it like "done=finished"'
        )
    done = parse_status(status)
    filters = _filters(where)
    for text in filters:
        parse_where(text)
    return _Asked(told, count, unit_of, filters, done, needs)


def _read(source: Path | str | pd.DataFrame | None, asked: _Asked) -> _Read:
    """The source, with the column of every quantity found and its numbers in base units."""
    path, raw, notes = read_source(source)
    refuse_chart(raw, path)
    state = None if "status" in raw.columns else state_column(raw)
    parts = ("config.", "summary.")
    nested = state is not None or any(name.startswith(parts) for name in raw.columns)
    told = dict(asked.columns)
    own = _is_own(raw, path) and "loss" not in map(quantity_of, told)
    if own:
        missing = [name for name in _ALWAYS if name not in raw.columns]
        if missing:
            reason = f"it has no column {missing[0]}"
            raise DamagedFile(ResultsFolder(path).runs_path, reason, REMAKE)
        told["loss"] = "loss"  # never the training loss next to it
    found = find_columns(
        raw,
        path,
        told,
        asked.count,
        asked.units,
        asked.needs,
        nested=nested,
        scores=asked.scores,
    )
    columns_there = list(raw.columns)
    raw, found, spelled = with_spelled_out(raw, found, asked.needs, path, asked.units)
    frame, more = with_quantities(raw, found.columns, asked.units, path, found.units)
    frame.attrs[SOURCE_COLUMNS] = columns_there
    return _Read(path, raw, frame, found, own, tuple(notes), (*more, *spelled))


def _judge(read: _Read, asked: _Asked) -> _Judged:
    """Which rows are finished runs, each once. Raises InputError if none is."""
    raw, frame, path = read.raw, read.frame, read.path
    judged = statuses(raw, path, asked.done)
    usable, reasons = judged.usable, judged.reasons
    if read.own and "loss" not in asked.units:
        loss = frame["loss"].to_numpy()
        lost = usable & ~((loss > 0) & (loss < _MOST_NATS))
        usable, reasons = usable & ~lost, np.where(lost, _NO_LOSS, reasons)
    if read.own:
        copies = usable & raw.astype(str).duplicated().to_numpy()
        usable, reasons = usable & ~copies, np.where(copies, COPY, reasons)
    identity = identify(raw, frame, read.found.columns, read.found.told, usable)
    run_ids = identity.run_ids
    frame["run_id"] = run_ids
    weighed_by = read.found.columns.get(WEIGHT)
    for again, why in (
        (retries.superseded(raw, run_ids, usable), retries.SUPERSEDED),
        (identity.repeated, STEP_TWICE),
        (weights.without_weight(frame, weighed_by, usable, path), weights.NO_WEIGHT),
    ):
        usable, reasons = usable & ~again, np.where(again, why, reasons)
    if not usable.any():
        there = listed(list(dict.fromkeys(reasons)))
        what = "no rows" if raw.empty else f"no finished runs among its {len(raw)} rows ({there})"
        reason = "" if raw.empty else str(reasons[0])
        raise InputError(f"{path} has {what}", _none_done(raw, path, reason, judged.columns))
    names = _row_names(raw, run_ids)
    return _Judged(usable, reasons, identity, names, judged.columns, judged.notes)


def _passed(read: _Read, judged: _Judged, asked: _Asked) -> NDArray[np.bool_]:
    """The rows that the filters let through.
    Raises InputError if no run is left, or one has a number that is not above zero."""
    passed = keep(read.frame, asked.filters)
    kept = judged.usable & passed
    if not kept.any():
        there = listed(list(dict.fromkeys(judged.reasons[passed])))
        short = short_filter(" and ".join(asked.filters))
        raise InputError(
            f"no finished run is left by --where {short} ({there})", "let more runs through"
        )
    found = read.found
    for name in ALIASES:
        if name in found.columns:
            unit = asked.units.get(name, found.units.get(name))
            column = read.raw[found.columns[name]]
            least = -np.inf if asked.scores and name == "loss" else 0.0
            check_above(read.frame[name], least, column, kept, judged.names, read.path, unit)
    return passed


def _notes(
    read: _Read, judged: _Judged, kept: NDArray[np.bool_], asked: _Asked
) -> tuple[Note, ...]:
    """All that is to be said of how the table was read. Raises InputError."""
    raw, frame, found = read.raw, read.frame, read.found
    doubts: list[Note] = []
    units = {**asked.units, "loss": AS_THEY_STAND} if asked.scores else asked.units
    # A sweep of our own writes what it counted; only what others wrote is doubted.
    if not read.path.is_dir():
        taken = _taken(frame[kept], found, units, judged.names[kept], read)
        doubts += plausible.check(taken)
        doubts += cut_short(raw, frame, found.columns, kept, judged.names)
        doubts += passes(raw, found.columns)
        doubts += mixed_splits(raw[kept])
    elif found.columns.get("loss") not in (None, "loss"):
        # Scores are what they are, but which way they go is to be seen.
        taken = _taken(frame[kept], found, units, judged.names[kept], read)
        doubts += plausible.check_score(taken)
    if read.own:
        doubts += runs_asked_for(raw, read.path)
    filtered = _filtered(asked, int(kept.sum()), int(judged.usable.sum()))
    return (
        *read.notes,
        *read.more,
        *found.notes,
        *judged.notes,
        *judged.identity.notes,
        *doubts,
        *filtered,
        *retries.notes(frame[kept]),
    )


def _left_out(read: _Read, judged: _Judged, passed: NDArray[np.bool_]) -> tuple[Excluded, ...]:
    """The rows that the filters let through and that are no runs to fit."""
    out = np.flatnonzero(passed & ~judged.usable)
    rows = read.frame.iloc[out].to_dict("records")
    ids, reasons = judged.names.iloc[out], judged.reasons[out]
    return tuple(starmap(Excluded, zip(ids, reasons, rows, strict=True)))


def _is_own(raw: pd.DataFrame, path: Path) -> bool:
    """Whether the table is one that a sweep of our own wrote."""
    if not path.is_dir():
        return False
    return ResultsFolder(path).sweep_path.exists() or set(raw.columns) >= OWN_TABLE


def _taken(
    frame: pd.DataFrame, found: Found, units: Mapping[str, str], names: pd.Series, read: _Read
) -> Taken:
    by_hand = {"params", "tokens"} <= set(found.told)
    return Taken(
        frame, found.columns, units, found.units, list(names), read.path, by_hand, read.notes
    )


def _row_names(raw: pd.DataFrame, run_ids: pd.Series) -> pd.Series:
    """The run of every row, with the row's number for runs of several rows."""
    many = run_ids.duplicated(keep=False)
    if not many.any():
        return run_ids
    return run_ids.where(~many, run_ids + " (" + numbered(raw) + ")")


def _none_done(raw: pd.DataFrame, path: Path, reason: str, columns: Sequence[str]) -> str:
    if reason == _NO_LOSS and path.is_dir():
        return REMAKE
    if raw.empty or path.is_dir():
        return "measure some: llmscale sweep --sizes 10k,30k,100k"
    for column in columns:
        reason = reason.removeprefix(f"{column} is ")
    return f"if such runs are finished, say so: {status_option(reason)}"


def _filters(where: Any) -> tuple[str, ...]:
    """The filters as given in Python. Raises InputError."""
    if where is None:
        return ()
    several = isinstance(where, Sequence) and not isinstance(where, str)
    filters = tuple(where) if several else (where,)
    for text in filters:
        if not isinstance(text, str):
            raise InputError(
                f"where is {shortened(repr(text), 40)}, which is no text",
                'write it like "flops < 1e20"',
            )
    return filters


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


def _filtered(asked: _Asked, left: int, usable: int) -> list[Note]:
    if left == usable:
        return []
    after = []
    if asked.filters:
        after.append(f"--where {short_filter(' and '.join(asked.filters))}")
    if asked.best_of:
        after.append(f"--best-of {','.join(asked.best_of)}")
    if not after:
        return []
    return [FILTERED.note(f"{left} of {counted(usable, 'run')} remain after {both(after)}")]
