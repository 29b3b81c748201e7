"""Laws that are sums of power laws, L = sum_k A_k prod_i x_i^-a_ki, and their half of the solver.

With theta = (ln A_k - sum_i a_ki mean_i, a_ki std_i) on centred and scaled z_i = ln x_i, each term is
t_k = F_k theta and ln L = logsumexp_k t_k. With p_k the share of term k: ∇ ln L = sum_k p_k F_k and
∇² ln L = sum_k p_k F_k F_kᵀ - ∇ ln L ∇ ln Lᵀ.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from llmscale.laws import Array, Law, Surface
from llmscale.laws._least_squares import non_negative_least_squares

LARGEST_EXPONENT = 10.0
SMALLEST_SHARE = 1e-16
"""A term below this share of the loss at the middle of the table counts as zero."""
_ROWS_FOR_STARTS = 2048


class SumOfPowers(Law):
    """A law whose `terms` are (amplitude, {index of input: exponent}); every coefficient is one of the two."""

    terms: ClassVar[tuple[tuple[str, Mapping[int, str]], ...]]

    @classmethod
    def surface(cls, inputs: Sequence[Array], loss: Array, **settings: Any) -> "LogSumExp":
        return LogSumExp(cls.coefficient_names(), cls.terms, inputs, loss)


class LogSumExp(Surface):
    """ln L of a sum of powers at R runs."""

    def __init__(
        self,
        coefficient_names: Sequence[str],
        terms: Sequence[tuple[str, Mapping[int, str]]],
        inputs: Sequence[Array],
        loss: Array,
    ) -> None:
        position = {name: index for index, name in enumerate(coefficient_names)}
        logs = [np.log(values) for values in inputs]
        self.means = [float(values.mean()) for values in logs]
        self.stds = [float(values.std()) or 1.0 for values in logs]
        z = [(values - mean) / std for values, mean, std in zip(logs, self.means, self.stds, strict=True)]
        self.log_loss_R = np.log(loss)
        self.level = float(self.log_loss_R.mean())
        self.amplitudes = [position[amplitude] for amplitude, _ in terms]
        self.exponents = [[(position[name], i) for i, name in powers.items()] for _, powers in terms]

        size = len(coefficient_names)
        self.vanishing = np.zeros(size, dtype=bool)
        self.vanishing[self.amplitudes] = True
        self.lower = np.zeros(size)
        self.upper = np.full(size, np.inf)
        self.lower[self.amplitudes] = self.level + np.log(SMALLEST_SHARE)
        for index, i in itertools.chain(*self.exponents):
            self.upper[index] = LARGEST_EXPONENT * self.stds[i]

        # Term k is theta[columns_k] @ features_k; only the non-zero columns of F_k are kept.
        self.columns = [
            [index] + [e for e, _ in powers] for index, powers in zip(self.amplitudes, self.exponents, strict=True)
        ]
        one = np.ones(len(loss))
        self.features = [np.stack([one] + [-z[i] for _, i in powers]) for powers in self.exponents]
        # Pairs of terms k <= j: where their block of the Hessian goes, and F_k F_jᵀ at every run, (R, P_k * P_j).
        self.pairs = [
            (
                k,
                j,
                np.ix_(self.columns[k], self.columns[j]),
                np.ascontiguousarray(
                    (self.features[k][:, None, :] * self.features[j][None, :, :]).reshape(-1, len(loss)).T
                ),
            )
            for k, j in itertools.combinations_with_replacement(range(len(terms)), 2)
        ]

    def coefficients(self, theta_BP: Array) -> Array:
        raw = theta_BP.copy()
        for amplitude, powers in zip(self.amplitudes, self.exponents, strict=True):
            for index, i in powers:
                raw[:, index] = theta_BP[:, index] / self.stds[i]
            shift = sum((raw[:, index] * self.means[i] for index, i in powers), np.zeros(len(raw)))
            with np.errstate(over="ignore"):
                raw[:, amplitude] = np.where(
                    theta_BP[:, amplitude] <= self.lower[amplitude], 0.0, np.exp(theta_BP[:, amplitude] + shift)
                )
        return raw

    def theta(self, coefficients_BK: Array) -> Array:
        theta = coefficients_BK.copy()
        with np.errstate(divide="ignore"):
            for amplitude, powers in zip(self.amplitudes, self.exponents, strict=True):
                shift = sum((coefficients_BK[:, e] * self.means[i] for e, i in powers), np.zeros(len(theta)))
                theta[:, amplitude] = np.log(coefficients_BK[:, amplitude]) - shift
                for index, i in powers:
                    theta[:, index] = coefficients_BK[:, index] * self.stds[i]
        return np.clip(theta, self.lower, self.upper)

    def evaluate(self, theta_BP: Array) -> tuple[Array, list[Array]]:
        shares = [
            theta_BP[:, columns] @ features for columns, features in zip(self.columns, self.features, strict=True)
        ]
        if len(shares) == 1:
            return shares[0], [np.ones_like(shares[0])]
        top = shares[0].copy()
        for share in shares[1:]:
            np.maximum(top, share, out=top)
        total = np.zeros_like(top)
        for share in shares:
            share -= top
            np.exp(share, out=share)
            total += share
        for share in shares:
            share /= total
        np.log(total, out=total)
        total += top
        return total, shares

    def derivatives(self, parts: list[Array], first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        batch, size = len(first_BR), len(self.lower)
        gradient = np.zeros((batch, size))
        hessian = np.zeros((batch, size, size))
        outer_BR = second_BR - first_BR
        first_K = [first_BR * share for share in parts]
        outer_K = [outer_BR * share for share in parts]
        for columns, features, first_k in zip(self.columns, self.features, first_K, strict=True):
            gradient[:, columns] += first_k @ features.T
        for k, j, (rows, others), products in self.pairs:
            weight = outer_K[k] * parts[j]
            if j == k:
                weight += first_K[k]
            block = (weight @ products).reshape(batch, rows.shape[0], others.shape[1])
            hessian[:, rows, others] += block
            if j != k:
                hessian[:, others.T, rows.T] += block.transpose(0, 2, 1)
        return gradient, hessian

    def jacobian(self, theta_P: Array) -> Array:
        _, shares = self.evaluate(theta_P[None])
        jacobian = np.zeros((len(self.log_loss_R), len(theta_P)))
        for columns, features, share in zip(self.columns, self.features, shares, strict=True):
            jacobian[:, columns] += (features * share[0]).T
        return jacobian

    def starts(self, count: int) -> Array:
        """The best of a grid of exponents, each with its best non-negative amplitudes by relative squared error."""
        rows = np.arange(len(self.log_loss_R))
        if len(rows) > _ROWS_FOR_STARTS:
            order = np.lexsort([self.log_loss_R, *(features[-1] for features in self.features)])
            rows = order[np.linspace(0, len(order) - 1, _ROWS_FOR_STARTS).astype(int)]
        axes: dict[int, Array] = {}
        exponents = sorted(set(itertools.chain(*self.exponents)))
        per_axis = {0: 1, 1: 40, 2: 14, 3: 7}.get(len(exponents), 4)
        for index, i in exponents:
            axes[index] = np.geomspace(0.02, 4.0, per_axis) * self.stds[i]
        grid = np.array(list(itertools.product(*axes.values()))).reshape(-1, len(axes))
        theta_SP = np.full((len(grid), len(self.lower)), self.level)
        theta_SP[:, list(axes)] = grid

        inverse_loss = np.exp(self.level - self.log_loss_R[rows])
        shape_KSR = np.stack(
            [
                np.exp(theta_SP[:, columns[1:]] @ features[1:, rows]) * inverse_loss
                for columns, features in zip(self.columns, self.features, strict=True)
            ]
        )
        gram_SKK = np.einsum("ksr,jsr->skj", shape_KSR, shape_KSR)
        target_SK = shape_KSR.sum(axis=2).T
        amplitude_SK, squares_S = non_negative_least_squares(gram_SKK, target_SK)
        smallest = 1e-4 / shape_KSR.mean(axis=2).T
        theta_SP[:, self.amplitudes] = self.level + np.log(np.maximum(amplitude_SK, smallest))
        best = np.argsort(squares_S, kind="stable")[:count]
        return np.clip(theta_SP[best], self.lower, self.upper)
