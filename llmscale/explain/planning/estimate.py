"""A number of a plan with its interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array

Ends = tuple[float, float]
_ANY = "any"
"""What stands for an end that nothing bounds."""


@dataclass(frozen=True)
class Estimate:
    """A value, and the ends of its interval: NaN if there is none, infinite if nothing bounds
    it."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    def __str__(self) -> str:
        return self.written(lambda value: f"{value:.4g}")

    def to_json(self) -> dict[str, Any]:
        """The value and the ends of its interval; the interval is null if there is none, and an end
        is "any" if nothing bounds it."""
        ends = [end if math.isfinite(end) else _ANY for end in (self.low, self.high)]
        return {"value": self.value, "interval": ends if self.has_interval else None}

    def times(self, factor: float) -> "Estimate":
        """So many times the value and the ends of its interval."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high)

    def plus(self, other: "Estimate") -> "Estimate":
        """The sum of two that err independently; the interval of one if only one has any."""
        below, above = self.value - self.low, self.high - self.value
        if other.has_interval:
            below = math.hypot(below, other.value - other.low)
            above = math.hypot(above, other.high - other.value)
        value = self.value + other.value
        return Estimate(value, value - below, value + above)

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two that err independently."""
        return self.plus(Estimate(-other.value, -other.high, -other.low))

    def written(self, write: Callable[[float], str]) -> str:
        """`8.35B [7.71B, 8.97B]`, with each number as `write` writes it."""
        if not self.has_interval:
            return write(self.value)
        low, high = (write(end) if math.isfinite(end) else _ANY for end in (self.low, self.high))
        return f"{write(self.value)} [{low}, {high}]"


def ends_of(answers_B: Array, level: float) -> Ends:
    """The ends of the central interval; refits that have no answer (NaN) are left out, and an
    infinite answer is one."""
    told = np.sort(answers_B[~np.isnan(answers_B)])
    if not len(told):
        return math.nan, math.nan
    tail = 0.5 * (1.0 - level)
    # No interpolation next to an infinite answer, which would be NaN.
    method = "linear" if np.isfinite(told).all() else "nearest"
    low, high = np.quantile(told, [tail, 1.0 - tail], method=method)  # type: ignore[call-overload]
    return float(low), float(high)
