"""Minimise sum_r w_r rho(ln L̂_r - ln L_r) over a law's coefficients, from many starts.

Starts come from the law's surface; delta is lowered from 0.1 to the one asked for, so that far
starts see a smooth valley; each is followed by Newton's method (newton.py)."""

from dataclasses import dataclass, replace

import numpy as np

from llmscale.errors import InputError, WorkError
from llmscale.explain.estimation import newton
from llmscale.explain.estimation.expansion import MANY_ROWS, expand
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.laws import Array, Surface

STARTS, STARTS_WHERE_RUGGED, FEW_RUNS = 8, 32, 50
_FAR_ABOVE = 10.0
_NEXT_TO = 0.03
"""In theta: that close, starts lead to the same place."""
_FOLLOWED = 3
"""Ends that are followed further: on all rows of a large table, or along a ridge."""
_RIDGE = 0.01
"""An objective that falls by a smaller share in another 400 steps is at the bottom of a ridge."""
ROWS_OF_A_PART = 2**13
"""Of more than MANY_ROWS, starts are tried on so many."""
_EXACT = 5e-5
"""Residuals this small in the mean square, a tenth of what seeds do to a loss or less, are those of
a perfect fit. It may still fall, towards a coefficient that is infinite: a straight line is an
exponential of no curvature."""
_AT_ZERO = 1e-3
_LEVEL = 1e-6
"""Eigenvalues of the Hessian below this share of what squares would give: perhaps level there."""
_MOVES = 1e-4
"""Directions of theta that move the losses by a smaller share of what others do move nothing."""
_TILTS = tuple(10.0**power for power in range(1, -6, -1))
"""Squares that break ties, times delta: from least squares to what doubles can just see."""
_TIED = 1e-10
"""Objectives that differ by less than this share are equal."""


@dataclass(frozen=True)
class Descent:
    """The best theta over many starts. One that has not `settled` still creeps down a ridge, by
    next to nothing."""

    theta: Array
    settled: bool


def descend(surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective) -> Descent:
    """The best theta over many starts; of those that are equally good the one nearest to least
    squares.

    Raises WorkError if the best of them is still falling, and InputError if the loss of the law is
    not a positive number at any of them."""
    descend_from = _descend_by_part if len(log_loss_R) > MANY_ROWS else _descend_at_once
    found = descend_from(surface, log_loss_R, weight_R, objective)
    # A term this small is no other than one at zero.
    gone = surface.vanishing & (found.theta < surface.lower + _AT_ZERO)
    found = replace(found, theta=np.where(gone, surface.lower, found.theta))
    return replace(found, theta=_tie_broken(surface, log_loss_R, weight_R, objective, found.theta))


def _tie_broken(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective, theta_P: Array
) -> Array:
    """Of all theta with the same objective the one of least squares, or theta_P if there is but it.

    Beyond delta the objective counts on which side of the law runs lie, not how far: between the
    middle two of an even number of runs at a size it is level, and where a descent stops on such a
    plain hangs on the order of rows and on rounding."""
    if objective.name == "squared":
        return theta_P
    problem = (surface, log_loss_R[None], weight_R[None])
    here = expand(*problem, np.arange(1), theta_P[None], objective)
    free = (theta_P > surface.lower) & (theta_P < surface.upper)
    hessian = here.hessian[0][np.ix_(free, free)]
    if not np.isfinite(hessian).all():
        return theta_P
    if not _is_level(hessian, np.sqrt(weight_R)[:, None] * surface.jacobian(theta_P)[:, free]):
        return theta_P
    tilts = [replace(objective, squares=share * objective.delta) for share in _TILTS]
    starts = np.vstack([theta_P, surface.starts(STARTS)])
    weight_BR = np.broadcast_to(weight_R, (len(starts), len(weight_R)))
    ends = newton.minimise(surface, log_loss_R, weight_BR, starts, [Objective("squared"), *tilts])
    lowest = ends.theta[[np.argmin(ends.objective)]]
    ends = newton.follow(*problem, lowest, tilts[-1], newton.FINAL_STEPS, 0.0)
    there = expand(*problem, np.arange(1), ends.theta, objective)
    tied = there.objective[0] <= here.objective[0] * (1 + _TIED)
    return ends.theta[0] if tied else theta_P


def _is_level(hessian_PP: Array, jacobian_RP: Array) -> bool:
    """Whether the objective bends next to nothing in a direction that moves the losses.

    Where squares would give 1. Directions on which no loss hangs, the ridges of the law, are
    another matter."""
    length = np.linalg.norm(jacobian_RP, axis=0)
    if not len(length) or not length.all():
        return bool((length == 0).any())
    _, moved, direction = np.linalg.svd(jacobian_RP / length, full_matrices=False)
    moving = moved > _MOVES * moved[0]
    whitened_PK = (direction[moving] / moved[moving, None] / length).T
    curvature = np.linalg.eigvalsh(whitened_PK.T @ hessian_PP @ whitened_PK)
    return bool((np.abs(curvature) < _LEVEL).any())


