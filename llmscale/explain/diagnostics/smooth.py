"""The runs beside surfaces that bend as a law does, or more freely: what such a surface leaves is
no matter of the law's form.

Arrays are (R,) for R runs: ln loss less the law's, or the logarithm of a column."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.estimation.newton import unit_columns
from llmscale.explain.laws import Array
from llmscale.explain.table.doubts.least_absolute import least_absolute

Rows = NDArray[np.bool_]
_RUNS_A_COLUMN, _RUNS_A_SLOPE = 3, 2
"""Fewer runs for each column leave too little to judge by; without parabolas, fewer are enough."""
_ROUNDS, _SETTLED = 30, 1e-4
_QUANTILES = {0.5: 0.6745, 0.75: 1.1503}
"""Quantiles of |z| under Gaussian noise."""
_STARTS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the runs that are taken for the higher kind at first."""
_CALM = 3.0
"""Residuals beyond this many standard deviations weigh no more than those at it."""


@dataclass(frozen=True)
class Surface:
    """What is left of ln loss beside `columns` (R, K), which are orthonormal: the residuals `left`
    of the surface that most runs follow (least absolute deviations), and their robust `scale`."""

    columns: Array
    left: Array
    scale: float

    @property
    def spare(self) -> int:
        """Runs beyond the surface's columns."""
        return len(self.left) - self.columns.shape[1]

    def effects(self, shapes_GR: Array) -> tuple[Array, Array, Array]:
        """How much of each shape the runs show beside the surface, that over its standard error,
        and what share of the shape's square the surface cannot take up."""
        calm = np.clip(self.left, -_CALM * self.scale, _CALM * self.scale)
        calm = calm - self.columns @ (self.columns.T @ calm)
        own = shapes_GR - (shapes_GR @ self.columns) @ self.columns.T
        length, whole = (own**2).sum(axis=1), (shapes_GR**2).sum(axis=1)
        share = length / np.maximum(whole, 1e-300)
        length = np.where(share > 1e-12, length, np.inf)
        much = own @ calm / length
        # What is left of the residuals beside the surface and one shape.
        rest = float(calm @ calm) - much**2 * np.where(np.isfinite(length), length, 0.0)
        spread = np.sqrt(np.maximum(rest, 0.0) / max(self.spare - 1, 1))
        errors = much * np.sqrt(np.where(np.isfinite(length), length, 0.0))
        return much, errors / np.maximum(spread, 1e-12), share


def beside(residual: Array, jacobian: Array, bends: list[Array]) -> Surface | None:
    """The surface of a law's own slopes, a constant, and `bends`; None if runs are too few for
    it."""
    columns = np.stack([np.ones(len(residual)), *jacobian.T, *bends], axis=1)
    columns = basis(columns, 1e-4)
    least = _RUNS_A_COLUMN if bends else _RUNS_A_SLOPE
    if len(residual) < least * columns.shape[1]:
        return None
    left = residual - columns @ least_absolute(columns, residual)
    return Surface(columns, left, robust_scale(left, columns.shape[1]))


def parabolas(axes: Mapping[str, Array]) -> list[Array]:
    """Lines and parabolas in the logarithms of every column."""
    lines = [(logs - logs.mean()) / logs.std() for logs in axes.values()]
    return [*lines, *(one * other for i, one in enumerate(lines) for other in lines[i:])]


def basis(columns_RK: Array, tolerance: float = 1e-7) -> Array:
    """An orthonormal basis of what the columns span, (R, rank)."""
    if not columns_RK.shape[1]:
        return columns_RK
    left, singular, _ = np.linalg.svd(unit_columns(columns_RK), full_matrices=False)
    return np.asarray(left[:, singular > tolerance * singular[0]])


def robust_scale(residual: Array, coefficients: int) -> float:
    """Robust standard deviation, from the median and the upper quartile of absolute residuals,
    whichever is larger.

    The `coefficients` smallest are left out: a fit under a small Huber delta passes through about
    as many runs. The quartile guards against a median that is low by chance, and bears up to a
    quarter of outliers."""
    off = np.sort(np.abs(residual - np.median(residual)))
    rest = off[min(coefficients, len(off) - 1) :]
    return max(*(float(np.quantile(rest, share)) / z for share, z in _QUANTILES.items()), 1e-12)


