"""The envelope of final losses: runs on the lower convex hull of loss against compute."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.explain.allocation._allocation import Optima
from llmscale.explain.estimation.levels import levels
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable

_NEAR = np.log(2.0)
"""A run is bracketed by a smaller and a larger size within a factor of about 2 in compute."""
_OTHER_SIZE = np.log(1.2)


@dataclass(frozen=True)
class FinalLosses:
    """Final losses of runs; `bracketed` if smaller and larger sizes had about its compute."""

    columns: dict[str, Array]
    loss: Array
    size_R: NDArray[np.int_]
    bracketed_R: NDArray[np.bool_]

    @cached_property
    def log_flops(self) -> Array:
        return np.log(self.columns["flops"])

    @property
    def units(self) -> int:
        return int(self.size_R.max()) + 1

    def table(self, runs: RunTable) -> RunTable:
        """The runs themselves: what the surface for the bias is fitted to."""
        return runs

    def losses_of(self, surface: Law) -> Array:
        return np.asarray(surface.loss(*(self.columns[name] for name in surface.inputs)))

    def optima(self, loss_R: Array, drawn: Array) -> Optima:
        """The corners of the lower convex hull of ln L against ln C."""
        rows = np.flatnonzero(drawn[self.size_R] > 0)
        log_flops = self.log_flops
        corners = rows[_hull(log_flops[rows], np.log(loss_R[rows]))]
        why = "no smaller or no larger size was tried at about this compute"
        reasons = [None if self.bracketed_R[row] else why for row in corners]
        weight = self.bracketed_R[corners].astype(float)
        return log_flops[corners], np.log(self.columns["params"][corners]), weight, reasons

    def at(self, log_flops: Array) -> Array:
        own = self.log_flops
        corners = _hull(own, np.log(self.loss))
        return np.exp(np.interp(log_flops, own[corners], np.log(self.loss[corners])))

    def runs_at(self, log_params: Array) -> NDArray[np.int_]:
        return np.ones(len(log_params), dtype=int)


def from_frame(frame: pd.DataFrame) -> FinalLosses:
    """The runs of a table."""
    # _hull is quicker on what is in order; of equal losses the smallest run comes first.
    frame = frame.sort_values(["flops", "loss", "params"], kind="stable")
    columns = {name: frame[name].to_numpy() for name in ("params", "tokens", "flops")}
    log_params, log_flops = np.log(columns["params"]), np.log(columns["flops"])
    # Smallest and largest size within cells of a factor of 1.4 in compute, and two cells on either
    # side.
    cell = np.floor((log_flops - log_flops[0]) / (_NEAR / 2)).astype(int) + 2
    smallest, largest = np.full(cell[-1] + 3, np.inf), np.full(cell[-1] + 3, -np.inf)
    np.minimum.at(smallest, cell, log_params)
    np.maximum.at(largest, cell, log_params)
    around = cell[:, None] + np.arange(-2, 3)
    bracketed = smallest[around].min(axis=1) < log_params - _OTHER_SIZE
    bracketed &= largest[around].max(axis=1) > log_params + _OTHER_SIZE
    return FinalLosses(columns, frame["loss"].to_numpy(), levels(columns["params"]), bracketed)


def _hull(x: Array, y: Array) -> NDArray[np.int_]:
    """Indices of the lower convex hull's corners where it falls, from left to right."""
    order = np.lexsort([y, x])
    falling = order[np.append(True, y[order][1:] < np.minimum.accumulate(y[order])[:-1])]
    px, py = x[falling].tolist(), y[falling].tolist()
    corners: list[int] = []
    for i in range(len(px)):
        while len(corners) > 1:
            first, second = corners[-2], corners[-1]
            left = (px[second] - px[first]) * (py[i] - py[first])
            if left > (py[second] - py[first]) * (px[i] - px[first]):
                break
            corners.pop()
        corners.append(i)
    return np.asarray(falling[corners])
