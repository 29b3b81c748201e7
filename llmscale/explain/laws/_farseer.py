"""The solver's half of Farseer's law, in coordinates in which it is nearly straight: each of its
three functions of N by its values at the smallest and the largest size, and how it bends between
them (see _between.py)."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Surface, points_of
from llmscale.explain.laws._between import Between, expanded
from llmscale.explain.laws._farseer_ends import Ends
from llmscale.explain.laws._following import Follower, Following
from llmscale.explain.laws._formula import Formula

_SMALLEST_POWER = 1e-7
"""Below, a N^power + b would lose more to rounding than it gains."""
_EXPONENTS = (1e-6, 10.0)
_SMALLEST_TERM, _LARGEST_TERM = 37.0, 3.0
"""In ln L: a floor this far below the lowest loss counts for nothing, none is further above."""
_STEEPEST = 5.0
"""Powers of N: the paper's are below 0.2; beyond 5 a N^power is a step at the last size."""
_FEW = 64
"""Up to so many sizes, sums are made size by size."""
_BLOCKS = ((0, 1, 2), (3, 4, 5), (6, 7, 8))
"""Where a, b and power of each function of N are in Farseer, and low, high and power below."""


_Slopes: TypeAlias = tuple[Array, Array, Array]
_OfSize: TypeAlias = tuple[Between, Between, Between]


class _Parts(NamedTuple):
    """What derivatives need: theta (B, 9), the functions of size, and the floor's share in the loss
    (B, R)."""

    theta_BP: Array
    of_size: _OfSize
    floor_share_BR: Array


