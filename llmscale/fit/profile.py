"""Profile likelihood: how far a coefficient can move when all others follow, and what that costs the objective.

Its interval holds the values whose cost stays below a threshold. For an objective sum rho(r) that is no likelihood,
2 (profile - minimum)/lambda is nearly chi-square with one degree of freedom, lambda = E[rho'^2]/E[rho''] (Heritier &
Ronchetti 1994, "Robust bounded-influence tests in general parametric models"); for squared error lambda is the
variance of the residuals. With few runs the quantile is that of F(1, runs - coefficients).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import fdtri

from llmscale.errors import InputError
from llmscale.fit import solver
from llmscale.fit.options import Objective
from llmscale.fit.result import Fit, run_weights, settings_of
from llmscale.laws import Array, Surface
from llmscale.laws._formula import Formula

_POINTS, _FEWER_POINTS, _FEWEST_POINTS, _MANY = 41, 21, 9, 6
_MENDINGS = 3
_TOO_FLAT = 1e5
"""Coefficients that make up for each other this well are not followed to the end by steps in raw units."""
_JUDGED = 2.0
"""Points that cost up to this many times the threshold decide where the interval ends."""
_WIDEN, _WIDENINGS = 2.5, 4
_NEARLY_NOTHING = 1e-4
"""A positive coefficient is followed down to this share of its best value."""


@dataclass(frozen=True)
class Profile:
    """The objective over values of one coefficient, all others at their best.

    `cost` is 2 (objective - minimum)/lambda, to be compared with `threshold`. `low` and `high` bound the interval at
    `level`; one that is not reached however far the coefficient moves is 0, -inf or inf, and `closed` is False. Where
    the other coefficients did not settle, `settled` is False and the ends are NaN.
    """

    name: str
    values: Array
    objective: Array
    cost: Array
    threshold: float
    level: float
    low: float
    high: float
    settled: bool = True

    @property
    def closed(self) -> bool:
        return bool(np.isfinite(self.high) and np.isfinite(self.low) and self.low > self.values[0])

    def __str__(self) -> str:
        if not self.settled:
            return f"{self.name}: no interval by profile likelihood, the other coefficients did not settle"
        return f"{self.name}: [{self.low:.4g}, {self.high:.4g}] at {100 * self.level:g}% by profile likelihood"


def profiles(fit: Fit, points: int = _POINTS) -> tuple[Profile, ...]:
    """The profile of every coefficient; of laws with many, at fewer points."""
    names = fit.law.coefficient_names()
    return tuple(profile(fit, name, points if len(names) <= _MANY else min(points, _FEWER_POINTS)) for name in names)


def profile(fit: Fit, name: str, points: int = _POINTS) -> Profile:
    """The profile of one coefficient at about `points` values. Raises InputError for a name the law does not have."""
    names = fit.law.coefficient_names()
    if name not in names:
        raise InputError(f"{fit.law.name} has no coefficient {name!r}", f"use one of {', '.join(names)}")
    index = names.index(name)
    loss = fit.table.frame["loss"].to_numpy(dtype=float)
    surface = _Pinned(Formula(type(fit.law), settings_of(fit.law), fit.inputs, loss), index)
    best = surface.theta(np.array([list(fit.law.coefficients().values())], dtype=float))[0]
    weight, log_loss = run_weights(fit.table), np.log(loss)
    objective = fit.options.loss_function

    _, first, second = objective.expand(-fit.residuals)
    degrees = max(len(loss) - len(names), 1)
    inliers = max(float((weight * second).sum() / weight.sum()), 1.0 / len(loss))
    scale = max(float((weight * first**2).sum()) / degrees / inliers, 1e-300)
    threshold = float(fdtri(1, degrees, fit.level))

    along = _ridge(surface, best, index)
    spread = _spread(surface, best, index, scale, inliers)
    value = float(surface.coefficients(best[None])[0, index])
    reach = np.sqrt(threshold) * 2.0 * spread
    theta_all, cost_all, settled_all = np.empty((0, len(best))), np.empty(0), np.empty(0, dtype=bool)
    flat = _condition(surface, best) >= _TOO_FLAT
    points = min(points, _FEWEST_POINTS) if flat else points
    for _ in range(1 if flat else _WIDENINGS):
        grid = _grid(surface, index, value, best[index], reach, points)
        start = best + (grid - best[index])[:, None] * along
        start[:, index] = grid
        ends = solver.resolve_each(surface, log_loss, weight, start, [objective])
        for _ in range(0 if flat else _MENDINGS):
            _mend(ends, grid, best[index], index, partial(solver.resolve_each, surface, log_loss, weight), objective)
        settled_all = np.concatenate([settled_all, ends.settled])
        theta_all = np.concatenate([theta_all, ends.theta])
        cost_all = np.concatenate([cost_all, 2.0 * (ends.objective - fit.objective) / scale])
        left, right = grid < best[index], grid > best[index]
        open_ends = [side.any() and not (cost_all[-len(grid) :][side] > threshold).any() for side in (left, right)]
        if not any(open_ends):
            break
        reach *= _WIDEN
    values = surface.coefficients(theta_all)[:, index]
    values, cost = np.append(values, value), np.append(np.maximum(cost_all, 0.0), 0.0)
    order = np.argsort(values, kind="stable")
    values, cost = values[order], cost[order]
    low, high = _crossings(values, cost, value, threshold, positive=name not in fit.law.signed)
    settled = not flat and bool(settled_all[cost_all <= _JUDGED * threshold].all())
    if not settled:
        # What did not settle costs too much, and an interval from it would be too narrow.
        low = high = np.nan
    return Profile(name, values, fit.objective + 0.5 * scale * cost, cost, threshold, fit.level, low, high, settled)


def _condition(surface: Surface, theta: Array) -> float:
    """Of the Jacobian with columns of length one."""
    columns = solver.unit_columns(surface.jacobian(theta))
    return float(np.linalg.cond(columns[:, columns.any(axis=0)]))


def _mend(
    ends: solver.Solutions,
    grid: Array,
    best: float,
    index: int,
    resolve: Callable[[Array, list[Objective]], solver.Solutions],
    objective: Objective,
) -> None:
    """Try the points that did not settle again, from their neighbours on the side of the best."""
    failed = np.flatnonzero(~ends.settled)
    inward = failed + np.where(grid[failed] < best, 1, -1)
    usable = (inward >= 0) & (inward < len(grid))
    failed, inward = failed[usable], inward[usable]
    if not len(failed):
        return
    start = ends.theta[inward].copy()
    start[:, index] = grid[failed]
    again = resolve(start, [objective])
    better = (again.objective < ends.objective[failed]) | again.settled
    ends.theta[failed[better]] = again.theta[better]
    ends.objective[failed[better]] = again.objective[better]
    ends.settled[failed[better]] = again.settled[better]


class _Pinned(Surface):
    """A surface on which one of theta stays where it starts: it feels no slope."""

    centred = False

    def __init__(self, surface: Formula, index: int) -> None:
        self.surface, self.index = surface, index
        self.lower, self.upper, self.vanishing = surface.lower, surface.upper, surface.vanishing

    def starts(self, count: int) -> Array:
        return self.surface.starts(count)

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        return self.surface.evaluate(theta_BP)

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        gradient, hessian = self.surface.derivatives(parts, first_BR, second_BR)
        gradient[:, self.index] = 0.0
        hessian[:, self.index, :] = 0.0
        hessian[:, :, self.index] = 0.0
        # Some curvature without a slope: no step, and no division by nothing.
        hessian[:, self.index, self.index] = np.abs(np.einsum("bpp->bp", hessian)).max(axis=1)
        return gradient, hessian

    def jacobian(self, theta_P: Array) -> Array:
        return self.surface.jacobian(theta_P)

    def coefficients(self, theta_BP: Array) -> Array:
        return self.surface.coefficients(theta_BP)

    def theta(self, coefficients_BK: Array) -> Array:
        return self.surface.theta(coefficients_BK)


def _ridge(surface: Surface, best: Array, index: int) -> Array:
    """How the others move, to first order, when theta[index] moves by one: (P,)."""
    jacobian = surface.jacobian(best)
    others = np.arange(len(best)) != index
    along = np.zeros(len(best))
    along[others] = -np.linalg.lstsq(jacobian[:, others], jacobian[:, index], rcond=1e-10)[0]
    along[index] = 1.0
    return along


def _spread(surface: Surface, best: Array, index: int, scale: float, inliers: float) -> float:
    """About one standard deviation of theta[index], from the Jacobian."""
    jacobian = surface.jacobian(best)
    others = np.arange(len(best)) != index
    left = jacobian[:, index] - jacobian[:, others] @ np.linalg.lstsq(jacobian[:, others], jacobian[:, index], 1e-10)[0]
    length = float(np.linalg.norm(left))
    return min(np.sqrt(scale / inliers) / length, 1.0) if length > 0 else 1.0


def _grid(surface: _Pinned, index: int, value: float, best: float, reach: float, points: int) -> Array:
    """Values of theta[index] on both sides of the best, evenly spaced in it, and not below nearly nothing."""
    steps = np.linspace(-1.0, 1.0, points)
    steps = steps[steps != 0]
    low, high = best - reach, best + reach
    if not surface.surface.signed[index]:  # logarithms
        low = max(low, best + np.log(_NEARLY_NOTHING))
    grid = np.where(steps < 0, best + steps * (best - low), best + steps * (high - best))
    return np.clip(grid, surface.lower[index], surface.upper[index])


def _crossings(values: Array, cost: Array, best: float, threshold: float, *, positive: bool) -> tuple[float, float]:
    """Where the root of the cost crosses the threshold's on either side, by linear interpolation."""
    root, level = np.sqrt(cost), np.sqrt(threshold)
    ends = []
    for side, none in ((-1, 0.0 if positive else -np.inf), (1, np.inf)):
        keep = np.flatnonzero(values * side >= best * side)
        keep = keep[np.argsort(values[keep] * side, kind="stable")]
        above = np.flatnonzero(root[keep] > level)
        if not len(above):
            ends.append(none)
            continue
        outer, inner = keep[above[0]], keep[max(above[0] - 1, 0)]
        share = (level - root[inner]) / max(root[outer] - root[inner], 1e-300)
        ends.append(float(values[inner] + share * (values[outer] - values[inner])))
    return ends[0], ends[1]
