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
from llmscale.explain.page.widening import numbers

COLUMNS = ("flops", "params", "params_low", "params_high", "tokens", "tokens_low", "tokens_high")
"""Of which there are natural logs."""
ENDS = ("below", "above")
"""How far the ends of the loss's interval are from it, as shares of the loss. The loss itself is
that of the grid at N and D."""
_ROUND = (1.0, 2.0, 5.0)
"""Times powers of ten: budgets that people ask for, at which nothing is interpolated."""
_LEAST_STEP = 1e-3
"""Between budgets at which an interval jumps, since another lowest point is the nearest."""
_MOST = 700
"""Budgets at most."""
_OFF = np.array([np.inf, 1e-4, 0.003, 0.003, 1e-4, 0.003, 0.003, 3e-4, 3e-4])
"""By how much a straight line may be off, of N and D and of the ends of intervals, which bend more.
Between two budgets the page reckons the interval of the loss itself, and draws by these."""

Best = Callable[[float], Optimum]


@dataclass(frozen=True)
class Frontier:
    """One row a budget, in the order of COLUMNS and ENDS."""

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
        return {name: numbers(self.rows[:, place]) for place, name in enumerate((*COLUMNS, *ENDS))}


def frontier(best: Best, flops: tuple[float, float]) -> Frontier:
    """The frontier between two budgets."""
    low, high = flops
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    asked = sorted(float(f"{times:g}e{power}") for power in powers for times in _ROUND)
    within = [one for one in asked if low < one < high]
    rows = [_row(best, one) for one in (low, *within, high)]
    pieces = list(itertools.pairwise(rows))
    while pieces and len(rows) < _MOST:
        left, right = pieces.pop(0)
        middle = _row(best, math.exp(0.5 * (left[0] + right[0])))
        rows.append(middle)
        if _bent(left, middle, right):
            pieces += [(left, middle), (middle, right)]
    return Frontier(np.array(sorted(rows, key=lambda row: float(row[0]))))


def _row(best: Best, flops: float) -> Array:
    found = best(flops)
    nothing = (math.nan, math.nan)
    ends = {name: found.intervals.get(name, nothing) for name in ("params", "tokens", "loss")}
    counts = [found.flops, found.params, *ends["params"], found.tokens, *ends["tokens"]]
    low, high = ends["loss"]
    with np.errstate(all="ignore"):
        shares = [1.0 - low / found.loss, high / found.loss - 1.0]
        return np.concatenate([np.log(counts), shares])


def _bent(left: Array, middle: Array, right: Array) -> bool:
    """Whether a straight line from left to right misses what is in the middle."""
    if right[0] - left[0] < _LEAST_STEP:
        return False
    # NaN, of a fit without intervals, is no bend.
    return bool((np.abs(middle - 0.5 * (left + right)) > _OFF).any())
