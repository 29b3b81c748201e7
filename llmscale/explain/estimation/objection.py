"""Whether a table objects to what was said of a law's coefficients.

Tables are simulated from the constrained fit, both fits are made of each, and how many times the
constrained objective exceeds the free one is compared with that on the real table: a bootstrap of
the likelihood ratio that holds for robust objectives, too. Simulated noise is the real one with
random signs, one sign for all runs of a point, so that what they share they share again (wild
cluster bootstrap under the null: Cameron, Gelbach & Miller 2008, Rev. Econ. Stat. 90)."""

import numpy as np
from scipy.special import fdtrc

from llmscale.errors import InputError, Note, both
from llmscale.explain import digits, html
from llmscale.explain.estimation import newton
from llmscale.explain.estimation.constraints import Constraints
from llmscale.explain.estimation.large_tables import ROWS
from llmscale.explain.estimation.levels import points
from llmscale.explain.estimation.noise import least_squares_residual
from llmscale.explain.estimation.result import Fit, run_weights, solved
from llmscale.explain.laws import Array, Law
from llmscale.notes.fitting import CONSTRAINT_FITS, CONSTRAINT_NOT_TESTED, CONSTRAINT_REJECTED

SIMULATIONS = 199
_HOPELESS, _LARGEST_POWER = np.log(2.0), 4
_NOTHING = 1e-300
"""In place of an objective of zero, to divide by."""
_ROUNDING = 1e-9
"""Of ln L: a misfit below this is none."""
_SAME = 1e-6
"""Objectives this close are those of one optimum."""


def objection(fit: Fit, free: Fit) -> Note:
    """What the table says of the constraints of a fit, `free` being the fit without them."""
    said = both(fit.constraints.claims)
    if type(free.law) is not type(fit.law):
        return not_tested(fit, f"without it these runs tell {free.law.name} only")
    if not fit.settled:
        return not_tested(fit, "the fit with it creeps along a ridge, and has not settled")
    if not free.settled:
        return not_tested(fit, "the fit without it creeps along a ridge, and has not settled")
    nothing = len(fit.table.frame) * _ROUNDING**2
    if fit.objective <= free.objective * (1 + _SAME) + nothing:
        return CONSTRAINT_FITS.note(
            f"the table does not object to {said}: the fit is the best one without that, too"
        )
    p_value = _p_value(fit, free)
    if p_value is None:
        return not_tested(fit, "the runs are too few to tell their noise")
    kind, verb = CONSTRAINT_FITS, "does not object"
    if p_value < CONSTRAINT_REJECTED.limit:
        kind, verb = CONSTRAINT_REJECTED, "objects"
    p = digits.chance(p_value, SIMULATIONS)
    return kind.note(f"the table {verb} to {said} (p {p}): {_freely(fit, free)}")


def check_near(law: type[Law], constraints: Constraints, miss_R: Array) -> None:
    """Raise InputError if the best fit misses most runs by more than a factor of two, in ln L: what
    was said of the coefficients is not of this table."""
    typical = float(np.median(np.abs(miss_R)))
    if not constraints or law.plain or typical < _HOPELESS:
        return
    power = typical / np.log(10.0)
    factor = f"{10**power:.2g}" if power < _LARGEST_POWER else f"10^{power:.0f}"
    raise InputError(
        f"with {both(constraints.claims)} no fit of {law.name} comes near these runs: the best "
        f"misses half of them by a factor of {factor} or more",
        "give another value, or leave it out to see what the runs say",
    )


def not_tested(fit: Fit, reason: str) -> Note:
    """That nothing tells whether the constraints of a fit hold, and why."""
    said = both(fit.constraints.claims)
    return CONSTRAINT_NOT_TESTED.note(f"whether the table objects to {said} is not known: {reason}")


def _freely(fit: Fit, free: Fit) -> str:
    """`free it is 1.82 [1.79, 1.86]`."""
    names, values = fit.constraints.names, free.law.coefficients()
    ends = {name: html.ends(free.intervals.get(name)) for name in names}
    if len(names) == 1:
        return f"free it is {values[names[0]]:.4g} {ends[names[0]]}".rstrip()
    return f"free {both([f'{name} is {values[name]:.4g} {ends[name]}'.rstrip() for name in names])}"


def _p_value(fit: Fit, free: Fit) -> float | None:
    """How often the free fit gains as much by chance; None if nothing tells how large noise is."""
    surface, theta_P, log_loss_R = solved(fit)
    value_R = surface.evaluate(theta_P[None])[0][0]
    left_R, rank = least_squares_residual(log_loss_R - value_R, surface.jacobian(theta_P))
    spare = len(left_R) - max(rank, free.free)
    if spare <= 0:
        return None
    if len(left_R) > ROWS:
        return _by_formula(fit, free)
    point_R = points(fit.table.frame, fit.law.inputs)
    rng = np.random.default_rng(fit.options.seed)
    sign_BP = rng.choice([-1.0, 1.0], size=(SIMULATIONS, int(point_R.max()) + 1))
    scale = np.sqrt(len(left_R) / (len(left_R) - rank))
    simulated_BR = value_R + sign_BP[:, point_R] * left_R * scale
    ratio_B = _ratios(fit, free, simulated_BR)
    ratio = fit.objective / max(free.objective, _NOTHING)
    return float((1 + np.sum(ratio_B >= ratio)) / (1 + SIMULATIONS))


def _ratios(fit: Fit, free: Fit, simulated_BR: Array) -> Array:
    """Of each simulated table, the constrained objective over the free one."""
    surface, theta_P, _ = solved(fit)
    free_surface, free_theta_P, _ = solved(free)
    weight_BR = np.broadcast_to(run_weights(fit.table), simulated_BR.shape)
    objectives = fit.options.loss_function.graduated()
    start_BP = np.tile(theta_P, (len(simulated_BR), 1))
    held = newton.minimise(surface, simulated_BR, weight_BR, start_BP, objectives)
    # The free fit is never above the constrained one, and may be started there.
    free_BP = free_surface.theta(surface.coefficients(held.theta))
    ends = [
        newton.minimise(free_surface, simulated_BR, weight_BR, start, [fit.options.loss_function])
        for start in (free_BP, np.tile(free_theta_P, (len(simulated_BR), 1)))
    ]
    lowest_B = np.minimum(ends[0].objective, ends[1].objective)
    return held.objective / np.maximum(lowest_B, _NOTHING)


def _by_formula(fit: Fit, free: Fit) -> float:
    """Of many runs: 2 (constrained - free)/lambda as F, lambda as for profiles."""
    weight = run_weights(fit.table)
    _, first, second = fit.options.loss_function.expand(-free.residuals)
    spare = len(weight) - free.free
    inliers = max(float((weight * second).sum() / weight.sum()), 1.0 / len(weight))
    scale = max(float((weight * first**2).sum()) / spare / inliers, _NOTHING)
    at_bound = fit.constraints.at_bound(fit.law.coefficients())
    held = free.free - fit.free + len(at_bound)
    gain = 2.0 * (fit.objective - free.objective) / scale
    return float(fdtrc(held, spare, gain / held))
