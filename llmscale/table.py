"""The table of runs that laws are fitted to: a results folder, a parquet file or anybody's CSV, checked."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note
from llmscale.runs import ResultsFolder, newest_results

ALIASES: dict[str, tuple[str, ...]] = {
    "params": ("params", "N", "n_params"),
    "tokens": ("tokens", "D", "n_tokens"),
    "flops": ("flops", "C", "compute", "budget"),
    "loss": ("loss", "L", "val_loss"),
}
"""Names under which a quantity is found, best first, case ignored."""

COUNTS = ("params", "params_non_embedding", "params_total")
"""The ways to count parameters that `--count` chooses from (see `llmscale.shape`)."""

_NAMED_ROWS = 5


@dataclass(frozen=True)
class Excluded:
    """A run left out of every fit, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class RunTable:
    """Usable runs: float64 columns `params`, `tokens`, `flops`, `loss`, text `run_id`, and the source's others.

    `params` holds the count asked for (`count`). `tokens` and `flops` are NaN where the source gives neither.
    """

    path: Path
    frame: pd.DataFrame
    excluded: tuple[Excluded, ...]
    notes: tuple[Note, ...]
    count: str

    def __str__(self) -> str:
        left_out = f", {len(self.excluded)} left out" if self.excluded else ""
        return f"{len(self.frame)} runs from {self.path}{left_out}"


def read_table(
    path: Path | str | None = None, *, columns: Mapping[str, str] | None = None, count: str = "params"
) -> RunTable:
    """The usable runs of a results folder, a parquet or a CSV file; None reads the newest sweep under results/.

    `columns` names the source's column for a quantity: {"params": "X"}. Raises InputError for anything that
    cannot be read as runs, naming the column and the rows.
    """
    if count not in COUNTS:
        raise InputError(f"there is no count {count!r}", f"use one of {', '.join(COUNTS)}{_nearest(count, COUNTS)}")
    source = _find(path)
    raw = _read(source)
    found = _find_columns(raw, source, dict(columns or {}), count)
    run_ids = _run_ids(raw, found)
    usable, excluded = _split_by_status(raw, run_ids)
    if not usable.any():
        state = "no rows" if raw.empty else f"no finished runs among its {len(raw)} rows"
        raise InputError(f"{source} has {state}", "measure some: llmscale sweep --sizes 1M,10M,100M")

    numbers = {
        name: _numbers(raw, column, usable, run_ids, source) for name, column in found.items() if name in ALIASES
    }
    notes = []
    if "tokens" not in numbers and "flops" in numbers:
        numbers["tokens"] = numbers["flops"] / (6.0 * numbers["params"])
        notes.append(Note("tokens-from-flops", "the table has no tokens: computed as D = C/(6N)"))
    elif "tokens" not in numbers:
        numbers["tokens"] = np.full(int(usable.sum()), np.nan)
        notes.append(
            Note(
                "tokens-unknown", "the table has neither tokens nor FLOPs: its runs are taken to share one token budget"
            )
        )
    if "flops" not in numbers:
        numbers["flops"] = 6.0 * numbers["params"] * numbers["tokens"]

    frame = raw.loc[usable].reset_index(drop=True)
    frame["run_id"] = run_ids[usable].to_numpy()
    for name in ALIASES:
        frame[name] = numbers[name]
    first = ["run_id", *ALIASES]
    frame = frame[first + [column for column in frame.columns if column not in first]]
    return RunTable(source, frame, excluded, tuple(notes), count)


def _find(path: Path | str | None) -> Path:
    """The file to read for what the user named."""
    if path is None:
        return newest_results().path
    source = Path(path)
    if source.is_dir():
        if not ResultsFolder(source).runs_path.is_file():
            raise InputError(
                f"{source} is a folder without runs.parquet", "name a results folder, a .parquet or a .csv file"
            )
        return source
    if not source.exists():
        raise InputError(f"there is no file {source}", "name a results folder, a .parquet or a .csv file")
    if source.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(
            f"{source} does not end in .csv or .parquet", "name a results folder, a .parquet or a .csv file"
        )
    if source.stat().st_size == 0:
        raise InputError(f"{source} is empty", "it needs a line of column names and one line a run")
    return source