@dataclass(frozen=True)
class TwoKinds:
    """Runs that follow one surface at two heights: which are of the higher kind, how far apart in
    ln loss, the scatter within each, and the ln likelihood that two have over one."""

    higher: Rows
    apart: float
    scatter: float
    gain: float


def two_kinds(surface: Surface, residual: Array) -> TwoKinds:
    """The likeliest split of the runs into two kinds: a mixture of two regressions that share their
    slopes (De Veaux 1989), from several starts."""
    one = _log_likelihood(surface.left**2, surface)
    found = [
        _settled(surface, residual, surface.left > np.quantile(surface.left, 1 - share), one)
        for share in _STARTS
    ]
    return max(found, key=lambda split: split.gain)


def _settled(surface: Surface, residual: Array, start: Rows, one: float) -> TwoKinds:
    """Expectation and maximisation from one start."""
    higher, Z = start.astype(float), surface.columns
    without = residual - Z @ (Z.T @ residual)
    for _ in range(_ROUNDS):
        # Least squares of [Z, higher], of which Z is orthonormal.
        along = Z.T @ higher
        length = max(float(higher.sum() - along @ along), 1e-9)
        apart = float(higher @ without) / length
        off = without + apart * (Z @ along)
        rest = higher * (off - apart) ** 2 + (1 - higher) * off**2
        scatter = max(float(np.sqrt(rest.sum() / max(surface.spare - 1, 1))), 1e-9)
        share = float(np.clip(higher.mean(), 1e-6, 1 - 1e-6))
        low = np.log1p(-share) - off**2 / (2 * scatter**2)
        high = np.log(share) - (off - apart) ** 2 / (2 * scatter**2)
        before, higher = higher, np.exp(high - np.logaddexp(low, high))
        if np.abs(higher - before).max() < _SETTLED:
            break
    gain = float(np.logaddexp(low, high).sum() - len(off) * np.log(scatter)) - one
    sure = higher > 0.5
    return TwoKinds(sure if apart > 0 else ~sure, abs(apart), scatter, gain)


def _log_likelihood(square: Array, surface: Surface) -> float:
    variance = max(float(square.sum()) / max(surface.spare, 1), 1e-18)
    return float(-square.sum() / (2 * variance) - 0.5 * len(square) * np.log(variance))


@dataclass(frozen=True)
class Group:
    """Runs of one end of a range, or of one level inside it: `place` is above, below or at."""

    axis: str
    place: str
    rows: Rows


_SAME, _MOST_EDGES, _LEAST, _ONE_LEVEL = 0.01, 24, 2, 0.03


def groups_of(axes: Mapping[str, Array]) -> Iterator[Group]:
    """Every end of a range that may be off together, and every level inside it, two runs at
    least."""
    for axis, logs in axes.items():
        order = np.sort(logs)
        every = order[np.flatnonzero(np.diff(order) > _SAME)]
        for edge in _some(every):
            above = logs > edge + 1e-9
            # The smaller part is the one that is off, as far as anybody can tell.
            place = "above" if above.sum() <= len(above) / 2 else "below"
            rows = above if place == "above" else ~above
            if rows.sum() >= _LEAST:
                yield Group(axis, place, rows)
        # Each a level of its own: neighbours that differ, such as the D of budgets, are no group.
        for number in _some(np.arange(len(every) - 1)):
            rows = (logs > every[number] + 1e-9) & (logs <= every[number + 1] + 1e-9)
            if rows.sum() >= _LEAST and np.ptp(logs[rows]) < _ONE_LEVEL:
                yield Group(axis, "at", rows)


def _some(values: NDArray[Any]) -> NDArray[Any]:
    """All of them, or if they are many some, evenly spread."""
    if len(values) <= _MOST_EDGES:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, _MOST_EDGES).round().astype(int)])
