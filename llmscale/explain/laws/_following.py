"""A surface of which some coordinates follow from the others, as those of a coefficient that is
fixed do if it is no coordinate itself."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Surface
from llmscale.explain.laws._jets import Jet, variables

Follower: TypeAlias = tuple[int, Callable[[Sequence[Any]], Any]]
"""A coordinate, and how it follows from all of them: a formula for numbers, arrays and jets."""


class Following(Surface):
    """A surface at the coordinates that `followers` leave; what theta has for these is not read.
    Of two followers the later may hang on the earlier, but not the other way round."""

    def __init__(self, surface: Surface, followers: Sequence[Follower]) -> None:
        self._surface, self._followers = surface, followers
        self.lower, self.upper = surface.lower, surface.upper
        self.vanishing, self.plain = surface.vanishing, surface.plain
        self.centred = surface.centred  # type: ignore[misc]

    @property
    def points(self) -> NDArray[np.int_] | None:
        return self._surface.points

    def of_rows(self, rows_S: NDArray[np.int_]) -> "Following":
        part = copy.copy(self)
        part._surface = self._surface.of_rows(rows_S)
        return part

    def starts(self, count: int) -> Array:
        return self._surface.starts(count)

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        followed_BP, jets = self._followed(theta_BP)
        value, parts = self._surface.evaluate(followed_BP)
        return value, (parts, jets)

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        inner, jets = parts
        gradient, hessian = self._surface.derivatives(inner, first_BR, second_BR)
        return self._of_the_others(gradient, hessian, jets)

    def with_metric(
        self, parts: Any, first_BR: Array, second_BR: Array, weight_BR: Array
    ) -> tuple[Array, Array, Array]:
        inner, jets = parts
        gradient, hessian, metric = self._surface.with_metric(inner, first_BR, second_BR, weight_BR)
        metric = self._of_the_others(np.zeros_like(gradient), metric, jets)[1]
        return *self._of_the_others(gradient, hessian, jets), metric

    def jacobian(self, theta_P: Array) -> Array:
        followed_BP, jets = self._followed(theta_P[None])
        jacobian_RP = self._surface.jacobian(followed_BP[0])
        for (index, _), jet in zip(reversed(self._followers), reversed(jets), strict=True):
            along_R = jacobian_RP[:, index].copy()
            jacobian_RP[:, index] = 0.0
            for i, slope in jet.first.items():
                jacobian_RP[:, i] += along_R * slope[0, 0]
        return jacobian_RP

    def coefficients(self, theta_BP: Array) -> Array:
        return self._surface.coefficients(self._followed(theta_BP)[0])

    def theta(self, coefficients_BK: Array) -> Array:
        return self._surface.theta(coefficients_BK)

    def _followed(self, theta_BP: Array) -> tuple[Array, list[Jet]]:
        """All coordinates, and what each follower hangs on."""
        followed_BP, jets = theta_BP.copy(), []
        for index, formula in self._followers:
            jets.append(formula(variables(followed_BP)))
            followed_BP[:, index] = jets[-1].value[:, 0]
        return followed_BP, jets

    def _of_the_others(
        self, gradient: Array, hessian: Array, jets: Sequence[Jet]
    ) -> tuple[Array, Array]:
        """Slope and curvature in the coordinates that do not follow: the chain rule, last follower
        first."""
        for (index, _), jet in zip(reversed(self._followers), reversed(jets), strict=True):
            moves = np.tile(np.eye(gradient.shape[1]), (len(gradient), 1, 1))
            moves[:, index, index] = 0.0
            for i, slope in jet.first.items():
                moves[:, index, i] = slope[:, 0]
            hessian = moves.transpose(0, 2, 1) @ hessian @ moves
            for (i, j), bend in jet.second.items():
                pulled_B = gradient[:, index] * bend[:, 0]
                hessian[:, i, j] += pulled_B
                if i != j:
                    hessian[:, j, i] += pulled_B
            gradient = np.einsum("bpq,bp->bq", moves, gradient)
        return gradient, hessian
