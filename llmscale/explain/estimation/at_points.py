"""A law at runs of which many have the same inputs: it is evaluated once for all of these.

A law in one variable has a value at each size, whatever the tokens; and seeds repeat a point."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Surface

_MOST_POINTS, _RUNS_A_POINT = 128, 2.0


def at_points(surface: Surface) -> Surface:
    """The surface, evaluated at the points of its runs if these are few."""
    points_R = surface.points
    if points_R is None:
        return surface
    points = int(points_R.max()) + 1
    if points > _MOST_POINTS or len(points_R) < _RUNS_A_POINT * points:
        return surface
    return AtPoints(surface, points_R)


class AtPoints(Surface):
    """A surface at R runs, by way of the same one at their points."""

    def __init__(self, surface: Surface, points_R: NDArray[np.int_]) -> None:
        self._surface, self._points_R = surface, points_R
        self._inner = surface.of_rows(np.unique(points_R, return_index=True)[1])
        self._is_at = np.eye(int(points_R.max()) + 1)[points_R]
        self.lower, self.upper, self.vanishing = surface.lower, surface.upper, surface.vanishing
        self.plain, self.bounded = surface.plain, surface.bounded
        self.centred = surface.centred  # type: ignore[misc]

    def starts(self, count: int) -> Array:
        return self._surface.starts(count)

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        value, parts = self._inner.evaluate(theta_BP)
        return value[:, self._points_R], parts

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        return self._inner.derivatives(parts, first_BR @ self._is_at, second_BR @ self._is_at)

    def with_metric(
        self, parts: Any, first_BR: Array, second_BR: Array, weight_BR: Array
    ) -> tuple[Array, Array, Array]:
        sums = (weights @ self._is_at for weights in (first_BR, second_BR, weight_BR))
        return self._inner.with_metric(parts, *sums)

    def jacobian(self, theta_P: Array) -> Array:
        return self._surface.jacobian(theta_P)

    def coefficients(self, theta_BP: Array) -> Array:
        return self._surface.coefficients(theta_BP)

    def theta(self, coefficients_BK: Array) -> Array:
        return self._surface.theta(coefficients_BK)

    def of_rows(self, rows_S: NDArray[np.int_]) -> Surface:
        return self._surface.of_rows(rows_S)
