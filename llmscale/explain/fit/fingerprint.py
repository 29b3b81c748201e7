"""Whether a table is the one that a fit was made from: digests of its runs and of a user's law."""

import hashlib
import inspect
from pathlib import Path

import pandas as pd

from llmscale.explain.laws import LAWS, Law
from llmscale.explain.table import RunTable
from llmscale.runs.results_folder import ResultsFolder

_END = 1 << 20
"""Of a file of curves its last bytes are looked at, which hold what is where and its extremes."""


def fingerprint(table: RunTable) -> str:
    """A digest of the usable runs, what was left out, and what counts; of a results folder, of all
    runs and of its curves, too: notes on a fit speak of them."""
    digest = hashlib.sha256()
    excluded = [(run.run_id, run.reason) for run in table.excluded]
    said = [(note.code, note.message) for note in table.notes]
    facts = (table.count, sorted(table.columns.items()), list(table.frame.columns), excluded, said)
    digest.update(repr(facts).encode("utf-8", "surrogatepass"))
    frame = table.frame.copy()
    for name in frame.columns:
        if frame[name].dtype.kind not in "iufb":
            frame[name] = frame[name].astype(str)
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    if table.path.is_dir():
        folder = ResultsFolder(table.path)
        digest.update(_digest(folder.runs_path).encode())
        digest.update(_digest(folder.curves_path).encode())
    return digest.hexdigest()


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
