"""The peak of a density of many coordinates, and points about it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from llmscale.explain.laws import Array

_STEP = 1e-4
_CURVATURE_STEP = 3e-2
_LEAST_CURVATURE = 0.25
"""Points are spread by 2 at most: the prior of most coordinates has 1."""
_FAR_DOWN = 1e10
"""ln of the density out of bounds, as the search sees it, with its sign changed."""


@dataclass(frozen=True)
class Peak:
    """Where the density is highest (K,), ln of it, and the standard deviations (K,) and directions
    (K, K) of a normal distribution of the same curvature."""

    place_K: Array
    value: float
    spread_K: Array
    directions_KK: Array

    def about(self, rng: np.random.Generator, number: int) -> Array:
        """Draws of that distribution."""
        normal = rng.standard_normal((number, len(self.place_K)))
        return self.place_K + (normal * self.spread_K) @ self.directions_KK.T


def peak(density: Callable[[Array], Array], start_K: Array) -> Peak:
    """The peak that is reached from a point, each gradient and curvature in one call."""
    size = len(start_K)
    step = _STEP * np.eye(size)

    def below(theta_K: Array) -> tuple[float, Array]:
        value = density(np.concatenate([theta_K[None], theta_K + step, theta_K - step]))
        value = np.where(np.isfinite(value), -value, _FAR_DOWN)
        return float(value[0]), (value[1 : size + 1] - value[size + 1 :]) / (2.0 * _STEP)

    found = minimize(below, start_K, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    spread, directions = _curvature(density, found.x)
    return Peak(found.x, -float(found.fun), spread, directions)


def _curvature(density: Callable[[Array], Array], place_K: Array) -> tuple[Array, Array]:
    size = len(place_K)
    step = _CURVATURE_STEP * np.eye(size)
    pairs = (step[:, None] + step[None, :]).reshape(-1, size)
    crossed = (step[:, None] - step[None, :]).reshape(-1, size)
    value = density(
        np.concatenate([place_K + pairs, place_K - pairs, place_K + crossed, place_K - crossed])
    )
    up, down, one, other = value.reshape(4, size, size)
    with np.errstate(invalid="ignore"):
        hessian = (one + other - up - down) / (4.0 * _CURVATURE_STEP**2)
    hessian = np.where(np.isfinite(hessian), hessian, np.eye(size))
    curvature, directions = np.linalg.eigh(0.5 * (hessian + hessian.T))
    return 1.0 / np.sqrt(np.maximum(curvature, _LEAST_CURVATURE)), directions
