"""The solver's half of the skaling law, in coordinates in which its outer power hardly moves the
others.

With x = k (ln A - alpha ln N) and y = k (ln B - beta ln D), (A/N^alpha + B/D^beta)^k is e^q with
q = k ln(e^(x/k) + e^(y/k)): for any k about the larger of x and y where one of them rules, and for
k = 1 their sum's logarithm. So the levels and slopes of x and y on centred inputs are Chinchilla's
at k = 1 and stay about the same at others, while A, B, alpha and beta move by many powers of ten.

With p = e^(x/k - q/k), h = -p ln p - (1-p) ln(1-p) and w = p (1-p)/k: dq = p dx + (1-p) dy +
k h dln k, and d2q = w (dx - dy - (x-y) dln k)^2 + k h (dln k)^2."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Surface
from llmscale.explain.laws._sum_of_powers import LogSumExp

_LARGEST_POWER = 32.0
"""k stays between this and its inverse: beyond, the inner sum is a maximum or a product."""
_TRIED = (1.0, 0.4, 2.5)
"""k of the starts."""


class _Parts(NamedTuple):
    """By problem and run (B, R): p, w, k h and x - y as above, and the share of e^q in the loss."""

    p: Array
    w: Array
    entropy: Array
    difference: Array
    share: Array


class SkalingSurface(Surface):
    """ln L at R runs; theta is ln E, the levels of x and y, their slopes, and ln k."""

    def __init__(self, sum_of_powers: LogSumExp) -> None:
        """`sum_of_powers` is the surface of Chinchilla's law at the same runs."""
        self._sum = sum_of_powers
        most = np.log(_LARGEST_POWER)
        self.lower = np.append(sum_of_powers.lower, -most)
        self.upper = np.append(sum_of_powers.upper, most)
        self.vanishing = np.append(sum_of_powers.vanishing, False)

    @property
    def points(self) -> NDArray[np.int_]:
        return self._sum.points

    def of_rows(self, rows_S: NDArray[np.int_]) -> "SkalingSurface":
        part = copy.copy(self)
        part._sum = self._sum.of_rows(rows_S)
        return part

    def special_cases(self) -> Sequence[tuple[Surface, Callable[[Array], Array]]]:
        return ((self._sum, lambda theta_P: np.append(theta_P, 0.0)),)

    def starts(self, count: int) -> Array:
        sums = self._sum.starts(max(count // len(_TRIED), 1))
        powers = np.repeat(np.log(_TRIED), len(sums))
        return np.column_stack([np.tile(sums, (len(_TRIED), 1)), powers])[:count]

    def evaluate(self, theta_BP: Array) -> tuple[Array, _Parts]:
        _, of_N, of_D = self._sum.features
        k_B1 = np.exp(theta_BP[:, [5]])
        x_BR, y_BR = theta_BP[:, [1, 3]] @ of_N, theta_BP[:, [2, 4]] @ of_D
        difference_BR = x_BR - y_BR
        # e^-|x-y|/k is the smaller term as a share of the larger one: nothing overflows.
        odds_BR = np.exp(-np.abs(difference_BR) / k_B1)
        less_BR, log_sum_BR = odds_BR / (1.0 + odds_BR), np.log1p(odds_BR)
        p_BR = np.where(difference_BR < 0, less_BR, 1.0 - less_BR)
        q_BR = np.maximum(x_BR, y_BR) + k_B1 * log_sum_BR
        value_BR = np.logaddexp(theta_BP[:, [0]], q_BR)
        entropy_BR = k_B1 * log_sum_BR + less_BR * np.abs(difference_BR)
        w_BR, share_BR = less_BR * (1.0 - less_BR) / k_B1, np.exp(q_BR - value_BR)
        return value_BR, _Parts(p_BR, w_BR, entropy_BR, difference_BR, share_BR)

    def derivatives(self, parts: _Parts, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        p_BR, w_BR, entropy_BR, difference_BR, share_BR = parts
        q_BPR = self._columns(np.zeros_like(p_BR), p_BR, 1.0 - p_BR, entropy_BR)
        bend_BPR = self._columns(np.zeros_like(p_BR), 1.0, -1.0, -difference_BR)
        slope_BPR = share_BR[:, None] * q_BPR
        slope_BPR[:, 0] = 1.0 - share_BR
        gradient = np.einsum("bpr,br->bp", slope_BPR, first_BR)
        # ln(e^floor + e^q) bends where both count, and q itself where both of its terms do.
        q_BPR[:, 0] = -1.0
        weight_BR = first_BR * share_BR
        hessian = (slope_BPR * second_BR[:, None]) @ slope_BPR.transpose(0, 2, 1)
        hessian += (bend_BPR * (weight_BR * w_BR)[:, None]) @ bend_BPR.transpose(0, 2, 1)
        both_BR = weight_BR * (1.0 - share_BR)
        hessian += (q_BPR * both_BR[:, None]) @ q_BPR.transpose(0, 2, 1)
        hessian[:, 5, 5] += (weight_BR * entropy_BR).sum(axis=1)
        return gradient, hessian

    def jacobian(self, theta_P: Array) -> Array:
        _, (p_BR, _, entropy_BR, _, share_BR) = self.evaluate(theta_P[None])
        slope_PR = share_BR * self._columns(p_BR, p_BR, 1.0 - p_BR, entropy_BR)[0]
        slope_PR[0] = 1.0 - share_BR
        return np.asarray(slope_PR.T)

    def _columns(self, floor: Array, of_x: Array | float, of_y: Array | float, k: Array) -> Array:
        """What moves with theta (B, P, R) if it moves so with the floor, x, y and ln k."""
        _, of_N, of_D = self._sum.features
        columns_BPR = np.empty((len(floor), 6, floor.shape[1]))
        columns_BPR[:, 0], columns_BPR[:, 5] = floor, k
        columns_BPR[:, 1], columns_BPR[:, 3] = of_x, of_x * of_N[1]
        columns_BPR[:, 2], columns_BPR[:, 4] = of_y, of_y * of_D[1]
        return columns_BPR

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
