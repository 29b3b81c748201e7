"""The solver's half of any law, made from only its `loss`.

Each positive coefficient is fitted as its logarithm, each of `signed` as it is. Derivatives come
from running `loss` on jets. Coefficients that the loss is linear in are found by their missing
second partials, and solved for by least squares at each of many starting points of the others
(variable projection: Golub & Pereyra 1973)."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array, Law, Surface, points_of
from llmscale.explain.laws._jets import Jet, variables
from llmscale.explain.laws._least_squares import non_negative_least_squares

_CANDIDATES = 2048
_ROWS_FOR_STARTS = 256
_LARGEST_LOG = 600.0
"""Coefficients stay between e^-600 and e^600."""
_EXPONENTS = (1e-8, 10.0)
_SMALLEST_SHARE = 1e-16
"""A floor below this share of the lowest loss counts as zero."""
_KEPT_APART = 0.3
"""Starts whose non-linear coefficients lie within this of a better one (in logs) lead there too."""


class Formula(Surface):
    """ln L, or L, of a law at R runs, with coefficients as logarithms; derivatives from jets."""

    centred = False

    def __init__(
        self, law: type[Law], settings: dict[str, Any], inputs: Sequence[Array], loss: Array
    ) -> None:
        self.law, self.settings, self.plain = law, settings, law.plain
        self.inputs = [np.asarray(values, dtype=float) for values in inputs]
        self.loss = loss
        names = law.coefficient_names()
        self.signed = np.array([name in law.signed for name in names])
        self.lower = np.where(self.signed, -np.inf, -_LARGEST_LOG)
        self.upper = np.where(self.signed, np.inf, _LARGEST_LOG)
        for name in set(law.exponents) - set(law.signed):
            self.lower[names.index(name)], self.upper[names.index(name)] = np.log(_EXPONENTS)
        self.vanishing = np.zeros(len(names), dtype=bool)
        if law.floor and law.floor not in law.signed:
            # Other amplitudes have no bound: how small is nothing hangs on their exponents.
            floor = names.index(law.floor)
            self.vanishing[floor] = True
            self.lower[floor] = np.log(loss.min()) + np.log(_SMALLEST_SHARE)

    @property
    def points(self) -> NDArray[np.int_]:
        return points_of(self.inputs)

    def of_rows(self, rows_S: NDArray[np.int_]) -> "Formula":
        part = copy.copy(self)
        part.inputs = [values[rows_S] for values in self.inputs]
        part.loss = self.loss[rows_S]
        return part

    def coefficients(self, theta_BP: Array) -> Array:
        raw_BK = np.where(self.signed, theta_BP, np.exp(np.where(self.signed, 0.0, theta_BP)))
        return np.where(self.vanishing & (theta_BP <= self.lower), 0.0, raw_BK)

    def theta(self, coefficients_BK: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.where(self.signed, 1.0, coefficients_BK))
        return np.clip(np.where(self.signed, coefficients_BK, logs), self.lower, self.upper)

    def evaluate(self, theta_BP: Array) -> tuple[Array, tuple[Array, Jet]]:
        raw_BK = self.coefficients(theta_BP)
        with np.errstate(all="ignore"):
            jet = self._loss(raw_BK, self.inputs)
            value = np.broadcast_to(jet.value, (len(theta_BP), len(self.loss)))
            # d/dtheta is c d/dc if theta is ln c.
            by_BK = np.where(self.signed, 1.0, raw_BK)
            if not self.plain:
                value = np.log(np.where(value > 0, value, np.nan))
            return value, (by_BK, jet)

    def derivatives(
        self, parts: tuple[Array, Jet], first_BR: Array, second_BR: Array
    ) -> tuple[Array, Array]:
        slope_BKR = self._slopes(parts, first_BR.shape)
        return self._derivatives(parts, slope_BKR, first_BR, second_BR)

    def with_metric(
        self, parts: tuple[Array, Jet], first_BR: Array, second_BR: Array, weight_BR: Array
    ) -> tuple[Array, Array, Array]:
        slope_BKR = self._slopes(parts, first_BR.shape)
        metric = (slope_BKR * weight_BR[:, None, :]) @ slope_BKR.transpose(0, 2, 1)
        return *self._derivatives(parts, slope_BKR, first_BR, second_BR), metric

    def _slopes(self, parts: tuple[Array, Jet], shape: tuple[int, ...]) -> Array:
        """The first derivatives of the level in theta, (B, K, R)."""
        by_BK, jet = parts
        slope_BKR = np.zeros((shape[0], by_BK.shape[1], shape[1]))
        with np.errstate(all="ignore"):
            inverse = np.broadcast_to(self._per_level(jet), shape)
            for i, d in jet.first.items():
                np.multiply(d * by_BK[:, i, None], inverse, out=slope_BKR[:, i])
        return slope_BKR

    def _derivatives(
        self, parts: tuple[Array, Jet], slope_BKR: Array, first_BR: Array, second_BR: Array
    ) -> tuple[Array, Array]:
        by_BK, jet = parts
        with np.errstate(all="ignore"):
            inverse = np.broadcast_to(self._per_level(jet), first_BR.shape)
            gradient = (slope_BKR @ first_BR[:, :, None])[..., 0]
            # The logarithm bends, too.
            outer_BR = second_BR if self.plain else second_BR - first_BR
            hessian = (slope_BKR * outer_BR[:, None, :]) @ slope_BKR.transpose(0, 2, 1)
            if first_BR.any():
                curved = first_BR * inverse
                self._add_bends(hessian, by_BK, jet, curved)
                # The second derivative of e^theta is itself.
                logs = np.flatnonzero(~self.signed)
                hessian[:, logs, logs] += gradient[:, logs]
        return gradient, hessian

    def _add_bends(self, hessian: Array, by_BK: Array, jet: Jet, weight_BR: Array) -> None:
        """Add the second partials of the loss, times a weight a run."""
        if not jet.second:
            return
        rows, columns = np.array(list(jet.second)).T
        bend_MBR = np.empty((len(rows), *weight_BR.shape))
        for bend_BR, partial in zip(bend_MBR, jet.second.values(), strict=True):
            bend_BR[...] = partial
        along_BM = np.einsum("br,mbr->bm", weight_BR, bend_MBR)
        along_BM *= by_BK[:, rows] * by_BK[:, columns]
        hessian[:, rows, columns] += along_BM
        apart = rows != columns
        hessian[:, columns[apart], rows[apart]] += along_BM[:, apart]

    def jacobian(self, theta_P: Array) -> Array:
        _, (by_BK, jet) = self.evaluate(theta_P[None])
        jacobian = np.zeros((len(self.loss), len(theta_P)))
        with np.errstate(all="ignore"):
            for i, d in jet.first.items():
                jacobian[:, i] = by_BK[0, i] * (d * self._per_level(jet))[0]
        # A slope beyond floats is one of a term that is nothing there.
        return np.where(np.isfinite(jacobian), jacobian, 0.0)

    def _per_level(self, jet: Jet) -> Array:
        """How much the level moves for each unit of the loss."""
        return np.ones_like(jet.value) if self.plain else 1.0 / jet.value

    def starts(
        self, count: int, held: Mapping[int, float] | None = None, candidates: int = _CANDIDATES
    ) -> Array:
        """The best of many low-discrepancy points, each with its best linear coefficients.

        `held` are coefficients, by index, that keep the value given."""
        held = held or {}
        rows = np.arange(len(self.loss))
        if len(rows) > _ROWS_FOR_STARTS:
            order = np.lexsort([self.loss, *reversed(self.inputs)])
            rows = order[np.linspace(0, len(order) - 1, _ROWS_FOR_STARTS).astype(int)]
        inputs, loss = [values[rows] for values in self.inputs], self.loss[rows]
        names = self.law.coefficient_names()
        unit_SK = _evenly_spread(candidates, len(names))
        raw_SK = np.asarray(self.law.guesses(unit_SK, inputs, loss), dtype=float)
        raw_SK[:, list(held)] = list(held.values())
        linear = [k for k in self._linear(raw_SK, inputs) if k not in held]
        with np.errstate(all="ignore"):
            raw_SK, squares_S = self._projected(raw_SK, linear, inputs, loss)
        theta_SP = self.theta(raw_SK)
        order = np.argsort(squares_S, kind="stable")
        order = order[np.isfinite(squares_S[order]) & np.isfinite(theta_SP[order]).all(axis=1)]
        if not len(order):
            raw_SK = np.asarray(self.law.guesses(unit_SK[:count], inputs, loss), dtype=float)
            raw_SK[:, list(held)] = list(held.values())
            return self.theta(raw_SK)
        others = [k for k in range(len(names)) if k not in linear and k not in held]
        chosen: list[int] = []
        for candidate in order:
            apart = np.abs(theta_SP[np.ix_(chosen, others)] - theta_SP[candidate, others])
            if (apart.max(axis=1, initial=0.0) > _KEPT_APART).all():
                chosen.append(int(candidate))
            if len(chosen) == count:
                break
        return theta_SP[chosen]

    def with_best_linear(self, raw_BK: Array, kept: Sequence[int]) -> Array:
        """Coefficients with those that the loss is linear in solved anew, but for `kept` ones."""
        linear = [k for k in self._linear(raw_BK, self.inputs) if k not in kept]
        with np.errstate(all="ignore"):
            return self._projected(raw_BK, linear, self.inputs, self.loss)[0]

    def _loss(self, raw_BK: Array, inputs: Sequence[Array]) -> Jet:
        loss = self.law(*variables(raw_BK), **self.settings).loss(*inputs)
        if not isinstance(loss, Jet):
            raise TypeError(f"the loss of {self.law.__name__} depends on none of its coefficients")
        return loss

    def _linear_part(self, raw_SK: Array, linear: list[int], inputs: Sequence[Array]) -> Jet:
        """The loss, with derivatives in the linear coefficients only: others take long."""
        jets = variables(raw_SK)
        known = [jet if k in linear else Jet(jet.value, {}, {}) for k, jet in enumerate(jets)]
        loss: Jet = self.law(*known, **self.settings).loss(*inputs)
        return loss

    def _linear(self, raw_SK: Array, inputs: Sequence[Array]) -> list[int]:
        """Coefficients in which the loss is jointly linear: no second partial among them."""
        with np.errstate(all="ignore"):
            second = self._loss(raw_SK[:1], inputs).second
        linear: list[int] = []
        curvature = [sum(k in pair for pair in second) for k in range(raw_SK.shape[1])]
        for k in np.argsort(curvature, kind="stable").tolist():
            if all((min(k, j), max(k, j)) not in second for j in [*linear, k]):
                linear.append(k)
        return sorted(linear)

    def _projected(
        self, raw_SK: Array, linear: list[int], inputs: Sequence[Array], loss: Array
    ) -> tuple[Array, Array]:
        """`raw_SK` with its linear coefficients solved for, and the relative squared error left."""
        raw_SK = raw_SK.copy()
        raw_SK[:, linear] = 0.0
        jet = self._linear_part(raw_SK, linear, inputs)
        shape = (len(raw_SK), len(loss))
        unit = np.ones_like(loss) if self.plain else loss
        rest_SR = np.broadcast_to(jet.value, shape) / unit
        if not linear:
            return raw_SK, np.square(rest_SR - loss / unit).sum(axis=1)
        shape_SKR = np.stack(
            [np.broadcast_to(jet.first.get(k, np.zeros((1, 1))), shape) for k in linear], axis=1
        )
        shape_SKR = shape_SKR / unit
        target_SR = loss / unit - rest_SR
        # Columns of length one: amplitudes differ by many powers of ten.
        length_SK = np.sqrt(np.square(shape_SKR).sum(axis=2))
        length_SK[length_SK == 0] = 1.0
        usable = np.isfinite(shape_SKR).all(axis=(1, 2)) & np.isfinite(target_SR).all(axis=1)
        usable &= np.isfinite(length_SK).all(axis=1)
        squares_S = np.full(len(raw_SK), np.inf)
        if not usable.any():
            return raw_SK, squares_S
        shape_SKR = shape_SKR[usable] / length_SK[usable, :, None]
        gram_SKK = shape_SKR @ shape_SKR.transpose(0, 2, 1)
        target_SK = np.einsum("skr,sr->sk", shape_SKR, target_SR[usable])
        free = [position for position, k in enumerate(linear) if self.signed[k]]
        solution_SK, value_S = non_negative_least_squares(gram_SKK, target_SK, free)
        squares_S[usable] = value_S + np.square(target_SR[usable]).sum(axis=1)
        smallest_SK = 1e-4 / np.maximum(np.abs(shape_SKR).mean(axis=2), 1e-300)
        smallest_SK[:, free] = -np.inf
        raw_SK[np.ix_(usable, linear)] = np.maximum(solution_SK, smallest_SK) / length_SK[usable]
        return raw_SK, squares_S


def _evenly_spread(count: int, dimensions: int) -> Array:
    """Points of the unit cube with low discrepancy, (count, dimensions), always the same.

    An additive recurrence with powers of the root of x^(d+1) = x + 1 (Roberts 2018, "The
    unreasonable effectiveness of quasirandom sequences")."""
    root = 2.0
    for _ in range(60):
        root = (1.0 + root) ** (1.0 / (dimensions + 1))
    steps = root ** -np.arange(1.0, dimensions + 1)
    return np.asarray((0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0)
