"""Laws that are sums of power laws, L = sum_k A_k prod_i x_i^-a_ki, and their half of the solver.

With theta = (ln A_k - sum_i a_ki mean_i, a_ki std_i) on centred and scaled z_i = ln x_i, each term
is t_k = F_k theta and ln L = logsumexp_k t_k. With p_k the share of term k: ∇ ln L = sum_k p_k F_k
and ∇² ln L = sum_k p_k F_k F_kᵀ - ∇ ln L ∇ ln Lᵀ."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Law, Surface, points_of
from llmscale.explain.laws._least_squares import non_negative_least_squares

LARGEST_EXPONENT = 10.0
SMALLEST_SHARE = 1e-16
"""A term below this share of the loss at the middle of the table counts as zero."""
_ROWS_FOR_STARTS = 2048
_SAFE_LOG = 600.0
"""Terms whose logarithm stays below this are summed as they are, without overflow."""


class SumOfPowers(Law):
    """A law whose `terms` are (amplitude, {index of input: exponent}), and nothing else."""

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
        scales = zip(logs, self.means, self.stds, strict=True)
        z = [(values - mean) / std for values, mean, std in scales]
        self.log_loss_R = np.log(loss)
        self.level = float(self.log_loss_R.mean())
        self.amplitudes = [position[amplitude] for amplitude, _ in terms]
        self.exponents = [
            [(position[name], i) for i, name in powers.items()] for _, powers in terms
        ]
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
            [index] + [e for e, _ in powers]
            for index, powers in zip(self.amplitudes, self.exponents, strict=True)
        ]
        one = np.ones(len(loss))
        self.features = [np.stack([one] + [-z[i] for _, i in powers]) for powers in self.exponents]
        self.farthest = [np.abs(features).max(axis=1) for features in self.features]
        self.products_RM, self.placement = self._products(z)

    def _products(self, z: Sequence[Array]) -> tuple[Array, Array]:
        """All products of two features at every run (R, M), and where their weighted sums go, as 0
        and 1.

        The rows of the second are K terms, then pairs of terms, times M products; its columns P of
        gradient, P² of Hessian."""
        basis = np.stack([np.ones(len(self.log_loss_R)), *(-values for values in z)])
        pairs = list(itertools.combinations_with_replacement(range(len(basis)), 2))
        products_RM = np.stack([basis[a] * basis[b] for a, b in pairs], axis=1)
        product = {pair: index for index, pair in enumerate(pairs)} | {
            (b, a): i for i, (a, b) in enumerate(pairs)
        }
        size, terms = len(self.lower), len(self.columns)
        used = [[0] + [i + 1 for _, i in powers] for powers in self.exponents]
        couples = list(itertools.combinations_with_replacement(range(terms), 2))
        placement = np.zeros((terms + len(couples), len(pairs), size + size**2))
        for k, columns in enumerate(self.columns):
            for row, a in zip(columns, used[k], strict=True):
                placement[k, product[0, a], row] += 1
        for couple, (k, j) in enumerate(couples, start=terms):
            for row, a in zip(self.columns[k], used[k], strict=True):
                for column, b in zip(self.columns[j], used[j], strict=True):
                    placement[couple, product[a, b], size + row * size + column] += 1
                    if j != k:
                        placement[couple, product[a, b], size + column * size + row] += 1
        return products_RM, placement.reshape(-1, size + size**2)

    def coefficients(self, theta_BP: Array) -> Array:
        raw = theta_BP.copy()
        for amplitude, powers in zip(self.amplitudes, self.exponents, strict=True):
            for index, i in powers:
                raw[:, index] = theta_BP[:, index] / self.stds[i]
            shift = sum((raw[:, index] * self.means[i] for index, i in powers), np.zeros(len(raw)))
            with np.errstate(over="ignore"):
                gone = theta_BP[:, amplitude] <= self.lower[amplitude]
                raw[:, amplitude] = np.where(gone, 0.0, np.exp(theta_BP[:, amplitude] + shift))
        return raw

    def theta(self, coefficients_BK: Array) -> Array:
        theta = coefficients_BK.copy()
        with np.errstate(divide="ignore"):
            for amplitude, powers in zip(self.amplitudes, self.exponents, strict=True):
                shifts = [coefficients_BK[:, e] * self.means[i] for e, i in powers]
                shift = sum(shifts, np.zeros(len(theta)))
                theta[:, amplitude] = np.log(coefficients_BK[:, amplitude]) - shift
                for index, i in powers:
                    theta[:, index] = coefficients_BK[:, index] * self.stds[i]
        return np.clip(theta, self.lower, self.upper)

    @property
    def points(self) -> NDArray[np.int_]:
        return points_of([values for rows in self.features for values in rows[1:]])

    def of_rows(self, rows_S: NDArray[np.int_]) -> "LogSumExp":
        part = copy.copy(self)
        part.log_loss_R = self.log_loss_R[rows_S]
        part.features = [features[:, rows_S] for features in self.features]
        part.farthest = [np.abs(features).max(axis=1) for features in part.features]
        part.products_RM = self.products_RM[rows_S]
        return part

    def evaluate(self, theta_BP: Array) -> tuple[Array, Array]:
        share_KBR = np.empty((len(self.columns), len(theta_BP), len(self.log_loss_R)))
        largest = 0.0
        for share_BR, columns, features, farthest in zip(
            share_KBR, self.columns, self.features, self.farthest, strict=True
        ):
            np.matmul(theta_BP[:, columns], features, out=share_BR)
            largest = max(largest, float((np.abs(theta_BP[:, columns]) @ farthest).max()))
        if len(share_KBR) == 1:
            return share_KBR[0], np.ones_like(share_KBR)
        top = share_KBR.max(axis=0) if largest > _SAFE_LOG else None
        if top is not None:
            share_KBR -= top
        np.exp(share_KBR, out=share_KBR)
        total = share_KBR.sum(axis=0)
        value = np.log(total)
        share_KBR *= np.reciprocal(total, out=total)
        return value if top is None else value + top, share_KBR

    def derivatives(self, parts: Array, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        terms, batch, runs = parts.shape
        size = len(self.lower)
        weight = np.empty((terms * (terms + 3) // 2, batch, runs))
        np.multiply(parts, first_BR, out=weight[:terms])
        outer_BR = second_BR - first_BR
        outer_k = np.empty_like(outer_BR)
        couples = itertools.combinations_with_replacement(range(terms), 2)
        for couple, (k, j) in enumerate(couples, start=terms):
            if j == k:
                np.multiply(outer_BR, parts[k], out=outer_k)
            np.multiply(outer_k, parts[j], out=weight[couple])
            if j == k:
                weight[couple] += weight[k]
        sums = (weight.reshape(-1, runs) @ self.products_RM).reshape(len(weight), batch, -1)
        placed = sums.transpose(1, 0, 2).reshape(batch, -1) @ self.placement
        return placed[:, :size], placed[:, size:].reshape(batch, size, size)

    def jacobian(self, theta_P: Array) -> Array:
        _, shares = self.evaluate(theta_P[None])
        jacobian = np.zeros((len(self.log_loss_R), len(theta_P)))
        for columns, features, share in zip(self.columns, self.features, shares, strict=True):
            jacobian[:, columns] += (features * share[0]).T
        return jacobian

    def starts(self, count: int) -> Array:
        """The best of a grid of exponents, each with its best non-negative amplitudes."""
        rows = np.arange(len(self.log_loss_R))
        if len(rows) > _ROWS_FOR_STARTS:
            order = np.lexsort([self.log_loss_R, *(features[-1] for features in self.features)])
            rows = order[np.linspace(0, len(order) - 1, _ROWS_FOR_STARTS).astype(int)]
        exponents = sorted(set(itertools.chain(*self.exponents)))
        per_axis = {0: 1, 1: 40, 2: 20, 3: 10}.get(len(exponents), 5)
        axes = {index: np.geomspace(0.02, 4.0, per_axis) * self.stds[i] for index, i in exponents}
        theta_SP = np.full((per_axis ** len(axes), len(self.lower)), self.level)
        grid = np.array(list(itertools.product(*axes.values())))
        theta_SP[:, list(axes)] = grid.reshape(len(theta_SP), -1)

        # A term depends only on its own exponents: its values at the runs are made once for each of
        # them.
        inverse_loss = np.exp(self.level - self.log_loss_R[rows])
        digits = np.indices((per_axis,) * len(axes)).reshape(len(axes), -1)
        shapes, which = [], []
        for columns, features in zip(self.columns, self.features, strict=True):
            own = [axes[column] for column in columns[1:]]
            grid = np.array(list(itertools.product(*own))).reshape(per_axis ** len(own), -1)
            shapes.append(np.exp(grid @ features[1:, rows]) * inverse_loss)
            index = np.zeros(len(theta_SP), dtype=int)
            for column in columns[1:]:
                index = index * per_axis + digits[list(axes).index(column)]
            which.append(index)
        gram_SKK = np.empty((len(theta_SP), len(shapes), len(shapes)))
        for k, j in itertools.combinations_with_replacement(range(len(shapes)), 2):
            gram_SKK[:, k, j] = gram_SKK[:, j, k] = (shapes[k] @ shapes[j].T)[which[k], which[j]]
        sums = [shape.sum(axis=1)[index] for shape, index in zip(shapes, which, strict=True)]
        sum_SK = np.stack(sums, axis=1)
        amplitude_SK, squares_S = non_negative_least_squares(gram_SKK, sum_SK, most=count)
        smallest = 1e-4 * len(rows) / sum_SK
        theta_SP[:, self.amplitudes] = self.level + np.log(np.maximum(amplitude_SK, smallest))
        best = np.argsort(squares_S, kind="stable")[:count]
        return np.clip(theta_SP[best], self.lower, self.upper)
