"""Loss curves a run at a time: from a file of any length, little of it in memory, or a frame."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from llmscale.runs.checked import REMAKE, DamagedFile, plain_file, reading_results

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUP_ROWS = 1 << 17
"""Rows of a row group, and rows that are decoded at a time."""
_GROUPS_KEPT = 2
_ALWAYS = ("run_id", "step", "tokens")
"""Columns of the file in every version."""


class Span(NamedTuple):
    """Rows that lie together: a number from a row on."""

    first: int
    rows: int


@dataclass(frozen=True)
class CurveFile:
    """A `curves.parquet`, read by runs and columns. Raises InputError if it is damaged."""

    path: Path

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._file.schema_arrow.names)

    @property
    def empty(self) -> bool:
        return bool(self._file.metadata.num_rows == 0)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What the writer has noted in the file."""
        return dict(self._file.schema_arrow.metadata or {})

    @cached_property
    def spans(self) -> dict[str, list[Span]]:
        """Where the rows of every run are, in the file's order: in a sweep's file, together."""
        found: dict[str, list[Span]] = {}
        start = 0
        for batch in self._batches(["run_id"]):
            codes, names = _codes(batch.column("run_id"))
            firsts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
            for first, end in zip(firsts, [*firsts[1:], len(codes)], strict=True):
                pieces = found.setdefault(names[codes[first]], [])
                if pieces and pieces[-1].first + pieces[-1].rows == start + first:
                    pieces[-1] = Span(pieces[-1].first, pieces[-1].rows + end - first)
                else:
                    pieces.append(Span(start + first, end - first))
            start += len(codes)
        return found

    def each(
        self, columns: Sequence[str], run_ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, pd.DataFrame]]:
        """Of every run, or of those named, its rows of `columns`, in the file's order of runs."""
        wanted = [name for name in dict.fromkeys(columns) if name != "run_id"]
        chosen = [one for one in self.spans.items() if run_ids is None or one[0] in run_ids]
        if any(len(pieces) > 1 for _, pieces in chosen):
            yield from ((run_id, self.of(run_id, wanted)) for run_id, _ in chosen)
            return
        left = iter(chosen)
        run = next(left, None)
        parts: list[dict[str, Any]] = []
        start = 0
        for batch in self._batches(wanted) if run else ():
            arrays, end = _arrays(batch, wanted), start + batch.num_rows
            while run is not None and run[1][0].first < end:
                first, until = run[1][0].first, sum(run[1][0])
                parts.append(_cut(arrays, max(first, start) - start, min(until, end) - start))
                if until > end:
                    break
                yield run[0], _frame(parts)
                parts, run = [], next(left, None)
            start = end
            if run is None:
                return

    def of(self, run_id: str, columns: Sequence[str]) -> pd.DataFrame:
        """The rows of one run."""
        wanted = [name for name in dict.fromkeys(columns) if name != "run_id"]
        return _frame([_arrays(self.table(run_id, wanted), wanted)])

    def table(self, run_id: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """The rows of one run as they are in the file."""
        import pyarrow as pa

        names, parts = None if columns is None else tuple(columns), []
        for first, rows in self.spans[run_id]:
            while rows > 0:
                number = int(np.searchsorted(self._starts, first, side="right")) - 1
                part = self._group(number, names).slice(first - self._starts[number], rows)
                parts.append(part)
                first, rows = first + part.num_rows, rows - part.num_rows
        return pa.concat_tables(parts)

    def check(self) -> None:
        """Read all of the file, and keep nothing. Raises DamagedFile for a damaged page."""
        with reading_results(self.path):
            for number in range(self._file.metadata.num_row_groups):
                self._file.read_row_group(number)

    @cached_property
    def _file(self) -> "pq.ParquetFile":
        import pyarrow.parquet as pq

        with reading_results(self.path):
            file = pq.ParquetFile(
                plain_file(self.path), read_dictionary=["run_id"], page_checksum_verification=True
            )
        _refuse_missing(_ALWAYS, file.schema_arrow.names, self.path)
        return file

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of every row group, and the number of rows."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        return [int(start) for start in np.cumsum([0, *sizes])]

    @cached_property
    def _group(self) -> Any:
        """A row group by its number, the last few of which are kept."""

        @lru_cache(maxsize=_GROUPS_KEPT)
        def group(number: int, columns: tuple[str, ...] | None) -> "pa.Table":
            names = None if columns is None else list(columns)
            _refuse_missing(names or (), self.columns, self.path)
            with reading_results(self.path):
                return self._file.read_row_group(number, columns=names)

        return group

    def _batches(self, columns: list[str]) -> Iterator["pa.RecordBatch"]:
        _refuse_missing(columns, self.columns, self.path)
        with reading_results(self.path):
            yield from self._file.iter_batches(batch_size=GROUP_ROWS, columns=columns)


Curves: TypeAlias = pd.DataFrame | CurveFile
"""The rows of curves.parquet: read, or to be read."""


def each_curve(
    curves: Curves, columns: Sequence[str], run_ids: Collection[str] | None = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of every run, or of those named, its id and its rows of `columns`. Raises InputError."""
    if isinstance(curves, CurveFile):
        yield from curves.each(columns, run_ids)
        return
    for run_id, rows in curves.groupby(curves["run_id"].astype(str), sort=False):
        if run_ids is None or run_id in run_ids:
            yield str(run_id), rows[list(dict.fromkeys(columns))].reset_index(drop=True)


def one_curve(curves: Curves, run_id: str, columns: Sequence[str]) -> pd.DataFrame | None:
    """The rows of one run, or None if there are none. Raises InputError."""
    if isinstance(curves, CurveFile):
        if run_id not in curves.spans:
            return None
        return curves.of(run_id, columns)
    rows = curves.loc[curves["run_id"].astype(str) == run_id, list(columns)]
    if not len(rows):
        return None
    return rows.reset_index(drop=True)


def known_columns(curves: Curves, names: Iterable[str]) -> list[str]:
    """Those of `names` that the curves have."""
    return [name for name in names if name in curves.columns]


def shared_rows(curve: pd.DataFrame, parent: pd.DataFrame) -> int:
    """How many rows at the beginning of a branch's curve are those of its parent."""
    length = min(len(curve), len(parent))
    same = np.ones(length, dtype=bool)
    for name in ("step", "tokens", "train_loss", "loss"):
        if name in curve and name in parent:
            own, other = (frame[name].to_numpy(dtype=float)[:length] for frame in (curve, parent))
            same &= (own == other) | (np.isnan(own) & np.isnan(other))
    if same.all():
        return length
    return int(same.argmin())


def parents_of(runs: pd.DataFrame) -> dict[str, str]:
    """The run that has each branch's first rows, by the column `parent`: if the parent is none of
    `runs`, as one that failed, the longest of its other branches."""
    if "parent" not in runs.columns:
        return {}
    ids = [str(run) for run in runs["run_id"]]
    given = {
        run: str(parent) for run, parent in zip(ids, runs["parent"], strict=True) if is_id(parent)
    }
    there = set(ids)
    tokens = runs["tokens"] if "tokens" in runs.columns else pd.Series(0, index=runs.index)
    longest: dict[str, tuple[float, str]] = {}
    for run_id, length in zip(ids, tokens, strict=True):
        if (parent := given.get(run_id)) is not None:
            longest[parent] = max(longest.get(parent, (-1.0, "")), (float(length), run_id))
    found = {
        run: parent if parent in there else longest[parent][1] for run, parent in given.items()
    }
    return {run_id: parent for run_id, parent in found.items() if parent != run_id}


def is_id(parent: object) -> bool:
    """Whether a value of the column `parent` names a run."""
    return isinstance(parent, str) and parent != ""


def _refuse_missing(wanted: Iterable[str], there: Collection[str], path: Path) -> None:
    """Raise DamagedFile for a column that the file lacks; pyarrow would leave it out in silence."""
    for name in wanted:
        if name not in there:
            raise DamagedFile(path, f"it has no column {name}", REMAKE)


def _codes(column: "pa.Array") -> tuple[np.ndarray, list[str]]:
    """A number for the run of every row, and the runs' ids by it."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64), [*(str(name) for name in column.dictionary.to_pylist()), "nan"]


def _arrays(part: "pa.RecordBatch | pa.Table", names: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa

    copied = {} if isinstance(part, pa.Table) else {"zero_copy_only": False}
    return {name: part.column(name).to_numpy(**copied) for name in names}


def _cut(arrays: dict[str, Any], first: int, end: int) -> dict[str, Any]:
    return {name: array[first:end] for name, array in arrays.items()}


def _frame(parts: list[dict[str, Any]]) -> pd.DataFrame:
    if len(parts) == 1:
        return pd.DataFrame(parts[0])
    columns = {}
    for name in parts[0]:
        columns[name] = np.concatenate([part[name] for part in parts])
    return pd.DataFrame(columns)
