"""The solver's half of Farseer's law, in coordinates in which it is nearly straight.

a N^power + b is steered by a, b and power alike, along long curved valleys. The same function of N
given by its values at the smallest and the largest size, and by how it bends between them, is not;
and at power 0, where a and b are infinite, it passes smoothly through the logarithm (Box & Cox
1964)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Law, Surface
from llmscale.explain.laws._formula import Formula

_NEARLY_LOGARITHM = 1e-4
_SMALLEST_POWER = 1e-7
"""Below, a N^power + b would lose more to rounding than it gains."""
_EXPONENTS = (1e-6, 10.0)
_SMALLEST_TERM, _LARGEST_TERM = 37.0, 3.0
"""In ln L: a floor this far below the lowest loss counts for nothing, none is further above."""
_STEEPEST = 5.0
"""Powers of N: the paper's are below 0.2; beyond 5 a N^power is a step at the last size."""
_BLOCKS = ((0, 1, 2), (3, 4, 5), (6, 7, 8))
"""Where a, b and power of each function of N are in Farseer, and low, high and power below."""


@dataclass(frozen=True)
class Ends(Law):
    """ln of D's exponent, of the amplitude at the middle D and of the floor, at both ends; bends.
    Its inputs are ln(N/N_low), ln(N_high/N_low), ln(D/D_middle) and ln D_middle."""

    exponent_low: float
    exponent_high: float
    alpha: float
    amplitude_low: float
    amplitude_high: float
    beta: float
    floor_low: float
    floor_high: float
    gamma: float

    inputs = ("rise", "whole", "log_D", "log_middle")
    signed = (
        *("exponent_low", "exponent_high", "alpha"),
        *("amplitude_low", "amplitude_high", "beta"),
        *("floor_low", "floor_high", "gamma"),
    )

    def loss(self, *inputs: Any) -> Any:
        rise, whole, log_D, log_middle = inputs
        exponent = np.exp(_between(self.exponent_low, self.exponent_high, self.alpha, rise, whole))
        low = self.amplitude_low + np.exp(self.exponent_low) * log_middle
        high = self.amplitude_high + np.exp(self.exponent_high) * log_middle
        amplitude = _between(low, high, self.beta, rise, whole) - exponent * (log_D + log_middle)
        floor = _between(self.floor_low, self.floor_high, self.gamma, rise, whole)
        return np.exp(floor) + np.exp(amplitude)

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Exponents of D from 0.05 to 1, floors below the least loss, amplitudes from the runs."""
        rise, whole, log_D, _ = inputs
        raw_SK = np.empty_like(unit_SK)
        for end, near in enumerate((2 * rise <= whole, 2 * rise >= whole)):
            raw_SK[:, 0 + end] = np.log(0.05 * 20.0 ** unit_SK[:, 0 + end])
            floor_S = loss[near].min() * (0.05 + 0.93 * unit_SK[:, 6 + end])
            raw_SK[:, 6 + end] = np.log(floor_S)
            above = np.log(np.exp(np.log(loss[near]).mean()) - floor_S)
            raw_SK[:, 3 + end] = above + np.exp(raw_SK[:, 0 + end]) * log_D[near].mean()
        raw_SK[:, [2, 5, 8]] = unit_SK[:, [2, 5, 8]] - 0.5
        return raw_SK


class FarseerSurface(Surface):
    """`Formula` on the coordinates above, with Farseer's own coefficients."""

    centred = False

    def __init__(self, inputs: Sequence[Array], loss: Array) -> None:
        N, D = inputs
        self._log_low = float(np.log(N.min()))
        self._whole = float(np.log(N.max())) - self._log_low or 1.0
        self._log_middle = float(np.log(D).mean())
        whole, log_middle = np.full(len(N), self._whole), np.full(len(N), self._log_middle)
        columns = [np.log(N) - self._log_low, whole, np.log(D) - self._log_middle, log_middle]
        self._inner = Formula(Ends, {}, columns, loss)
        self._inner.lower, self._inner.upper = self._bounds(loss)
        self.lower, self.upper = self._inner.lower, self._inner.upper
        self.vanishing = self._inner.vanishing

    def _bounds(self, loss: Array) -> tuple[Array, Array]:
        """Where each coordinate stays: along its ridges Farseer would go beyond floats."""
        lower, upper = np.empty(9), np.empty(9)
        lower[[0, 1]], upper[[0, 1]] = np.log(_EXPONENTS)
        level = np.log(loss)
        # Amplitudes are those at the middle D, from which the runs at an end of N may lie far.
        lower[[3, 4]] = level.min() - 2 * _SMALLEST_TERM
        upper[[3, 4]] = level.max() + 2 * _SMALLEST_TERM
        lower[[6, 7]], upper[[6, 7]] = level.min() - _SMALLEST_TERM, level.max() + _LARGEST_TERM
        lower[[2, 5, 8]], upper[[2, 5, 8]] = -_STEEPEST, _STEEPEST
        return lower, upper

    def of_rows(self, rows_S: NDArray[np.int_]) -> "FarseerSurface":
        part = copy.copy(self)
        part._inner = self._inner.of_rows(rows_S)
        return part

    def starts(self, count: int) -> Array:
        return self._inner.starts(count)

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        return self._inner.evaluate(theta_BP)

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        return self._inner.derivatives(parts, first_BR, second_BR)

    def with_metric(
        self, parts: Any, first_BR: Array, second_BR: Array, weight_BR: Array
    ) -> tuple[Array, Array, Array]:
        return self._inner.with_metric(parts, first_BR, second_BR, weight_BR)

    def jacobian(self, theta_P: Array) -> Array:
        return self._inner.jacobian(theta_P)

    def coefficients(self, theta_BP: Array) -> Array:
        ends_BP = theta_BP.copy()
        ends_BP[:, [3, 4]] += np.exp(theta_BP[:, [0, 1]]) * self._log_middle
        raw_BK = np.empty_like(theta_BP)
        for a, b, power in _BLOCKS:
            bend = ends_BP[:, power]
            bend = np.where(np.abs(bend) < _SMALLEST_POWER, _SMALLEST_POWER, bend)
            at_low = np.exp(bend * self._log_low)
            raw_BK[:, a] = (ends_BP[:, b] - ends_BP[:, a]) / (at_low * np.expm1(bend * self._whole))
            raw_BK[:, b] = ends_BP[:, a] - raw_BK[:, a] * at_low
            raw_BK[:, power] = bend
        return raw_BK

    def theta(self, coefficients_BK: Array) -> Array:
        theta_BP = np.empty_like(coefficients_BK)
        for a, b, power in _BLOCKS:
            for place, log_N in ((a, self._log_low), (b, self._log_low + self._whole)):
                rising = coefficients_BK[:, a] * np.exp(coefficients_BK[:, power] * log_N)
                theta_BP[:, place] = rising + coefficients_BK[:, b]
            theta_BP[:, power] = coefficients_BK[:, power]
        theta_BP[:, [3, 4]] -= np.exp(theta_BP[:, [0, 1]]) * self._log_middle
        return theta_BP


def _between(low: Any, high: Any, power: Any, rise: Any, whole: Any) -> Any:
    """The function a N^power + b that is `low` where rise is 0 and `high` where it is `whole`."""
    series = (1 + power * rise / 2 + power**2 * rise**2 / 6) / (
        1 + power * whole / 2 + power**2 * whole**2 / 6
    )
    bent = np.expm1(power * rise) / np.expm1(power * whole)
    share = np.where(abs(power) < _NEARLY_LOGARITHM, rise / whole * series, bent)
    return low + (high - low) * share
