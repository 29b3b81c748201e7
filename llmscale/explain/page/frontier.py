"""The best run of every budget, with its intervals, at so many budgets that straight lines in
between are as good as the law."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.laws import Array
from llmscale.explain.page.loss_grid import numbers

COLUMNS = ("flops", "params", "params_low", "params_high", "tokens", "tokens_low", "tokens_high")
LOSSES = ("loss", "low", "high")
_FIRST_STEP = math.log(10.0) / 4.0
_LEAST_STEP = 1e-3
"""Between budgets at which an interval jumps, since another lowest point is the nearest."""
_MOST = 700
"""Budgets at most."""
_OFF = np.array([np.inf, 1e-4, 0.005, 0.005, 1e-4, 0.005, 0.005, 1e-5, 2e-4, 2e-4])
"""By how much a straight line may be off, of N, D and the loss and of the ends of intervals, which
bend more: a share of each."""

Best = Callable[[float], Optimum]


@dataclass(frozen=True)
class Frontier:
    """Natural logs of C, N and D, and of the losses, with the ends of the intervals: one row a
    budget, in the order of COLUMNS and LOSSES."""

    rows: Array

    @property
    def flops(self) -> tuple[float, float]:
        """The least budget and the largest."""
        return float(np.exp(self.rows[0, 0])), float(np.exp(self.rows[-1, 0]))

    def ends_of(self, column: str) -> tuple[float, float]:
        """The least and the largest value of N or D."""
        values = np.exp(self.rows[:, COLUMNS.index(column)])
        return float(values.min()), float(values.max())

    def to_json(self) -> dict[str, Any]:
        return {
            name: numbers(self.rows[:, place]) for place, name in enumerate((*COLUMNS, *LOSSES))
        }


def frontier(best: Best, flops: tuple[float, float]) -> Frontier:
    """The frontier between two budgets."""
    low, high = map(math.log, flops)
    steps = max(math.ceil((high - low) / _FIRST_STEP), 1)
    rows = [_row(best, place) for place in np.linspace(low, high, steps + 1)]
    pieces = list(itertools.pairwise(rows))
    while pieces and len(rows) < _MOST:
        left, right = pieces.pop(0)
        middle = _row(best, 0.5 * (left[0] + right[0]))
        rows.append(middle)
        if _bent(left, middle, right):
            pieces += [(left, middle), (middle, right)]
    return Frontier(np.array(sorted(rows, key=lambda row: float(row[0]))))


def _row(best: Best, log_flops: float) -> Array:
    found = best(math.exp(log_flops))
    nothing = (math.nan, math.nan)
    ends = {name: found.intervals.get(name, nothing) for name in ("params", "tokens", "loss")}
    counts = [found.flops, found.params, *ends["params"], found.tokens, *ends["tokens"]]
    with np.errstate(all="ignore"):
        return np.concatenate([np.log(counts), [found.loss, *ends["loss"]]])


def _bent(left: Array, middle: Array, right: Array) -> bool:
    """Whether a straight line from left to right misses what is in the middle."""
    if right[0] - left[0] < _LEAST_STEP:
        return False
    size = np.ones(len(middle))
    size[len(COLUMNS) :] = np.abs(middle[len(COLUMNS)])
    # NaN, of a fit without intervals, is no bend.
    return bool((np.abs(middle - 0.5 * (left + right)) > _OFF * size).any())
