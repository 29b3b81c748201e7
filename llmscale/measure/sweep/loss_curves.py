"""The loss curves of a sweep's runs, as far as they are logged: read without pandas."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmscale.measure.sweep.run_status import RunStatus
from llmscale.runs.logged_losses import logged_losses
from llmscale.runs.results_folder import ResultsFolder


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
    points = logged_losses(folder, chosen)
    return [
        LossCurve(run_id, chosen[run_id].size, chosen[run_id].params, *found)
        for run_id, found in points.items()
        if found[0]
    ]
