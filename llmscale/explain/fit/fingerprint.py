"""Whether a table is the one that a fit was made from: digests of its runs and of a user's law."""

import hashlib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from llmscale.explain.laws import LAWS, Law
from llmscale.explain.laws._mixture import SHARE
from llmscale.explain.table import RunTable
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.scores import later_scores

_MARK, _MARK_BEFORE = "3-", "2-"
"""Begin a fingerprint that does not change with scores measured later; the second knows nothing of
the error of the loss."""
_ERROR = "loss_se"
_TRUE_LOSS = "true_loss"
"""What notes on a fit read, besides the columns of every run."""
_END = 1 << 20
"""Of a file of curves its last bytes are looked at, which hold what is where and its extremes."""


def fingerprint(table: RunTable) -> str:
    """A digest of the usable runs, what was left out, and what counts; of a results folder, of all
    runs and of its curves, too: notes on a fit speak of them. Scores that were measured of the runs
    later are left out, unless a column of them is used."""
    return f"{_MARK}{_fingerprint(table)}"


def _fingerprint(table: RunTable) -> str:
    folder = ResultsFolder(table.path) if table.path.is_dir() else None
    unused = _unused_scores(table, folder) if folder else frozenset()
    digest = _begun(table, table.frame[[name for name in table.frame if name not in unused]])
    if folder:
        digest.update(_rows_digest(folder.runs_path, unused).encode())
        digest.update(_digest(folder.curves_path).encode())
    return str(digest.hexdigest())


def is_of(table: RunTable, stated: str) -> bool:
    """Whether `stated` is the fingerprint of the table, of this version or of one before."""
    if stated.startswith(_MARK):
        return stated == fingerprint(table)
    columns = {name: column for name, column in table.columns.items() if name != _ERROR}
    table = replace(table, columns=columns, frame=table.frame.drop(columns=_ERROR, errors="ignore"))
    if stated.startswith(_MARK_BEFORE):
        return stated == f"{_MARK_BEFORE}{_fingerprint(table)}"
    digest = _begun(table, table.frame)
    if table.path.is_dir():
        folder = ResultsFolder(table.path)
        digest.update(_digest(folder.runs_path).encode())
        digest.update(_digest(folder.curves_path).encode())
    return stated == digest.hexdigest()


def _begun(table: RunTable, frame: pd.DataFrame) -> Any:
    digest = hashlib.sha256()
    excluded = [(run.run_id, run.reason) for run in table.excluded]
    said = [(note.code, note.message) for note in table.notes]
    facts = (table.count, sorted(table.columns.items()), list(frame.columns), excluded, said)
    digest.update(repr(facts).encode("utf-8", "surrogatepass"))
    frame = frame.copy()
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufb":
            frame[name] = frame[name].astype(str)
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest


def _unused_scores(table: RunTable, folder: ResultsFolder) -> frozenset[str]:
    """The columns that were measured later, but for those that the table was read by."""
    names = {name for run in folder.run_folders for name in later_scores(run)}
    used = {*table.columns, *table.columns.values(), _TRUE_LOSS}
    return frozenset(name for name in names - used if not name.startswith(SHARE))


def _rows_digest(path: Path, unused: frozenset[str]) -> str:
    """Of all rows of runs.parquet, but for `unused` columns and what is noted of its files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
        names = [name for name in parquet.schema_arrow.names if name not in unused]
        rows = parquet.read(names).replace_schema_metadata(None)
    except (OSError, pa.ArrowException):
        return _digest(path)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def law_digest(law: type[Law]) -> str | None:
    """The content of the file of a user's own law; empty for a law of the menu, None if there is no
    file to look at."""
    if law.name in LAWS:
        return ""
    try:
        source = inspect.getsourcefile(law)
        return hashlib.sha256(Path(source or "").read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None


def _digest(path: Path) -> str:
    if not path.is_file():
        return "none"
    with path.open("rb") as stream:
        length = stream.seek(0, 2)
        stream.seek(max(length - _END, 0))
        return f"{length} {hashlib.sha256(stream.read()).hexdigest()}"
