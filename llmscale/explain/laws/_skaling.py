"""The solver's half of the skaling law, in coordinates in which its outer power hardly moves the
others.

With x = k (ln A - alpha ln N) and y = k (ln B - beta ln D), (A/N^alpha + B/D^beta)^k is
(e^(x/k) + e^(y/k))^k: for any k about the larger of e^x and e^y where one of them rules, and for
k = 1 their sum. So the levels and slopes of x and y on centred inputs are Chinchilla's at k = 1 and
stay about the same at others, while A, B, alpha and beta move by many powers of ten."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Law, Surface
from llmscale.explain.laws._formula import Formula
from llmscale.explain.laws._sum_of_powers import LogSumExp

_LARGEST_POWER = 32.0
"""k stays between this and its inverse: beyond, the inner sum is a maximum or a product."""
_TRIED = (1.0, 0.4, 2.5)
"""k of the starts."""


@dataclass(frozen=True)
class Outer(Law):
    """L = e^floor + (e^(x/k) + e^(y/k))^k in logarithms of its coefficients, with x and y linear in
    centred ln N and ln D."""

    floor_level: float
    level_N: float
    level_D: float
    slope_N: float
    slope_D: float
    log_k: float

    inputs = ("centred_N", "centred_D")
    signed = ("floor_level", "level_N", "level_D", "slope_N", "slope_D", "log_k")

    def loss(self, *inputs: Any) -> Any:
        z_N, z_D = inputs
        k = np.exp(self.log_k)
        x, y = self.level_N - self.slope_N * z_N, self.level_D - self.slope_D * z_D
        return np.exp(self.floor_level) + np.exp(k * np.logaddexp(x / k, y / k))


class SkalingSurface(Surface):
    """`Formula` on these coordinates, with the law's own coefficients E, A, B, alpha, beta, k."""

    centred = False

    def __init__(self, sum_of_powers: LogSumExp, loss: Array) -> None:
        """`sum_of_powers` is the surface of Chinchilla's law at the same runs."""
        self._sum = sum_of_powers
        z = [-features[1] for features in sum_of_powers.features[1:]]
        self._inner = Formula(Outer, {}, z, loss)
        most = np.log(_LARGEST_POWER)
        self.lower = np.append(sum_of_powers.lower, -most)
        self.upper = np.append(sum_of_powers.upper, most)
        self.vanishing = np.append(sum_of_powers.vanishing, False)

    def of_rows(self, rows_S: NDArray[np.int_]) -> "SkalingSurface":
        part = copy.copy(self)
        part._sum, part._inner = self._sum.of_rows(rows_S), self._inner.of_rows(rows_S)
        return part

    def special_cases(self) -> Sequence[tuple[Surface, Callable[[Array], Array]]]:
        return ((self._sum, lambda theta_P: np.append(theta_P, 0.0)),)

    def starts(self, count: int) -> Array:
        sums = self._sum.starts(max(count // len(_TRIED), 1))
        powers = np.repeat(np.log(_TRIED), len(sums))
        return np.column_stack([np.tile(sums, (len(_TRIED), 1)), powers])[:count]

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        return self._inner.evaluate(theta_BP)

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        return self._inner.derivatives(parts, first_BR, second_BR)

    def jacobian(self, theta_P: Array) -> Array:
        return self._inner.jacobian(theta_P)

    def coefficients(self, theta_BP: Array) -> Array:
        k_B = np.exp(theta_BP[:, 5])
        alpha_B, beta_B = (theta_BP[:, [3, 4]] / k_B[:, None] / self._sum.stds).T
        shift_BK = np.stack([alpha_B, beta_B], axis=1) * self._sum.means
        with np.errstate(over="ignore"):
            A_B, B_B = np.exp(theta_BP[:, [1, 2]] / k_B[:, None] + shift_BK).T
        E_B = np.where(theta_BP[:, 0] <= self.lower[0], 0.0, np.exp(theta_BP[:, 0]))
        return np.stack([E_B, A_B, B_B, alpha_B, beta_B, k_B], axis=1)

    def theta(self, coefficients_BK: Array) -> Array:
        k_B1 = coefficients_BK[:, [5]]
        exponent_BK = coefficients_BK[:, [3, 4]]
        with np.errstate(divide="ignore"):
            floor_B1, log_k_B1 = np.log(coefficients_BK[:, [0]]), np.log(k_B1)
            level_BK = k_B1 * (np.log(coefficients_BK[:, [1, 2]]) - exponent_BK * self._sum.means)
        slope_BK = k_B1 * exponent_BK * self._sum.stds
        theta_BP = np.column_stack([floor_B1, level_BK, slope_BK, log_k_B1])
        return np.clip(theta_BP, self.lower, self.upper)
