"""Newton's method for many problems at once: sum_r w_r rho(ln L̂_r - ln L_r) over a law's
coefficients, from a start to the bottom.

Each step is an exact Newton step, its Hessian made positive by its eigenvalues, damped for each
problem on its own, inside the bounds. Problems that have settled leave the batch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.estimation.at_points import at_points
from llmscale.explain.estimation.expansion import MANY_ROWS, Expansion, expand
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.laws import Array, Surface

_log = logging.getLogger(__name__)
"""How far long work is, for a command to show."""
_COARSE_STEPS = 6
FINAL_STEPS = 400
_LARGEST_STEP, _LARGEST_RAW_STEP = 3.0, 10.0
"""On centred coordinates, and on those where amplitudes make up for changes of exponents."""
_SMALL_TERM, _FADING_TERM = 30.0, 25.0
"""Terms so far (in logs) above their lower bound are small, or far below any delta."""
_MOVES_NOTHING = 1e-28
"""A coordinate whose square of the slope is below this share of the largest is left where it is."""
_SHORTEST = 1e-14
"""A step cut to this share of itself has nowhere to go."""
_RELATIVE_GAIN, _COARSE_GAIN = 1e-11, 1e-3
"""A problem has settled when a full Newton step promises less than this share of its objective (the
second: before the last objective) ..."""
ABSOLUTE_GAIN = 1e-27
"""... or less than this a run, which is rounding."""
_CREEP, _CREEP_STEPS = 1e-5, 50
"""A problem whose objective falls by less than this share in so many steps creeps along a ridge,
and is left there, not settled."""
_HOPELESS = 100.0
"""Of several starts of one fit, one that is further above a settled one than so many times what its
next step promises is left."""
SAME_OBJECTIVE = 1e-8
"""Objectives this close are one optimum; a step that finds nothing better has settled, too."""


@dataclass(frozen=True)
class Solutions:
    """Where each problem of a batch ended: theta (B, P), objective (B,), and whether it settled."""

    theta: Array
    objective: Array
    settled: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int_] | NDArray[np.bool_]) -> "Solutions":
        return Solutions(self.theta[rows], self.objective[rows], self.settled[rows])

    def put(self, rows: NDArray[np.int_] | NDArray[np.bool_], found: "Solutions") -> None:
        """Write where the problems of these rows ended."""
        self.theta[rows], self.objective[rows] = found.theta, found.objective
        self.settled[rows] = found.settled


def joined(parts: Sequence[Solutions]) -> Solutions:
    """The batches one after another."""
    return Solutions(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.settled for part in parts]),
    )


def resolve(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    theta_P: Array,
    objectives: list[Objective],
) -> Solutions:
    """Refits of B problems on the same runs, started at `theta_P`.
    `log_loss_BR` and `weight_BR` may each be one row for all problems."""
    batch = max(len(log_loss_BR), len(weight_BR))
    weight_BR = np.broadcast_to(weight_BR, (batch, weight_BR.shape[1]))
    start_BP = np.broadcast_to(theta_P, (batch, len(theta_P)))
    return minimise(surface, log_loss_BR, weight_BR, start_BP, objectives, told=True)


def resolve_each(
    surface: Surface,
    log_loss_R: Array,
    weight_R: Array,
    start_BP: Array,
    objectives: list[Objective],
) -> Solutions:
    """Fits of one table from B places, each followed to its own end."""
    weight_BR = np.broadcast_to(weight_R, (len(start_BP), len(weight_R)))
    return minimise(surface, log_loss_R, weight_BR, start_BP, objectives)


def minimise(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    start_BP: Array,
    objectives: list[Objective],
    *,
    coarse: bool = False,
    race: bool = False,
    to_the_end: bool = False,
    told: bool = False,
) -> Solutions:
    """Newton from every start on each objective in turn; only the last one is followed until it
    settles.

    With `coarse` that one, too, is left after a few steps. With `race` all are starts of one fit,
    and those that cannot win are left; with `to_the_end` none is left because it creeps; with
    `told` it is news how many have settled.

    A problem that creeps along a curved valley towards a term of zero is tried with that term at
    zero."""
    if weight_BR.shape[1] <= MANY_ROWS:
        surface = at_points(surface)
    few, last = (_COARSE_STEPS, _COARSE_GAIN), (objectives[-1], FINAL_STEPS, _RELATIVE_GAIN)
    theta_BP = _lifted(surface, start_BP)
    for stage in objectives[:-1]:
        ends = follow(surface, log_loss_BR, weight_BR, theta_BP, stage, *few)
        theta_BP = _lifted(surface, ends.theta)
    if coarse:
        return follow(surface, log_loss_BR, weight_BR, theta_BP, objectives[-1], *few)
    ends = follow(
        surface,
        log_loss_BR,
        weight_BR,
        theta_BP,
        *last,
        race=race,
        to_the_end=to_the_end,
        told=told,
    )
    for index in np.flatnonzero(surface.vanishing):
        creeping = np.flatnonzero(~ends.settled)
        if not len(creeping):
            break
        at_zero = ends.theta[creeping]
        at_zero[:, index] = surface.lower[index]
        several = log_loss_BR.ndim == 2 and len(log_loss_BR) > 1
        target = log_loss_BR[creeping] if several else log_loss_BR
        again = follow(surface, target, weight_BR[creeping], at_zero, *last)
        better = again.objective < ends.objective[creeping]
        ends.put(creeping[better], again[better])
    return ends


def _lifted(surface: Surface, theta_BP: Array) -> Array:
    """theta with terms at zero made small instead: at zero they feel no slope and would stay."""
    return np.where(surface.vanishing, np.maximum(theta_BP, surface.lower + _SMALL_TERM), theta_BP)


def follow(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    start_BP: Array,
    objective: Objective,
    most_steps: int,
    enough: float,
    *,
    race: bool = False,
    to_the_end: bool = False,
    told: bool = False,
) -> Solutions:
    """Newton steps from every start on one objective; `race`, `to_the_end` and `told` as in
    `minimise`."""
    batch = len(start_BP)
    log_loss_BR = np.atleast_2d(log_loss_BR)
    theta = np.clip(start_BP, surface.lower, surface.upper)
    tiny_gain = ABSOLUTE_GAIN * weight_BR.sum(axis=1)
    open_ = np.arange(batch)  # which problems of the batch the rows below are
    here = expand(surface, log_loss_BR, weight_BR, open_, theta, objective)
    ends = Solutions(theta.copy(), here.objective.copy(), np.zeros(batch, dtype=bool))
    length = np.ones(batch)  # share of the step that is tried
    wide = np.zeros(batch, dtype=bool)  # whose Hessian counts runs just beyond delta, too
    before = np.full(batch, np.inf)  # the objective some steps ago
    for count in range(most_steps):
        if told:
            _log.debug("refitting, %s of %s done", f"{batch - len(open_):,}", f"{batch:,}")
        step, gain = _step(surface, theta, here)
        small = gain <= enough * here.objective + tiny_gain
        done = (small & ~wide) | (length < _SHORTEST)
        settled = small | (gain <= SAME_OBJECTIVE * here.objective)
        if count and count % _CREEP_STEPS == 0 and not to_the_end:
            fallen = before[open_] - here.objective
            done |= fallen <= _CREEP * here.objective + tiny_gain
            settled |= fallen <= SAME_OBJECTIVE * here.objective
            before[open_] = here.objective
        if race and ends.settled.any():
            won = ends.objective[ends.settled].min()
            done |= here.objective - _HOPELESS * gain > won * (1 + SAME_OBJECTIVE)
        if done.any():
            ends.put(open_[done], Solutions(theta, here.objective, settled)[done])
            keep = ~done
            if not keep.any():
                return ends
            open_, length, wide = open_[keep], length[keep], wide[keep]
            theta, here, step = theta[keep], here[keep], step[keep]
            tiny_gain = tiny_gain[keep]
        trial = np.clip(theta + length[:, None] * step, surface.lower, surface.upper)
        # A short step means that a run sits on the kink at delta: let the next Hessian see it from
        # both sides.
        widen = length < 0.2
        there = expand(surface, log_loss_BR, weight_BR, open_, trial, objective, widen)
        better = there.objective < here.objective
        if better.all():
            theta, here, wide = trial, there, widen
        else:
            theta = np.where(better[:, None], trial, theta)
            here = here.replaced(better, there)
            wide = np.where(better, widen, wide)
        length = np.where(better, np.where(widen, 1.0, np.minimum(4 * length, 1.0)), 0.25 * length)
    ends.theta[open_] = theta
    ends.objective[open_] = here.objective
    return ends


def _step(surface: Surface, theta: Array, here: Expansion) -> tuple[Array, Array]:
    """A damped Newton step for every problem, and the gain that the undamped one promises.

    Of a step beyond a bound that was given, the others take what is best with that coordinate on
    its bound: a step that is only cut there would leave the valley and be refused."""
    pushed = here.gradient
    held = ((theta <= surface.lower) & (pushed > 0)) | ((theta >= surface.upper) & (pushed < 0))
    step, gain = _step_of_free(surface, theta, here, held)
    beyond = (theta + step < surface.lower) | (theta + step > surface.upper)
    beyond &= surface.bounded
    rows = beyond.any(axis=1)
    if rows.any():
        onto = np.where(beyond, np.clip(theta + step, surface.lower, surface.upper) - theta, 0.0)
        tilted = here.gradient + np.einsum("bpq,bq->bp", here.hessian, onto)
        there = replace(here, gradient=tilted)
        others = _step_of_free(surface, theta, there, held | beyond)[0]
        step[rows] = (others + onto)[rows]
    return step, gain


def _step_of_free(
    surface: Surface, theta: Array, here: Expansion, held: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """The step with the coordinates `held` (B, P) left where they are."""
    gradient, hessian, metric = here.gradient, here.hessian, here.metric
    if metric is not None:
        moves = np.einsum("bpp->bp", metric)
        held = held | (moves <= _MOVES_NOTHING * moves.max(axis=1, keepdims=True))
    if held.any():
        apart = held[:, :, None] | held[:, None, :]
        gradient = np.where(held, 0.0, gradient)
        hessian = np.where(apart, 0.0, hessian)
        metric = None if metric is None else np.where(apart, np.eye(theta.shape[1]), metric)
    usable = np.isfinite(here.objective)
    for values in (gradient, hessian) if metric is None else (gradient, hessian, metric):
        usable &= np.isfinite(values).reshape(len(theta), -1).all(axis=1)
    if not usable.all():
        # Outside the formula's domain, or beyond floats: such a problem stays where it is, and has
        # not settled.
        gradient = np.where(usable[:, None], gradient, 0.0)
        hessian = np.where(usable[:, None, None], hessian, 0.0)
        if metric is not None:
            metric = np.where(usable[:, None, None], metric, np.eye(theta.shape[1]))
    if metric is not None:
        shape = _whitener(metric)
        hessian = shape.transpose(0, 2, 1) @ hessian @ shape
        gradient = np.einsum("bpk,bp->bk", shape, gradient)
    eigenvalue, vector = np.linalg.eigh(hessian)
    smallest = 1e-13 * here.scale if metric is None else np.full(len(theta), 1e-13)
    size = np.maximum(np.abs(eigenvalue), smallest[:, None])
    slope = np.einsum("bpk,bp->bk", vector, gradient)
    gain = 0.5 * (slope**2 / size).sum(axis=1)
    step = -np.einsum("bpk,bk->bp", vector, slope / size)
    if metric is not None:
        step = np.einsum("bpk,bk->bp", shape, step)
    longest = np.abs(step).max(axis=1, keepdims=True)
    most = _LARGEST_STEP if metric is None else _LARGEST_RAW_STEP
    step *= np.minimum(1.0, most / np.maximum(longest, 1e-300))
    # A term on its way to zero moves by one a step in its logarithm: let it go at once.
    fading = surface.vanishing & (step < -0.5) & (theta < surface.lower + _FADING_TERM)
    step = np.where(fading, -40.0, step)
    return step, np.where(usable, gain, np.inf)


def _whitener(metric_BPP: Array) -> Array:
    """W with WᵀMW = 1 for every M, directions that hardly matter held back: (B, P, P)."""
    diagonal = np.einsum("bpp->bp", metric_BPP)
    least = np.maximum(1e-24 * diagonal.max(axis=1, keepdims=True), 1e-300)
    length = 1.0 / np.sqrt(np.maximum(diagonal, least))
    eigenvalue, vector = np.linalg.eigh(metric_BPP * length[:, :, None] * length[:, None, :])
    size = np.sqrt(np.maximum(eigenvalue, 1e-15))[:, None, :]
    return np.asarray(length[:, :, None] * vector / size)


def unit_columns(columns_RK: Array) -> Array:
    """The columns at length one, so that they compare; those of zeros stay."""
    length = np.linalg.norm(columns_RK, axis=0)
    return np.asarray(columns_RK / np.where(length > 0, length, 1.0))