def _descend_at_once(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective
) -> Descent:
    starts, stages = _promising(surface, log_loss_R, weight_R, objective)
    weight_BR = np.broadcast_to(weight_R, (len(starts), len(weight_R)))
    ends = newton.minimise(surface, log_loss_R, weight_BR, starts, [*stages, objective], race=True)
    ends = newton.joined([ends, *_from_special_cases(surface, log_loss_R, weight_R, objective)])
    return _best(surface, log_loss_R, weight_R, objective, ends)


def _descend_by_part(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective
) -> Descent:
    """The starts are tried on rows spread over the table, the best of them followed on all rows."""
    rows = np.flatnonzero(weight_R > 0)
    rows = rows[np.linspace(0, len(rows) - 1, ROWS_OF_A_PART).astype(int)]
    part = surface.of_rows(rows)
    starts, stages = _promising(part, log_loss_R[rows], weight_R[rows], objective)
    weight_BR = np.broadcast_to(weight_R[rows], (len(starts), len(rows)))
    ends = newton.minimise(part, log_loss_R[rows], weight_BR, starts, [*stages, objective])
    hopeful = _apart(ends)[:_FOLLOWED]
    weight_BR = np.broadcast_to(weight_R, (len(hopeful), len(weight_R)))
    ends = newton.minimise(surface, log_loss_R, weight_BR, hopeful, [objective])
    ends = newton.joined([ends, *_from_special_cases(surface, log_loss_R, weight_R, objective)])
    return _best(surface, log_loss_R, weight_R, objective, ends)


def _from_special_cases(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective
) -> list[newton.Solutions]:
    """Descents from the best of each law that this one holds."""
    descend_from = _descend_by_part if len(log_loss_R) > MANY_ROWS else _descend_at_once
    found = []
    for case, as_own in surface.special_cases():
        start_P = as_own(descend_from(case, log_loss_R, weight_R, objective).theta)
        found.append(newton.resolve_each(surface, log_loss_R, weight_R, start_P[None], [objective]))
    return found


def _promising(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective
) -> tuple[Array, list[Objective]]:
    """Where to start from, and the objectives to go through before the last one."""
    starts = surface.starts(STARTS_WHERE_RUGGED)
    typical = float(np.median(np.abs(surface.evaluate(starts[:1])[0][0] - log_loss_R)))
    stages = objective.graduated()[:-1]
    # Few runs make a rugged objective, and so do residuals far above delta.
    if len(log_loss_R) < FEW_RUNS or (stages and typical > _FAR_ABOVE * objective.delta):
        return starts, stages
    starts = starts[:STARTS]
    # Deltas far above the residuals are least squares, where the starts come from.
    useful = [stage for stage in stages if stage.delta <= _FAR_ABOVE * typical] or stages[-1:]
    if useful:
        weight_BR = np.broadcast_to(weight_R, (len(starts), len(weight_R)))
        starts = _apart(
            newton.minimise(surface, log_loss_R, weight_BR, starts, useful, coarse=True)
        )
    return starts, []


def _best(
    surface: Surface,
    log_loss_R: Array,
    weight_R: Array,
    objective: Objective,
    ends: newton.Solutions,
) -> Descent:
    """The lowest of the ends, if it has settled or falls by next to nothing."""
    lowest = int(np.argmin(ends.objective))
    if not np.isfinite(ends.objective[lowest]):
        raise InputError(
            "the law's loss is not a positive number at every run, from any of "
            f"{len(ends.objective)} starts: its logarithm is what is fitted",
            "check the law's formula and the units of the table's columns, or fit another law "
            "(llmscale laws)",
        )
    settled = np.where(ends.settled, ends.objective, np.inf)
    best = int(np.argmin(settled))
    rounding = newton.ABSOLUTE_GAIN * weight_R.sum()
    if settled[best] <= ends.objective[lowest] * (1 + newton.SAME_OBJECTIVE) + rounding:
        return Descent(ends.theta[best], True)
    creeping = np.argsort(ends.objective, kind="stable")[:_FOLLOWED]
    weight_BR = np.broadcast_to(weight_R, (len(creeping), len(weight_R)))
    start = ends.theta[creeping]
    further = newton.minimise(surface, log_loss_R, weight_BR, start, [objective], to_the_end=True)
    lower = int(np.argmin(further.objective))
    if further.settled[lower]:
        return Descent(further.theta[lower], True)
    fallen = ends.objective[lowest] - further.objective[lower]
    exact = further.objective[lower] <= 0.5 * _EXACT**2 * weight_R.sum()
    if not exact and fallen > _RIDGE * ends.objective[lowest] + rounding:
        raise _unsettled(float(further.objective[lower]))
    return Descent(further.theta[lower], False)


def _unsettled(objective: float) -> WorkError:
    return WorkError(
        f"the fit did not settle: after {2 * newton.FINAL_STEPS} Newton steps from the best of "
        f"many starts the objective is {objective:.6g} and still falling",
        "look for runs that do not belong together, or fit a law with fewer coefficients: --law "
        "power",
    )


def _apart(ends: newton.Solutions) -> Array:
    """Where the problems ended, lowest first, without those that ended next to a lower one."""
    kept: list[Array] = []
    for theta in ends.theta[np.argsort(ends.objective, kind="stable")]:
        if all(np.abs(theta - other).max() > _NEXT_TO for other in kept):
            kept.append(theta)
    return np.array(kept)
