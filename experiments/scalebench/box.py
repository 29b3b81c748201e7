"""Coefficients between bounds, as coordinates of one size: those of positive bounds in logarithms,
each centred between its bounds, which are at -2 and 2."""

from dataclasses import dataclass

import numpy as np

from llmscale.explain.laws import Array

EDGE = 2.0
"""Bounds are two standard deviations of a weak prior from the middle."""


@dataclass(frozen=True)
class Box:
    """Of P coefficients."""

    low: Array
    high: Array

    @property
    def logarithmic(self) -> Array:
        """(P,): whose lower bound is positive."""
        return np.asarray(self.low > 0)

    def coefficients(self, z: Array) -> Array:
        """(..., P) at coordinates z."""
        middle, size = self._middle_and_size
        at = middle + size * z
        return np.where(self.logarithmic, np.exp(np.where(self.logarithmic, at, 0.0)), at)

    def slopes(self, coefficients: Array) -> Array:
        """(..., P): of each coefficient in its coordinate."""
        _, size = self._middle_and_size
        return np.asarray(np.where(self.logarithmic, coefficients, 1.0) * size)

    @property
    def _middle_and_size(self) -> tuple[Array, Array]:
        low, high = (self._on_scale(ends) for ends in (self.low, self.high))
        return (low + high) / 2, (high - low) / (2 * EDGE)

    def _on_scale(self, values: Array) -> Array:
        return np.where(self.logarithmic, np.log(np.where(self.logarithmic, values, 1.0)), values)
