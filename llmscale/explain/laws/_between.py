"""a N^power + b, given by its values at the smallest and the largest size.

a N^power + b is steered by a, b and power alike, along long curved valleys. The same function of N
given by its values at both ends, and by how it bends between them, is not; and at power 0, where a
and b are infinite, it passes smoothly through the logarithm (Box & Cox 1964)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array

_NEARLY_LOGARITHM = 1e-4


def between(low: Any, high: Any, power: Any, rise: Any, whole: Any) -> Any:
    """The function that is `low` where rise = ln(N/N_low) is 0, and `high` where it is `whole`."""
    series = _series(power, rise) / _series(power, whole)
    bent = np.expm1(power * rise) / np.expm1(power * whole)
    share = np.where(abs(power) < _NEARLY_LOGARITHM, rise / whole * series, bent)
    return low + (high - low) * share


@dataclass(frozen=True)
class Between:
    """That function at S sizes for B problems: its value (B, S), its slopes in low, high and power
    (B, 3, S), and its bends, which there are in power and low or high, and in power twice."""

    value: Array
    slope: Array
    power_high: Array
    power_twice: Array

    def __getitem__(self, problems: slice) -> "Between":
        value, slope = self.value[problems], self.slope[problems]
        return Between(value, slope, self.power_high[problems], self.power_twice[problems])

    def bend(self, weight_BS: Array) -> Array:
        """The sum over sizes of weight times the second derivatives: (B, 3, 3)."""
        bend_B33 = np.zeros((len(weight_BS), 3, 3))
        across = (weight_BS * self.power_high).sum(axis=1)
        bend_B33[:, 1, 2] = bend_B33[:, 2, 1] = across
        bend_B33[:, 0, 2] = bend_B33[:, 2, 0] = -across
        bend_B33[:, 2, 2] = (weight_BS * self.power_twice).sum(axis=1)
        return bend_B33


def expanded(low_B: Array, high_B: Array, power_B: Array, rise_S: Array, whole: float) -> Between:
    """`between`, with its first and second derivatives."""
    low, difference, power = low_B[:, None], (high_B - low_B)[:, None], power_B[:, None]
    share, slope, bend = _share(power, rise_S, whole)
    slopes = np.stack([1.0 - share, share, difference * slope], axis=1)
    return Between(low + difference * share, slopes, slope, difference * bend)


def _share(power: Array, rise_S: Array, whole: float) -> tuple[Array, Array, Array]:
    """How much of the way is done at each rise, with derivatives in power."""
    above, below = _risen(power, rise_S), _risen(power, np.array([whole]))
    share = above[0] / below[0]
    slope = (above[1] - share * below[1]) / below[0]
    bend = (above[2] - 2.0 * slope * below[1] - share * below[2]) / below[0]
    return share, slope, bend


def _risen(power: Array, x: Array) -> Array:
    """expm1(power x), or that over power of small ones, with two derivatives in power."""
    less = np.expm1(power * x)
    bent = (less, x * (less + 1.0), x**2 * (less + 1.0))
    nearly = abs(power) < _NEARLY_LOGARITHM
    if not nearly.any():
        return np.stack(bent)
    near = (_series(power, x), x / 2 + power * x**2 / 3, x**2 / 3)
    pairs = zip(near, bent, strict=True)
    return np.stack([np.where(nearly, x * series, far) for series, far in pairs])


def _series(power: Any, x: Any) -> Any:
    """expm1(power x)/(power x) for small powers."""
    return 1 + power * x / 2 + power**2 * x**2 / 6
