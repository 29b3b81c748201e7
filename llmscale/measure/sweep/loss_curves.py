"""The loss curves of a sweep's runs, as far as they are logged: read without pandas."""

import itertools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.measure.sweep.run_status import RunStatus
from llmscale.runs.checked import plain_file, reading
from llmscale.runs.log import read_progress
from llmscale.runs.results_folder import ResultsFolder

if TYPE_CHECKING:
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class LossCurve:
    """The training loss of a run by tokens."""

    run_id: str
    size: str
    params: int
    tokens: Sequence[int]
    train_loss: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def loss_curves(folder: ResultsFolder, runs: Iterable[RunStatus]) -> list[LossCurve]:
    """The training losses of `runs` as far as they are logged; runs without any are left out."""
    chosen = {run.run_id: run for run in runs}
    points: dict[str, tuple[list[int], list[float]]] = {run_id: ([], []) for run_id in chosen}
    columns = ["run_id", "tokens", "train_loss"]
    with suppress(FileNotFoundError), reading(folder.curves_path):
        for batch in _parquet(folder.curves_path).iter_batches(columns=columns):
            ids, start = batch["run_id"], 0
            names = ids.dictionary.to_pylist()
            for code, alike in itertools.groupby(ids.indices.to_pylist()):
                rows = sum(1 for _ in alike)
                if names[code] in chosen:
                    logged, losses = points[names[code]]
                    logged += batch["tokens"].slice(start, rows).to_pylist()
                    losses += batch["train_loss"].slice(start, rows).to_pylist()
                start += rows
    for run_id, (logged, losses) in points.items():
        if not logged:
            for row in read_progress(folder.run_folder(run_id).path)[0]:
                logged.append(row["tokens"])
                losses.append(row["train_loss"])
    return [
        LossCurve(run_id, chosen[run_id].size, chosen[run_id].params, *found)
        for run_id, found in points.items()
        if found[0]
    ]


def _parquet(path: Path) -> "pq.ParquetFile":
    """A table of the sweep. (pyarrow's shorter ways to read one load pandas.)"""
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        plain_file(path), read_dictionary=["run_id"], page_checksum_verification=True
    )
