"""Chances that are the same on every machine: whole numbers of 2^-32, drawn from PCG64's own bits.

Only additions, multiplications, divisions and roots are used, which IEEE 754 rounds alike
everywhere; logarithms and powers differ between libraries in their last digit, and numpy does not
promise that the distributions of its Generator stay as they are (NEP 19). Bits of PCG64 do."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS: Final = 32
UNITS: Final = 1 << BITS
"""The chances of a row are whole numbers that add up to this."""
_LN2: Final = 0.6931471805599453
_LOG_TERMS, _EXP_TERMS = 11, 14
Array = NDArray[np.float64]


class Draws:
    """Random numbers of one seed; the same seed and path give the same ones."""

    def __init__(self, *path: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(list(path)))

    def units(self, *shape: int) -> NDArray[np.int64]:
        """Whole numbers from 0 to 2^32 - 1."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return (raw >> np.uint64(64 - BITS)).astype(np.int64).reshape(shape)

    def uniforms(self, *shape: int) -> Array:
        """Numbers above 0 and below 1."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(12)).astype(np.float64) + 0.5).reshape(shape) * 2.0**-52

    def permutation(self, count: int) -> NDArray[np.intp]:
        """The numbers below `count`, shuffled."""
        return np.argsort(self.uniforms(count), kind="stable")

    def gammas(self, shapes: Array) -> Array:
        """One gamma variate for each of the positive `shapes`, by Marsaglia and Tsang (2000)."""
        flat = shapes.ravel()
        d = np.where(flat < 1, flat + 1, flat) - 1 / 3
        found = np.zeros(len(flat))
        left = np.arange(len(flat))
        while len(left):
            x, u = self._normals(len(left)), self.uniforms(len(left))
            v = 1 + x / np.sqrt(9 * d[left])
            v = v * v * v
            positive = np.where(v > 0, v, 1.0)
            bound = 0.5 * x * x + d[left] * (1 - v + log(positive))
            taken = (v > 0) & (log(u) < bound)
            found[left[taken]] = (d[left] * v)[taken]
            left = left[~taken]
        # A variate of a shape below 1 is one of that shape and 1, times a power of a uniform.
        powers = exp(log(self.uniforms(len(flat))) / np.minimum(flat, 1.0))
        return np.where(flat < 1, found * powers, found).reshape(shapes.shape)

    def _normals(self, count: int) -> Array:
        """Standard normal variates, by Marsaglia's polar method."""
        found = np.zeros(count)
        left = np.arange(count)
        while len(left):
            x = 2 * self.uniforms(len(left)) - 1
            y = 2 * self.uniforms(len(left)) - 1
            square = x * x + y * y
            taken = (square < 1) & (square > 0)
            inside = square[taken]
            found[left[taken]] = x[taken] * np.sqrt(-2 * log(inside) / inside)
            left = left[~taken]
        return found


def log(x: Array) -> Array:
    """The natural logarithm of positive numbers, alike on every machine."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, 2 * mantissa, mantissa)
    s = (mantissa - 1) / (mantissa + 1)
    series = np.zeros_like(s)
    for term in reversed(range(_LOG_TERMS)):
        series = series * (s * s) + 1 / (2 * term + 1)
    return (exponent - low) * _LN2 + 2 * s * series


def exp(x: Array) -> Array:
    """e to the power of numbers, alike on every machine; 0 below the smallest."""
    clipped = np.maximum(x, -744.0)
    doublings = np.rint(clipped / _LN2)
    rest = clipped - doublings * _LN2
    series = np.ones_like(rest)
    for term in reversed(range(1, _EXP_TERMS)):
        series = 1 + series * rest / term
    return np.where(x < -744.0, 0.0, np.ldexp(series, doublings.astype(np.int64)))


def zipf(count: int, exponent: float) -> Array:
    """Weights rank^-exponent of `count` ranks, which add up to 1."""
    weights = exp(-exponent * log(np.arange(1.0, count + 1)))
    return weights / total(weights)


def total(weights: Array) -> Array:
    """The sum over the last axis, added one by one: numpy's own sum groups as the processor
    likes."""
    return np.add.accumulate(weights, axis=-1)[..., -1:]


def in_units(weights: Array) -> NDArray[np.int64]:
    """Rows of weights as whole numbers that add up to UNITS; what rounding leaves goes to the
    largest of a row."""
    rows = np.atleast_2d(weights)
    units = np.floor(rows / total(rows) * UNITS).astype(np.int64)
    largest = rows.argmax(axis=-1)
    units[np.arange(len(units)), largest] += UNITS - units.sum(axis=-1)
    return units.reshape(weights.shape)
