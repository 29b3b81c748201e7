"""Training curves as evidence for the envelope: which size has the lowest loss at each compute."""

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.allocation._allocation import Optima
from llmscale.explain.estimation.levels import levels
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable
from llmscale.runs.curve_file import (
    CurveFile,
    each_curve,
    known_columns,
    one_curve,
    parents_of,
    shared_rows,
)
from llmscale.runs.curve_file import Curves as CurveRows
from llmscale.runs.results_folder import ResultsFolder

_STEPS = 1500
"""Points in ln C at which curves are compared, as Hoffmann et al. do."""
_BIN = 0.02
"""Logged losses are averaged over 2% of compute: the envelope would follow single steps' noise."""
_BEST = 32
"""A resample lacks all of this many lowest losses with odds e^-32; then every run is looked at."""
_LEAST = 3
_PARENTS = 256
"""Curves of trunks in memory at a time."""
_DECADE = np.log(10.0)
_POINTS = 12
"""The surface for the bias is fitted to about this many points of the last decade of each curve."""


@dataclass(frozen=True)
class Curves:
    """Loss of every run (R), smallest first, on a grid in ln C (G); infinite where it has none."""

    grid_G: Array
    loss: Array
    log_params_R: Array
    size_R: NDArray[np.int_]
    tokens: Array

    @property
    def units(self) -> int:
        return len(self.log_params_R)

    def table(self, runs: RunTable) -> RunTable:
        """The last decade of compute of every curve, which the bias's surface is fitted to."""
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
        params, flops = np.exp(self.log_params_R)[:, None], np.exp(self.grid_G)
        params, flops = np.broadcast_arrays(params, flops)
        columns = {"params": params, "tokens": self.tokens, "flops": flops}
        loss = np.asarray(surface.loss(*(columns[name] for name in surface.inputs)))
        return np.where(np.isfinite(self.loss), loss, np.inf)

    def optima(self, loss_RG: Array, drawn_R: Array) -> Optima:
        """One optimum a size: the middle, in ln C, of where it is on the envelope.

        One point a size and not one a step: a power law through m whole stairs is too flat by
        1/m^2. The smallest and the largest size, and sizes whose stair is cut off by the end of a
        curve, have weight zero."""
        lowest = self._lowest(loss_RG, drawn_R)
        winner = np.where(lowest >= 0, self.size_R[lowest], -1)
        present = np.unique(self.size_R[drawn_R > 0])

        def covers(size: int, step: int) -> bool:
            return bool(np.isfinite(loss_RG[(self.size_R == size) & (drawn_R > 0), step]).any())

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
            elif before < 0 or not (covers(size, before) and covers(winner[before], on[0])):
                why = "the step where it passes a smaller size is not in the curves"
            elif len(winner) <= after or not (
                covers(size, after) and covers(winner[after], on[-1])
            ):
                why = "its curve ends before a larger size is better"
            x.append(float(self.grid_G[on].mean()))
            y.append(float(self.log_params_R[self.size_R == size].mean()))
            weight.append(0.0 if why else len(on) / len(winner))
            reasons.append(why)
        return np.array(x), np.array(y), np.array(weight), reasons

    def _lowest(self, loss_RG: Array, drawn_R: Array) -> NDArray[np.int_]:
        """The drawn run of the lowest loss at each step, -1 if none of them was there."""
        lowest = np.full(loss_RG.shape[1], -1)
        left = np.arange(loss_RG.shape[1])
        if loss_RG is self.loss:
            drawn_KG = drawn_R[self._best] > 0
            found = drawn_KG.any(axis=0)
            first = drawn_KG.argmax(axis=0)
            lowest[found] = self._best[first, np.arange(len(first))][found]
            left = np.flatnonzero(~found) if len(self._best) < len(loss_RG) else left[:0]
        if len(left):
            rows = np.flatnonzero(drawn_R > 0)
            lowest[left] = rows[loss_RG[np.ix_(rows, left)].argmin(axis=0)]
        there = lowest >= 0
        there[there] = np.isfinite(loss_RG[lowest[there], np.flatnonzero(there)])
        return np.where(there, lowest, -1)

    @cached_property
    def _best(self) -> NDArray[np.int_]:
        """The runs of the lowest losses at each step (K, G), lowest first: refits look at these."""
        kept = min(_BEST, len(self.loss))
        best = np.empty((kept, self.loss.shape[1]), dtype=np.int64)
        for step, column in enumerate(self.loss.T):
            rows = np.sort(np.argpartition(column, kept - 1)[:kept])
            best[:, step] = rows[np.argsort(column[rows], kind="stable")]
        return best

    def at(self, log_flops: Array) -> Array:
        return np.interp(log_flops, self.grid_G, self.loss.min(axis=0))

    def runs_at(self, log_params: Array) -> NDArray[np.int_]:
        near = np.isclose(self.log_params_R, log_params[:, None], atol=0.01)
        return np.asarray(near.sum(axis=1))


