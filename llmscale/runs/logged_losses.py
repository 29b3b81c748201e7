"""The training losses of runs, as far as they are logged: read without pandas."""

import itertools
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from llmscale.runs.checked import plain_file, reading
from llmscale.runs.log import read_progress
from llmscale.runs.results_folder import ResultsFolder

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Logged: TypeAlias = tuple[list[int], list[float]]
"""Tokens and training losses."""
_COLUMNS = ("run_id", "tokens", "train_loss")


def logged_losses(folder: ResultsFolder, run_ids: Collection[str]) -> dict[str, Logged]:
    """Of each run its tokens and training losses: from the table of curves, else from its own
    curve, else as it logs them; empty if there are none. Raises DamagedFile."""
    points: dict[str, Logged] = {run_id: ([], []) for run_id in run_ids}
    with suppress(FileNotFoundError), reading(folder.curves_path):
        for batch in _parquet(folder.curves_path).iter_batches(columns=list(_COLUMNS)):
            ids, start = batch["run_id"], 0
            names = ids.dictionary.to_pylist()
            for code, alike in itertools.groupby(ids.indices.to_pylist()):
                rows = sum(1 for _ in alike)
                if names[code] in points:
                    _add(points[names[code]], batch.slice(start, rows))
                start += rows
    for run_id, (logged, losses) in points.items():
        if logged:
            continue
        home = folder.run_folder(run_id)
        if home.curve_path.is_file():
            _add(points[run_id], home.read_curve())
            continue
        for row in read_progress(home.path)[0]:
            logged.append(row["tokens"])
            losses.append(row["train_loss"])
    return points


def _add(points: Logged, rows: "pa.RecordBatch | pa.Table") -> None:
    points[0].extend(rows["tokens"].to_pylist())
    points[1].extend(rows["train_loss"].to_pylist())


def _parquet(path: Path) -> "pq.ParquetFile":
    """A table of the sweep. (pyarrow's shorter ways to read one load pandas.)"""
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        plain_file(path), read_dictionary=["run_id"], page_checksum_verification=True
    )