def _read(source: Path) -> pd.DataFrame:
    file = ResultsFolder(source).runs_path if source.is_dir() else source
    try:
        if file.suffix.lower() == ".parquet":
            frame = pd.read_parquet(file)
        else:
            frame = pd.read_csv(file, encoding="utf-8-sig", skipinitialspace=True)
    except PermissionError as error:
        raise InputError(f"{file} may not be read", "check its permissions") from error
    except (ValueError, OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        kind = "a parquet file" if file.suffix.lower() == ".parquet" else "a CSV file"
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{file} cannot be read as {kind}: {reason}", "it needs columns for params, tokens or flops, and loss"
        ) from error
    frame.columns = [str(column).strip() for column in frame.columns]
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise InputError(f"{file} has more than one column named {repeated[0]!r}", "give each column its own name")
    return frame.reset_index(drop=True)


def _find_columns(raw: pd.DataFrame, source: Path, columns: dict[str, str], count: str) -> dict[str, str]:
    """Which column of `raw` holds each quantity, for those that are there."""
    known = (*ALIASES, "run_id")
    for name in columns:
        if name not in known:
            raise InputError(
                f"there is no quantity {name!r} to map a column to", f"use {', '.join(known)}{_nearest(name, known)}"
            )
    names = [str(column) for column in raw.columns]
    found: dict[str, str] = {}
    for quantity in known:
        if quantity in columns:
            if columns[quantity] not in names:
                raise InputError(
                    f"{source} has no column {columns[quantity]!r} for {quantity}",
                    f"its columns are {_listed(names)}{_nearest(columns[quantity], names)}",
                )
            found[quantity] = columns[quantity]
        elif quantity == "params" and count != "params":
            if count not in names:
                there = [name for name in COUNTS if name in names]
                raise InputError(
                    f"{source} has no column {count!r} to count parameters by",
                    f"it has {_listed(there)}" if there else f"its columns are {_listed(names)}",
                )
            found[quantity] = count
        else:
            for alias in ALIASES.get(quantity, (quantity,)):
                same = [name for name in names if name.lower() == alias.lower()]
                if len(same) > 1 and alias not in same:
                    raise InputError(
                        f"{source} has columns {_listed(same)}, and any may be {quantity}",
                        f"say which: --columns {quantity}={same[0]}",
                    )
                if same:
                    found[quantity] = alias if alias in same else same[0]
                    break
    for quantity in ("params", "loss"):
        if quantity not in found:
            raise InputError(
                f"{source} has no column for {quantity} (looked for {', '.join(ALIASES[quantity])})",
                f"its columns are {_listed(names)}; say which: --columns {quantity}=NAME",
            )
    return found


def _run_ids(raw: pd.DataFrame, found: Mapping[str, str]) -> pd.Series:
    """The source's run ids, or `row 1`, `row 2`, ... counted below the header."""
    rows = pd.Series([f"row {number}" for number in range(1, len(raw) + 1)], index=raw.index, dtype=object)
    if "run_id" not in found:
        return rows
    given = raw[found["run_id"]]
    return given.astype(object).where(given.notna(), rows).astype(str).astype(object)


def _split_by_status(raw: pd.DataFrame, run_ids: pd.Series) -> tuple[np.ndarray, tuple[Excluded, ...]]:
    if "status" not in raw.columns:
        return np.ones(len(raw), dtype=bool), ()
    status = raw["status"].astype(object).where(raw["status"].notna(), "no status").astype(str)
    usable = (status == "done").to_numpy()
    excluded = [Excluded(str(run_ids[row]), str(status[row])) for row in raw.index[~usable]]
    return usable, tuple(excluded)


def _numbers(raw: pd.DataFrame, column: str, usable: np.ndarray, run_ids: pd.Series, source: Path) -> np.ndarray:
    """The usable values of a column as float64, all positive and finite."""
    given = raw.loc[usable, column]
    if given.dtype == bool:
        given = given.astype(str)
    values = pd.to_numeric(given, errors="coerce").astype("float64").to_numpy()
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        rows = [f"{run_ids[row]} ({_shown(given[row])})" for row in given.index[bad]]
        raise InputError(
            f"column {column!r} of {source} must be positive numbers, and is not in {_listed(rows)}",
            "mend these rows, or take them out of the table",
        )
    return values


def _shown(value: object) -> str:
    text = "empty" if value is None or value is pd.NA or value != value else str(value)
    return text if len(text) <= 20 else text[:17] + "..."


def _listed(items: Sequence[str]) -> str:
    """At most five items, then how many more."""
    more = len(items) - _NAMED_ROWS
    return ", ".join(items[:_NAMED_ROWS]) + (f" and {more} more" if more > 0 else "")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
