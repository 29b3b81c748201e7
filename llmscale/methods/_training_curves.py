"""Training curves as evidence for the envelope: which size has the lowest loss at each compute."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.fit.identify import levels
from llmscale.laws import Array, Law
from llmscale.methods._allocation import Optima
from llmscale.runs import ResultsFolder
from llmscale.table import RunTable

_STEPS = 1500
"""Points in ln C at which curves are compared, as Hoffmann et al. do."""
_BIN = 0.02
"""Logged losses are averaged over 2% of compute, so that the envelope does not follow the noise of single steps."""
_LEAST = 3
_DECADE = np.log(10.0)
_POINTS = 12
"""The surface for the bias is fitted to about so many points of the last decade of each curve."""


@dataclass(frozen=True)
class Curves:
    """Loss of every run (R), smallest first, at each step of a grid in ln C (G); infinite where it was not there."""

    grid_G: Array
    loss: Array
    log_params_R: Array
    size_R: NDArray[np.int_]
    tokens: Array

    @property
    def units(self) -> int:
        return len(self.log_params_R)

    def table(self, runs: RunTable) -> RunTable:
        """The last decade of compute of every curve as a table: what the surface for the bias is fitted to."""
        there = np.isfinite(self.loss)
        end = np.where(there, self.grid_G, -np.inf).max(axis=1, keepdims=True)
        row, step = np.nonzero(there & (self.grid_G > end - _DECADE))
        kept = step % max(1, round(_DECADE / _POINTS / np.ptp(self.grid_G) * len(self.grid_G))) == 0
        row, step = row[kept], step[kept]
        frame = pd.DataFrame(
            {
                "run_id": [f"curve {r} step {s}" for r, s in zip(row, step, strict=True)],
                "params": np.exp(self.log_params_R[row]),
                "tokens": self.tokens[row, step],
                "flops": np.exp(self.grid_G[step]),
                "loss": self.loss[row, step],
            }
        )
        return RunTable(runs.path, frame, (), (), runs.count)

    def losses_of(self, surface: Law) -> Array:
        """The surface's losses where the curves have theirs."""
        params = np.broadcast_to(np.exp(self.log_params_R)[:, None], self.loss.shape)
        columns = {"params": params, "tokens": self.tokens, "flops": np.broadcast_to(np.exp(self.grid_G), params.shape)}
        loss = np.asarray(surface.loss(*(columns[name] for name in surface.inputs)))
        return np.where(np.isfinite(self.loss), loss, np.inf)

    def optima(self, loss_RG: Array, drawn_R: Array) -> Optima:
        """One optimum a size: the middle, in ln C, of where it is on the envelope.

        One point a size and not one a step: a power law through m whole stairs is too flat by 1/m^2. The smallest
        and the largest size, and sizes whose stair is cut off by the end of a curve, have weight zero.
        """
        rows = np.flatnonzero(drawn_R > 0)
        loss = loss_RG[rows]
        there = np.isfinite(loss)
        some = there.any(axis=0)
        winner = np.where(some, self.size_R[rows][loss.argmin(axis=0)], -1)
        present, first = np.unique(self.size_R[rows], return_index=True)
        covered = dict(zip(present.tolist(), np.logical_or.reduceat(there, first, axis=0), strict=True))
        x, y, weight, reasons = [], [], [], []
        for size in present.tolist():
            on = np.flatnonzero(winner == size)
            if not len(on):
                continue
            why = None
            before, after = on[0] - 1, on[-1] + 1
            if size == present[0]:
                why = "the smallest size: a smaller one might be better"
            elif size == present[-1]:
                why = "the largest size: a larger one might be better"
            elif before < 0 or not (covered[size][before] and covered[winner[before]][on[0]]):
                why = "the step where it passes a smaller size is not in the curves"
            elif after >= len(winner) or not (covered[size][after] and covered[winner[after]][on[-1]]):
                why = "its curve ends before a larger size is better"
            x.append(float(self.grid_G[on].mean()))
            y.append(float(self.log_params_R[self.size_R == size].mean()))
            weight.append(0.0 if why else len(on) / len(winner))
            reasons.append(why)
        return np.array(x), np.array(y), np.array(weight), reasons

    def at(self, log_flops: Array) -> Array:
        return np.interp(log_flops, self.grid_G, self.loss.min(axis=0))

    def runs_at(self, log_params: Array) -> NDArray[np.int_]:
        return np.array([int(np.isclose(self.log_params_R, x, atol=0.01).sum()) for x in log_params])


def from_frame(frame: pd.DataFrame, curves: pd.DataFrame, factor: float) -> Curves:
    """The curves of the table's runs on one grid of ln C. Raises InputError."""
    known = [name for name in ("loss", "train_loss") if name in curves]
    missing = [name for name in ("run_id", "tokens") if name not in curves]
    if missing or not known:
        raise InputError(
            f"the curves have no column {' or '.join(missing or ['loss', 'train_loss'])}",
            "curves need run_id, tokens and loss or train_loss, a row a logged step",
        )
    params: list[float] = []
    thinned: list[tuple[Array, ...]] = []
    params_of = dict(zip(frame["run_id"].astype(str), frame["params"], strict=True))
    for run_id, steps in curves.groupby(curves["run_id"].astype(str), sort=True):
        if run_id not in params_of:
            continue
        column = next((name for name in known if np.isfinite(steps[name].to_numpy(dtype=float)).sum() >= 5), known[-1])
        tokens, loss = steps["tokens"].to_numpy(dtype=float), steps[column].to_numpy(dtype=float)
        own = steps["flops"].to_numpy(dtype=float) if "flops" in steps else factor * params_of[run_id] * tokens
        good = np.isfinite(loss) & (loss > 0) & (tokens > 0) & (own > 0)
        if good.sum() >= 2:
            params.append(float(params_of[run_id]))
            thinned.append(_thinned(np.log(own[good]), np.log(loss[good]), np.log(tokens[good])))
    if len(params) < _LEAST:
        raise InputError(
            f"the envelope needs the curves of {_LEAST} sizes or more, and {len(params)} runs of the table have one",
            "give curves whose run_id is the table's; or use --method parametric",
        )
    order = np.argsort(params, kind="stable")
    grid = np.linspace(min(one[0][0] for one in thinned), max(one[0][-1] for one in thinned), _STEPS)
    loss_RG, tokens_RG = np.full((len(params), _STEPS), np.inf), np.ones((len(params), _STEPS))
    for row, index in enumerate(order):
        x, log_loss, log_tokens = thinned[index]
        inside = (grid >= x[0]) & (grid <= x[-1])
        loss_RG[row, inside] = np.exp(np.interp(grid[inside], x, log_loss))
        tokens_RG[row] = np.exp(np.interp(grid, x, log_tokens))
    ordered = np.array(params)[order]
    return Curves(grid, loss_RG, np.log(ordered), levels(ordered), tokens_RG)


def of_results(table: RunTable) -> pd.DataFrame | None:
    """The curves of a results folder, None for other tables."""
    folder = ResultsFolder(table.path)
    return folder.read_curves() if table.path.is_dir() and folder.curves_path.is_file() else None


def _thinned(log_flops: Array, *others: Array) -> tuple[Array, ...]:
    """The columns of one curve in order of compute, averaged within bins of ln C."""
    order = np.argsort(log_flops, kind="stable")
    bin_of = np.unique(np.floor(log_flops[order] / _BIN), return_inverse=True)[1]
    counts = np.bincount(bin_of)
    return tuple(np.bincount(bin_of, weights=column[order]) / counts for column in (log_flops, *others))
