"""Profile likelihood: how far a coefficient can move when all others follow, and what that costs
the objective.

Its interval holds the values whose cost stays below a threshold. For an objective sum rho(r) that
is no likelihood, 2 (profile - minimum)/lambda is nearly chi-square with one degree of freedom,
lambda = E[rho'^2]/E[rho''] (Heritier & Ronchetti 1994, "Robust bounded-influence tests in general
parametric models"); for squared error lambda is the variance of the residuals. With few runs the
quantile is that of F(1, runs - coefficients). The noise is that of the bulk of runs (`noise.py`),
and lambda is larger if runs are not independent (Chandler & Bate 2007, Biometrika 94)."""

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from llmscale.errors import InputError, first_lines
from llmscale.explain.estimation import newton
from llmscale.explain.estimation.noise import bulk_noise, expected
from llmscale.explain.estimation.pinned import Pinned
from llmscale.explain.estimation.profile_path import Path
from llmscale.explain.estimation.result import Fit, run_weights
from llmscale.explain.estimation.uncertainty import fitted_to
from llmscale.explain.laws import Array

_POINTS, _FEWER_POINTS, _MANY = 41, 21, 6
_OFFSETS = (np.array([0.5, 1.0, 2.0, 4.0]), np.array([8.0, 16.0]), np.array([32.0, 64.0]))
"""Where an end of the interval is looked for first, in units of what the Jacobian promises."""
_FARTHEST = 60.0
"""Logarithms are followed this far from the best: further, amplitudes are nothing, or too much."""
_DRAWN = 2.2
"""Values that cost up to so many times the threshold decide where the interval ends."""
_REFINEMENTS = 3
_MANY_RUNS = 200
"""Of more runs, only the widely spaced values are started from new places."""
_BELOW = 1e-3
"""A held fit that costs less than minus this has found a lower optimum than the fit."""


@dataclass(frozen=True)
class Profile:
    """The objective over values of one coefficient, all others at their best.

    `cost` is 2 (objective - minimum)/lambda, to be compared with `threshold`. `low` and `high`
    bound the interval at `level`; one that is not reached however far the coefficient moves is 0,
    -inf or inf, and `closed` is False. Values at which the other coefficients did not settle are
    left out of `values` and counted in `unsettled`. If they could move an end of the interval,
    `settled` is False and the ends are NaN."""

    name: str
    values: Array
    objective: Array
    cost: Array
    threshold: float
    level: float
    low: float
    high: float
    settled: bool = True
    unsettled: int = 0

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        if not self.settled:
            why = "the other coefficients did not settle"
            return f"{self.name}: no interval by profile likelihood, {why}"
        ends = f"[{self.low:.4g}, {self.high:.4g}] at {100 * self.level:g}%"
        return f"{self.name}: {ends} by profile likelihood"


def profiles(fit: Fit, points: int = _POINTS) -> tuple[Profile, ...]:
    """The profile of every coefficient; of laws with many, at fewer points."""
    names = fit.law.coefficient_names()
    if len(names) > _MANY:
        points = min(points, _FEWER_POINTS)
    return tuple(profile(fit, name, points) for name in names if name not in fit.constraints.held)


