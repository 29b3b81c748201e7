"""How runs scatter about `anchored`: of what size, how well that is known, and what a run counts
that lies far off."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array

LEAST_NOISE = 1e-4
"""Residuals below this share of the loss are rounding."""
_TAIL = 8.0
"""Degrees of freedom of the residuals' distribution: a run that is far off counts hardly at all."""
_USUAL, _USUAL_RUNS = 0.002, 3.0
"""Noise that is usual on public tables, and of how many runs that is worth."""


def improbable(miss: Any) -> Any:
    """Minus the logarithm of the density of Student's t of residuals in units of the noise, 0 at 0:
    half the square of those that are small."""
    return 0.5 * _TAIL * np.log1p(miss**2 / _TAIL)


def counting(miss: Any) -> Any:
    """What a residual of this size counts, next to a small one."""
    return _TAIL / (_TAIL + miss**2)


@dataclass(frozen=True)
class Noise:
    """A standard deviation of ln L, and of how many degrees of freedom that is."""

    scale: float
    degrees: float

    def factors(self, count: int, rng: np.random.Generator) -> Array:
        """By how much the noise may be larger, in draws: (count,)."""
        return np.sqrt(self.degrees / rng.chisquare(self.degrees, count))


def noise_of(residual: Array, weight: Array, independent: float, coefficients: float) -> Noise:
    """From the weighted median of |residual|. Few runs are nearer to the law than they would be to
    the truth, since it was fitted to them: what the `coefficients` took is given back, and the
    usual noise stands in as if it had been seen on three runs more."""
    size = np.abs(residual)
    order = np.argsort(size, kind="stable")
    reached = np.cumsum(weight[order])
    middle = size[order][np.searchsorted(reached, 0.5 * reached[-1])]
    runs = float(weight.sum() ** 2 / (weight**2).sum()) * independent
    degrees = max(runs - coefficients, 0.0) + _USUAL_RUNS
    square = runs * (1.4826 * middle) ** 2 + _USUAL_RUNS * _USUAL**2
    return Noise(max(float(np.sqrt(square / degrees)), LEAST_NOISE), degrees)
