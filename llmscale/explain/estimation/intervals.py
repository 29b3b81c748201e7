"""Intervals of a fit's coefficients: percentiles of refits, profile likelihood, or the Jacobian."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from llmscale.errors import both
from llmscale.explain.estimation.profile import profiles
from llmscale.explain.estimation.result import Fit, percentiles, run_weights, solved
from llmscale.explain.estimation.uncertainty import fitted_to
from llmscale.explain.laws import Array
from llmscale.notes.fitting import INTERVAL_NOT_TRUSTED

_SCATTER = 1e-6
"""Runs that are nearer to their law than this do not scatter."""
_NO_WIDTH, _AT_ZERO = 1e-6, 1e-6
"""Of the value; and exponents and amplitudes below are at their bound of 0."""

Intervals = Mapping[str, tuple[float, float]]


def with_intervals(fit: Fit) -> Fit:
    """The fit with the covariance of its coefficients and their intervals, as its options say."""
    known = replace(fit, covariance=covariance_of(fit))
    ways = {"bootstrap": _bootstrap, "profile": _profile, "jacobian": _jacobian}
    found = _as_constrained(fit, ways[fit.options.intervals](known))
    idle = _unmoved(fit, found)
    if not idle:
        return replace(known, intervals=found)
    note = INTERVAL_NOT_TRUSTED.note(
        f"{both(idle)} came out the same in every refit, though the runs scatter: nothing near the "
        "best fit hangs on it, and there is no interval"
    )
    kept = {name: ends for name, ends in found.items() if name not in idle}
    return replace(known, intervals=kept, notes=(*fit.notes, note))


def _unmoved(fit: Fit, found: Intervals) -> list[str]:
    """Coefficients whose intervals have no width, but for those on a bound, although runs scatter
    about the law."""
    if fit.options.intervals != "bootstrap" or np.abs(fit.residuals).max(initial=0.0) < _SCATTER:
        return []
    return [
        name
        for name, (low, high) in found.items()
        if high - low <= _NO_WIDTH * max(abs(low), abs(high)) and high > _AT_ZERO
    ]


def _as_constrained(fit: Fit, found: Intervals) -> Intervals:
    """Without those of coefficients that are fixed; one that is tied has that of the other."""
    said = fit.constraints
    leaders = {name: said.tied.get(name, name) for name in fit.law.coefficient_names()}
    return {
        name: said.within(name, found[leader])
        for name, leader in leaders.items()
        if leader in found and leader not in said.fixed
    }


def _bootstrap(fit: Fit) -> Intervals:
    """Percentiles of the refits."""
    if not len(fit.replicates):
        return {}
    low, high = percentiles(fit.replicates, fit.level)
    names = fit.law.coefficient_names()
    return {name: (float(low[index]), float(high[index])) for index, name in enumerate(names)}


def _profile(fit: Fit) -> Intervals:
    """One that stays open ends at 0 or infinity."""
    return {one.name: (one.low, one.high) for one in profiles(fit)}


def _jacobian(fit: Fit) -> Intervals:
    """Student's; NaN for coefficients on a bound."""
    names = fit.law.coefficient_names()
    degrees = len(fit.table.frame) - fit.free
    reach = float(stdtrit(degrees, 0.5 + 0.5 * fit.level)) if degrees > 0 else math.nan
    errors, values = fit.standard_errors, fit.law.coefficients()
    widths = {name: reach * errors[name] for name in names}
    return {name: (values[name] - width, values[name] + width) for name, width in widths.items()}


def covariance_of(fit: Fit) -> Array:
    """Covariance of the coefficients from the Jacobian at the optimum, (K, K); NaN if flat.

    s² (JᵀJ)⁻¹ with the residuals' own variance s², as for least squares: right for small, even,
    Gaussian noise near the optimum. The bootstrap assumes less. If runs are off the law together,
    what they share is added."""
    surface, theta, log_loss = solved(fit)
    jacobian = surface.jacobian(theta)
    free = (theta > surface.lower) & (theta < surface.upper)
    covariance = np.full((len(theta), len(theta)), np.nan)
    degrees = len(log_loss) - int(free.sum())
    if degrees <= 0 or not np.isfinite(jacobian).all():
        return covariance
    weight = run_weights(fit.table)
    variance = float((weight * fit.residuals**2).sum()) / degrees
    weighted = jacobian[:, free] * weight[:, None]
    inner = np.linalg.pinv(weighted.T @ jacobian[:, free], rcond=1e-14) * variance
    together = fitted_to(fit.table, fit.law.inputs, surface, theta, fit.options.loss_function)
    if together.parts:
        moves = (inner / variance) @ weighted.T
        inner = together.own_variance * moves @ moves.T
        for index_R, part, _ in together.parts:
            sums = np.stack([np.bincount(index_R, row) for row in moves])
            inner += part * sums @ sums.T
    # To raw units by the slope of the coefficients in theta.
    step = 1e-6 * np.maximum(np.abs(theta), 1.0)
    with np.errstate(all="ignore"):
        ahead = surface.coefficients(theta + np.diag(step))
        behind = surface.coefficients(theta - np.diag(step))
        slope_PK = ((ahead - behind) / (2 * step[:, None]))[free]
        covariance = slope_PK.T @ inner @ slope_PK
    return np.asarray(covariance)