class FarseerSurface(Surface):
    """ln L at R runs of S sizes, on the coordinates above.

    L = e^floor + e^amplitude D^-exponent, and all three hang on the size only: sums over runs of
    slopes need the sums over the runs of a size of a weight, and of it times ln D and its square.
    They are made for the amplitude at D = 1, and brought to that at the middle D at the end."""

    centred = False

    def __init__(self, inputs: Sequence[Array], loss: Array) -> None:
        N, D = inputs
        self._log_low = float(np.log(N.min()))
        self._whole = float(np.log(N.max())) - self._log_low or 1.0
        self._log_middle = float(np.log(D).mean())
        self._log_N, self._log_D = np.log(N), np.log(D)
        self._loss = loss
        self.lower, self.upper = self._bounds(loss)
        self.vanishing = np.zeros(len(self.lower), dtype=bool)
        self._sort_by_size()

    def _sort_by_size(self) -> None:
        log_N_S, self._size_R = np.unique(self._log_N, return_inverse=True)
        self._is_of_size = np.eye(len(log_N_S))[self._size_R] if len(log_N_S) <= _FEW else None
        if self._is_of_size is None:
            log_N_S, self._size_R = self._log_N, np.arange(len(self._log_N))
        self._rise_S = log_N_S - self._log_low

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

    @property
    def points(self) -> NDArray[np.int_]:
        return points_of([self._log_N, self._log_D])

    def of_rows(self, rows_S: NDArray[np.int_]) -> "FarseerSurface":
        part = copy.copy(self)
        part._log_N, part._log_D = self._log_N[rows_S], self._log_D[rows_S]
        part._loss = self._loss[rows_S]
        part._sort_by_size()
        return part

    def with_fixed(self, values: Mapping[int, float]) -> Surface:
        """Of a function of N whose a is fixed the low end follows from the others, if b is the
        high end, and if both are both. Powers are coordinates themselves."""
        followers: list[Follower] = []
        for block, (a, b, _) in enumerate(_BLOCKS):
            for index in {a, b} & set(values):
                followers.append((index, partial(self._end, block, index, values)))
        return Following(self, followers)

    def _end(
        self, block: int, index: int, values: Mapping[int, float], theta: Sequence[Any]
    ) -> Any:
        """An end of a function of N, at the middle D, of which a, b or both are known."""
        a, b, power = _BLOCKS[block]
        is_low = index == a
        log_N = self._log_low if is_low else self._log_low + self._whole
        bent = theta[power]
        if a in values and b in values:
            at_one = values[a] * np.exp(bent * log_N) + values[b]
        elif is_low:
            rise = np.exp(bent * self._log_low) * np.expm1(bent * self._whole)
            at_one = theta[b] + self._above(block, 1, theta) - values[a] * rise
        else:
            low = theta[a] + self._above(block, 0, theta)
            at_one = values[b] + (low - values[b]) * np.exp(bent * self._whole)
        return at_one - self._above(block, 0 if is_low else 1, theta)

    def _above(self, block: int, end: int, theta: Sequence[Any]) -> Any:
        """How far a function is higher at D = 1 than at the middle D: only the amplitude is."""
        return np.exp(theta[end]) * self._log_middle if block == 1 else 0.0

    def starts(self, count: int) -> Array:
        whole = np.full(len(self._loss), self._whole)
        log_middle = np.full(len(self._loss), self._log_middle)
        log_D = self._log_D - self._log_middle
        columns = [self._log_N - self._log_low, whole, log_D, log_middle]
        ends = Formula(Ends, {}, columns, self._loss)
        ends.lower, ends.upper = self.lower, self.upper
        return ends.starts(count)

    def evaluate(self, theta_BP: Array) -> tuple[Array, _Parts]:
        with np.errstate(all="ignore"):
            of_size = self._of_size(theta_BP)
            exponent, amplitude, floor = (part.value for part in of_size)
            excess = self._at_runs(amplitude - floor)
            excess -= self._at_runs(np.exp(exponent)) * self._log_D
            odds = np.exp(excess)
            value = self._at_runs(floor) + np.log1p(odds)
            return value, _Parts(theta_BP, of_size, 1.0 / (1.0 + odds))

    def derivatives(self, parts: _Parts, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        slopes = self._slopes(parts.of_size)
        return self._derivatives(parts, slopes, first_BR, second_BR)

    def with_metric(
        self, parts: _Parts, first_BR: Array, second_BR: Array, weight_BR: Array
    ) -> tuple[Array, Array, Array]:
        slopes = self._slopes(parts.of_size)
        floor = parts.floor_share_BR
        rest = 1.0 - floor
        weighted = weight_BR * rest
        metric = self._products(slopes, weighted * rest, weighted * floor, weight_BR * floor**2)
        metric = self._to_middle(metric, parts.theta_BP)
        return *self._derivatives(parts, slopes, first_BR, second_BR), metric

    def jacobian(self, theta_P: Array) -> Array:
        _, parts = self.evaluate(theta_P[None])
        exponent, amplitude, floor = (part[0] for part in self._slopes(parts.of_size))
        floor_R, size_R = parts.floor_share_BR[0], self._size_R
        rest_R = 1.0 - floor_R
        jacobian = [
            -exponent[:, size_R] * self._log_D * rest_R,
            amplitude[:, size_R] * rest_R,
            floor[:, size_R] * floor_R,
        ]
        slope_PR = np.concatenate(jacobian)
        slope_PR[:2] += self._shift(theta_P[None])[0][:, None] * slope_PR[3:5]
        return slope_PR.T

    def _of_size(self, theta_BP: Array) -> _OfSize:
        """ln of D's exponent, of the amplitude at D = 1 and of the floor, at each size."""
        theta, problems = theta_BP.T.copy(), len(theta_BP)
        theta[3:5] += self._shift(theta_BP).T
        low, high, power = (theta[place::3].ravel() for place in range(3))
        every = expanded(low, high, power, self._rise_S, self._whole)
        exponent, amplitude, floor = (
            every[first : first + problems] for first in range(0, 3 * problems, problems)
        )
        return exponent, amplitude, floor

    def _shift(self, theta_BP: Array) -> Array:
        """How far the amplitude at D = 1 lies above that at the middle D, at both ends: (B, 2)."""
        return np.asarray(np.exp(theta_BP[:, :2]) * self._log_middle)

    def _at_runs(self, values_BS: Array) -> Array:
        return values_BS[:, self._size_R]

    def _slopes(self, of_size: _OfSize) -> _Slopes:
        """The slopes (B, 3, S) of exponent, amplitude and floor in their own ends and power."""
        exponent, amplitude, floor = of_size
        with np.errstate(all="ignore"):
            return np.exp(exponent.value)[:, None] * exponent.slope, amplitude.slope, floor.slope

    def _derivatives(
        self, parts: _Parts, slopes: _Slopes, first_BR: Array, second_BR: Array
    ) -> tuple[Array, Array]:
        floor_BR = parts.floor_share_BR
        with np.errstate(all="ignore"):
            rest_BR = 1.0 - floor_BR
            of_amplitude, of_floor = first_BR * rest_BR, first_BR * floor_BR
            # ln(e^floor + e^amplitude) bends where both count.
            both_BR, share_BR = of_amplitude * floor_BR, second_BR * rest_BR
            hessian = self._products(
                slopes,
                share_BR * rest_BR + both_BR,
                share_BR * floor_BR - both_BR,
                second_BR * floor_BR**2 + both_BR,
            )
            sums = self._by_size(-of_amplitude * self._log_D, of_amplitude, of_floor)
            along = zip(slopes, sums, strict=True)
            gradient = np.concatenate([_dot(slope, weight) for slope, weight in along], axis=1)
            self._add_bends(hessian, parts.of_size, slopes, sums)
            hessian = self._to_middle(hessian, parts.theta_BP)
            shift_B2 = self._shift(parts.theta_BP)
            pulled_B2 = shift_B2 * gradient[:, 3:5]
            gradient[:, :2] += pulled_B2
            hessian[:, [0, 1], [0, 1]] += pulled_B2
        return gradient, hessian

    def _add_bends(
        self, hessian: Array, of_size: _OfSize, slopes: _Slopes, sums: Sequence[Array]
    ) -> None:
        """Add the second derivatives of exponent, amplitude and floor, times weights summed by
        size."""
        exponent, amplitude, floor = of_size
        falling = slopes[0]
        of_exponent, of_amplitude, of_floor = sums
        bends = exponent.bend(of_exponent * np.exp(exponent.value))
        # The second derivative of e^x is itself.
        hessian[:, :3, :3] += bends + (falling * of_exponent[:, None]) @ _turned(exponent.slope)
        hessian[:, 3:6, 3:6] += amplitude.bend(of_amplitude)
        hessian[:, 6:, 6:] += floor.bend(of_floor)

    def _products(self, slopes: _Slopes, both_BR: Array, mixed_BR: Array, floor_BR: Array) -> Array:
        """Sums over runs of slope times slope: `both_BR` weighs pairs of the amplitude's and
        exponent's, `floor_BR` of the floor's, `mixed_BR` of one of either: (B, 9, 9)."""
        falls = -self._log_D
        both_falls_BR = both_BR * falls
        sums = self._by_size(
            both_BR, both_falls_BR, both_falls_BR * falls, mixed_BR, mixed_BR * falls, floor_BR
        )
        once, falling, twice, mixed, mixed_falling, of_floor = (part[:, None] for part in sums)
        exponent, amplitude, floor = slopes
        blocks = (
            (0, 0, (exponent * twice) @ _turned(exponent)),
            (1, 0, (amplitude * falling) @ _turned(exponent)),
            (1, 1, (amplitude * once) @ _turned(amplitude)),
            (2, 0, (floor * mixed_falling) @ _turned(exponent)),
            (2, 1, (floor * mixed) @ _turned(amplitude)),
            (2, 2, (floor * of_floor) @ _turned(floor)),
        )
        product = np.empty((len(both_BR), 9, 9))
        for row, column, block in blocks:
            rows, columns = slice(3 * row, 3 * row + 3), slice(3 * column, 3 * column + 3)
            product[:, rows, columns] = block
            product[:, columns, rows] = _turned(block)
        return product

    def _to_middle(self, matrix_BPP: Array, theta_BP: Array) -> Array:
        """A form in theta, from the same for the amplitude at D = 1, whose ends rise with the
        exponent's."""
        shift_B2 = self._shift(theta_BP)
        matrix_BPP[:, :2] += shift_B2[:, :, None] * matrix_BPP[:, 3:5]
        matrix_BPP[:, :, :2] += shift_B2[:, None] * matrix_BPP[:, :, 3:5]
        return matrix_BPP

    def _by_size(self, *weights_BR: Array) -> Sequence[Array]:
        """Each summed over the runs of a size, (B, S)."""
        if self._is_of_size is None:
            return weights_BR
        return [weight_BR @ self._is_of_size for weight_BR in weights_BR]

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


def _dot(slope_BKS: Array, sums_BS: Array) -> Array:
    return (slope_BKS @ sums_BS[:, :, None])[..., 0]


def _turned(matrix_BKS: Array) -> Array:
    return matrix_BKS.transpose(0, 2, 1)