def profile(fit: Fit, name: str, points: int = _POINTS) -> Profile:
    """The profile of one coefficient at about `points` values. Raises InputError for its name."""
    names = fit.law.coefficient_names()
    if name not in names:
        raise InputError(
            f"{fit.law.name} has no coefficient {name!r}", f"use one of {', '.join(names)}"
        )
    if fit.law.estimator is not None:
        raise InputError(
            f"{fit.law.name} is not fitted by an objective over all runs, and has no profile of it",
            "name another law: --law chinchilla",
        )
    if name in fit.constraints.held:
        raise InputError(f"{name} was not fitted: {fit.constraints}", "fit without that")
    index = names.index(name)
    loss = fit.table.frame["loss"].to_numpy(dtype=float)
    weight, log_loss = run_weights(fit.table), np.asarray(fit.law.level_of(loss))
    surface = Pinned(fit.law, index, fit.inputs, loss, fit.constraints)
    best = surface.theta(np.array([list(fit.law.coefficients().values())], dtype=float))[0]
    objective = fit.options.loss_function

    jacobian = surface.jacobian(best)
    scale, inliers = _scale(fit, jacobian, weight)
    related = fitted_to(fit.table, fit.law.inputs, surface, best, objective)
    larger, degrees = related.inflation(np.linalg.pinv(jacobian, rcond=1e-10)[index])
    scale *= larger
    threshold = float(fdtri(1, max(degrees, 1), fit.level))
    axis = _Axis(surface, best, float(fit.law.coefficients()[name]), linear=name == fit.law.floor)
    reach = np.sqrt(threshold) * axis.spread(scale, inliers)

    path = Path(surface, log_loss, weight, objective, best, _ridge(surface, best, index))

    def cost() -> Array:
        return np.asarray(2.0 * (path.ends.objective - fit.objective) / scale)

    sides = [-1.0, 1.0]
    for offsets in _OFFSETS:
        path.add(axis.held(reach * np.concatenate([side * offsets for side in sides])), fresh=True)
        offset = axis.offset(path.held)
        sides = [side for side in sides if not _left(offset * side, cost(), threshold)]
        if not sides:
            break
    outers, grids = [], []
    for side in (-1.0, 1.0):
        outer = _outer(axis.offset(path.held) * side, cost(), threshold)
        outers.append(side * outer)
        if outer > 0:
            grids.append(axis.held(side * outer * np.linspace(0.0, 1.0, points // 2 + 1)[1:]))
    path.add(np.concatenate(grids) if grids else np.empty(0), fresh=len(loss) <= _MANY_RUNS)
    for _ in range(_REFINEMENTS):
        path.add(axis.held(_between(axis.offset(path.held), cost(), threshold)), fresh=False)
    # What lies further was needed to find the ends only.
    offset = axis.offset(path.held)
    near = (offset >= 1.001 * outers[0]) & (offset <= 1.001 * outers[1])
    return _read(fit, name, surface, path.ends[near], cost()[near], scale, threshold)


def _scale(fit: Fit, jacobian_RP: Array, weight_R: Array) -> tuple[float, float]:
    """lambda = E[rho'^2]/E[rho''], and E[rho''] itself: for noise as large as that of the runs.

    Counted at the runs, E[rho''] would be the share within delta, and with few runs most of these
    are those that the fit passes through."""
    objective = fit.options.loss_function
    noise = max(bulk_noise(fit.residuals, jacobian_RP, weight_R), 1e-150)
    known = weight_R > 0
    weight = weight_R[known]
    squares, bends = expected(objective, noise / np.sqrt(weight))
    inliers = float((weight * bends).sum() / weight.sum())
    return float((weight**2 * squares).sum() / (weight * bends).sum()), inliers


class _Axis:
    """How far along a coefficient: its own unit for a floor, else the surface's coordinate."""

    def __init__(self, surface: Pinned, best: Array, value: float, *, linear: bool) -> None:
        self.surface, self.best, self.value, self.linear = surface, best, value, linear
        self.index = surface.index

    def held(self, offset_G: Array) -> Array:
        """Coordinates at these offsets from the best, within bounds."""
        surface, index = self.surface, self.index
        if self.linear:
            with np.errstate(divide="ignore"):
                held = np.log(np.maximum(self.value + offset_G, 0.0))
        else:
            held = self.best[index] + np.clip(offset_G, -_FARTHEST, _FARTHEST)
        return np.unique(np.clip(held, surface.lower[index], surface.upper[index]))

    def offset(self, held_G: Array) -> Array:
        """The inverse of `held`."""
        if not self.linear:
            return np.asarray(held_G - self.best[self.index])
        at_zero = held_G <= self.surface.lower[self.index]
        return np.asarray(np.where(at_zero, 0.0, np.exp(held_G)) - self.value)

    def spread(self, scale: float, inliers: float) -> float:
        """About one standard deviation along this axis, from the Jacobian."""
        jacobian = self.surface.jacobian(self.best)
        own = jacobian[:, self.index]
        if self.linear:
            own = 1.0 / np.exp(self.surface.evaluate(self.best[None])[0][0])
        others = np.delete(jacobian, self.index, axis=1)
        left = own - others @ np.linalg.lstsq(others, own, 1e-10)[0]
        length = float(np.linalg.norm(left))
        widest = self.value or float(np.exp(self.surface.evaluate(self.best[None])[0]).min())
        most = 0.5 * widest if self.linear else 1.0
        return min(np.sqrt(scale / inliers) / length, most) if length > 0 else most


def _ridge(surface: Pinned, best: Array, index: int) -> Array:
    """How the others move, to first order, when theta[index] moves by one: (P,)."""
    jacobian = surface.jacobian(best)
    others = np.arange(len(best)) != index
    along = np.zeros(len(best))
    along[others] = -np.linalg.lstsq(jacobian[:, others], jacobian[:, index], rcond=1e-10)[0]
    along[index] = 1.0
    return along


def _left(offset: Array, cost: Array, threshold: float) -> bool:
    """Whether the farthest value on this side costs clearly more than the threshold."""
    return bool((offset > 0).any()) and bool(cost[np.argmax(offset)] > _DRAWN * threshold)


def _outer(offset: Array, cost: Array, threshold: float) -> float:
    """How far to follow one side: past everything within the threshold, to where it costs more."""
    if not (offset > 0).any():
        return 0.0
    inside = float(offset[(offset > 0) & (cost <= threshold)].max(initial=0.0))
    beyond = offset[(offset > inside) & (cost > _DRAWN * threshold)]
    return float(beyond.min() if len(beyond) else offset.max())


def _between(offset: Array, cost: Array, threshold: float) -> Array:
    """Offsets nearer to where the cost crosses the threshold for the last time, on either side."""
    found = []
    for side in (-1.0, 1.0):
        ends = _bracket(offset, cost, threshold, side)
        if ends is not None:
            inner, outer = ends
            share = min(max(_crossing(cost[inner], cost[outer], threshold), 0.02), 0.98)
            found += [(1 - part) * offset[inner] + part * offset[outer] for part in (share, 0.5)]
    return np.array(found)


def _crossing(inner: float, outer: float, threshold: float) -> float:
    """Where, from 0 to 1, the cost crosses the threshold between two values: its root is linear."""
    first, last = np.sqrt(np.maximum([inner, outer], 0.0))
    return float((np.sqrt(threshold) - first) / max(last - first, 1e-300))


def _bracket(values: Array, cost: Array, threshold: float, side: float) -> tuple[int, int] | None:
    """The outermost value within the threshold on a side, and the next one outwards or None."""
    order = np.argsort(values * side, kind="stable")
    within = np.flatnonzero((cost <= threshold)[order])
    if not len(within) or within[-1] == len(order) - 1:
        return None
    return int(order[within[-1]]), int(order[within[-1] + 1])


def _read(
    fit: Fit,
    name: str,
    surface: Pinned,
    ends: newton.Solutions,
    cost: Array,
    scale: float,
    threshold: float,
) -> Profile:
    """The profile with its interval, from all values that were followed."""
    value = float(fit.law.coefficients()[name])
    values = surface.coefficients(ends.theta)[:, surface.index]
    good = ends.settled & np.isfinite(cost)
    # A fit that did not settle costs at most what it says, so within the threshold it is inside for
    # certain.
    doubtful = ~good & (cost > threshold) & (cost <= _DRAWN * threshold)
    settled = not doubtful.any() and bool(cost.min(initial=0.0) > -_BELOW)
    values, cost = np.append(values[good], value), np.append(np.maximum(cost[good], 0.0), 0.0)
    order = np.argsort(values, kind="stable")
    values, cost = values[order], cost[order]
    sides = []
    for side, none in ((-1.0, 0.0 if name not in fit.law.signed else -np.inf), (1.0, np.inf)):
        bracket = _bracket(values, cost, threshold, side)
        if bracket is None:
            sides.append(none)
            continue
        inner, outer = bracket
        share = _crossing(cost[inner], cost[outer], threshold)
        sides.append(float(values[inner] + share * (values[outer] - values[inner])))
    # What did not settle costs too much, and an interval from it would be too narrow.
    low, high = sides if settled else (np.nan, np.nan)
    objective = fit.objective + 0.5 * scale * cost
    return Profile(
        name, values, objective, cost, threshold, fit.level, low, high, settled, int((~good).sum())
    )
