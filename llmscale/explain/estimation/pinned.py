"""The solver's view of a law with one coefficient held: what a profile moves along.

On raw logarithms an amplitude makes up for every change of its exponent, so laws that are sums of
powers keep their centred coordinates. There an amplitude is ln A minus the exponents times the mean
logarithms of the inputs: to hold A, that coordinate follows the exponents."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.estimation.constrained import Constrained, raw_row, surface_of
from llmscale.explain.estimation.constraints import NONE, Constraints
from llmscale.explain.estimation.result import settings_of
from llmscale.explain.laws import Array, Law, Surface
from llmscale.explain.laws._formula import Formula
from llmscale.explain.laws._sum_of_powers import LogSumExp

_CANDIDATES = 256


class Pinned(Surface):
    """A law's surface in coordinates of which one (`index`) says one coefficient, held.

    That coordinate is the coefficient's logarithm, the coefficient itself if it is signed, or the
    exponent in units of its input's spread. All others are those of the surface."""

    def __init__(
        self,
        law: Law,
        index: int,
        inputs: list[Array],
        loss: Array,
        constraints: Constraints = NONE,
    ) -> None:
        self.formula = Formula(type(law), settings_of(law), inputs, loss)
        own = surface_of(type(law), settings_of(law), inputs, loss, constraints)
        if isinstance(own, Constrained):
            own = own.in_coefficients()
        # Laws with coordinates of their own (Farseer) do not have their coefficients among them.
        has_them = isinstance(own, LogSumExp | Constrained)
        self.surface: Surface = own if has_them else self.formula
        self.centred = self.surface.centred  # type: ignore[misc]
        self.index = index
        self.lower, self.upper = self.surface.lower.copy(), self.surface.upper.copy()
        # What is held neither fades nor is lifted off zero.
        self.vanishing = self.surface.vanishing.copy()
        self.vanishing[index] = False
        self.from_own = np.eye(len(self.lower))
        row = raw_row(self.surface, index)
        if np.count_nonzero(row) > 1:
            self.from_own[index] = row
            self.lower[index] = -np.inf
        self.to_own = np.linalg.inv(self.from_own)

    def starts(self, count: int) -> Array:
        return self.surface.starts(count) @ self.from_own.T

    def starts_at(self, held: float, best: Array, count: int) -> Array:
        """At most `count` promising points with the coefficient held: coordinates (S, P)."""
        held_P = best.copy()
        held_P[self.index] = held
        value = float(self.coefficients(held_P[None])[0, self.index])
        with np.errstate(all="ignore"):
            if isinstance(self.surface, Constrained):
                raw = self.surface.starts_at(self.index, value, count)
            else:
                found = self.formula.starts(count, held={self.index: value}, candidates=_CANDIDATES)
                raw = self.formula.coefficients(found)
            starts = self.theta(raw)
        starts[:, self.index] = held
        return starts[np.isfinite(starts).all(axis=1)]

    @property
    def points(self) -> NDArray[np.int_] | None:
        return self.surface.points

    def of_rows(self, rows_S: NDArray[np.int_]) -> "Pinned":
        part = copy.copy(self)
        part.surface = self.surface.of_rows(rows_S)
        return part

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        return self.surface.evaluate(theta_BP @ self.to_own.T)

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        gradient, hessian = self.surface.derivatives(parts, first_BR, second_BR)
        gradient = gradient @ self.to_own
        hessian = self.to_own.T @ hessian @ self.to_own
        gradient[:, self.index] = 0.0
        hessian[:, self.index, :] = 0.0
        hessian[:, :, self.index] = 0.0
        # Some curvature without a slope: no step, and no division by nothing.
        hessian[:, self.index, self.index] = np.abs(np.einsum("bpp->bp", hessian)).max(axis=1)
        return gradient, hessian

    def jacobian(self, theta_P: Array) -> Array:
        return self.surface.jacobian(self.to_own @ theta_P) @ self.to_own

    def coefficients(self, theta_BP: Array) -> Array:
        return self.surface.coefficients(theta_BP @ self.to_own.T)

    def theta(self, coefficients_BK: Array) -> Array:
        return self.surface.theta(coefficients_BK) @ self.from_own.T