def from_frame(frame: pd.DataFrame, curves: CurveRows, factor: float) -> Curves:
    """The curves of the table's runs on one grid of ln C. Raises InputError.
    A branch's curve begins at its branch point, as what comes before is its trunk's."""
    known = known_columns(curves, ("loss", "train_loss"))
    missing = [name for name in ("run_id", "tokens") if name not in curves.columns]
    if missing or not known:
        raise InputError(
            f"the curves have no column {' or '.join(missing or ['loss', 'train_loss'])}",
            "curves need run_id, tokens and loss or train_loss, a row a logged step",
        )
    params_of = dict(zip(frame["run_id"].astype(str), frame["params"].astype(float), strict=True))
    parents = parents_of(frame)
    names = known_columns(curves, ("step", "tokens", "flops", "loss", "train_loss"))
    parent_rows = lru_cache(maxsize=_PARENTS)(partial(one_curve, curves, columns=names))
    found: list[tuple[float, str, tuple[Array, ...]]] = []
    for run_id, steps in each_curve(curves, names, params_of):
        column = next(
            (name for name in known if np.isfinite(steps[name].to_numpy(dtype=float)).sum() >= 5),
            known[-1],
        )
        trunk = parent_rows(parents[run_id]) if run_id in parents else None
        first = 0 if trunk is None else shared_rows(steps, trunk)
        tokens, loss = steps["tokens"].to_numpy(dtype=float), steps[column].to_numpy(dtype=float)
        own = factor * params_of[run_id] * tokens
        if "flops" in steps:
            own = steps["flops"].to_numpy(dtype=float)
        good = np.isfinite(loss) & (loss > 0) & (tokens > 0) & (own > 0)
        before = np.flatnonzero(good[:first])
        good[before[:-1]] = False  # the last one stays: the branch point
        if good[first:].any() and good.sum() >= 2:
            thinned = _thinned(np.log(own[good]), np.log(loss[good]), np.log(tokens[good]))
            found.append((params_of[run_id], run_id, thinned))
    found.sort(key=lambda one: one[:2])
    params, thinned_R = [one[0] for one in found], [one[2] for one in found]
    if len(params) < _LEAST:
        raise InputError(
            f"the envelope needs the curves of {_LEAST} sizes or more, and {len(params)} runs of "
            "the table have one",
            "give curves whose run_id is the table's; or take llmscale fit TABLE --method "
            "parametric",
        )
    ends = [(one[0][0], one[0][-1]) for one in thinned_R]
    grid = np.linspace(np.min(ends), np.max(ends), _STEPS)
    loss_RG, tokens_RG = np.full((len(params), _STEPS), np.inf), np.ones((len(params), _STEPS))
    for row, (x, log_loss, log_tokens) in enumerate(thinned_R):
        inside = (grid >= x[0]) & (grid <= x[-1])
        loss_RG[row, inside] = np.exp(np.interp(grid[inside], x, log_loss))
        tokens_RG[row] = np.exp(np.interp(grid, x, log_tokens))
    return Curves(grid, loss_RG, np.log(params), levels(np.array(params)), tokens_RG)


def of_results(table: RunTable) -> CurveFile | None:
    """The curves of a results folder, None for other tables."""
    path = ResultsFolder(table.path).curves_path
    return CurveFile(path) if table.path.is_dir() and path.is_file() else None


def _thinned(log_flops: Array, *others: Array) -> tuple[Array, ...]:
    """The columns of one curve in order of compute, averaged within bins of ln C."""
    order = np.argsort(log_flops, kind="stable")
    bin_of = np.unique(np.floor(log_flops[order] / _BIN), return_inverse=True)[1]
    counts = np.bincount(bin_of)
    columns = (log_flops, *others)
    return tuple(np.bincount(bin_of, weights=column[order]) / counts for column in columns)
