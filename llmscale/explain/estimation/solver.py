"""Minimise sum_r w_r rho(ln L̂_r - ln L_r) over a law's coefficients: many problems at once, to the
bottom.

Starts come from the law's surface; delta is lowered from 0.1 to the one asked for, so that far
starts see a smooth valley; each step is an exact Newton step, its Hessian made positive by its
eigenvalues, damped for each problem on its own, inside the bounds. Problems that have settled leave
the batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import InputError, WorkError
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.laws import Array, Surface

STARTS, STARTS_WHERE_RUGGED, FEW_RUNS = 8, 32, 50
_FAR_ABOVE = 10.0
_NEXT_TO = 0.03
"""In theta: that close, starts lead to the same place."""
_COARSE_STEPS = 6
_FINAL_STEPS = 400
_FOLLOWED = 3
"""Ends that are followed further: on all rows of a large table, or along a ridge."""
_RIDGE = 0.01
"""An objective that falls by a smaller share in another 400 steps is at the bottom of a ridge."""
MANY_ROWS, ROWS_OF_A_PART = 2**15, 2**13
"""From this many rows on, starts are tried on a part of them, and sums made in blocks."""
_BLOCK, _RAW_BLOCK = 2**14, 2**16
"""Problems × runs in a block: what the cache holds, and what is quick for formulas."""
_LARGEST_STEP, _LARGEST_RAW_STEP = 3.0, 10.0
"""On centred coordinates, and on those where amplitudes make up for changes of exponents."""
_SMALL_TERM, _FADING_TERM = 30.0, 25.0
"""Terms so far (in logs) above their lower bound are small, or far below any delta."""
_AT_ZERO = 1e-3
_SHORTEST = 1e-14
"""A step cut to this share of itself has nowhere to go."""
_RELATIVE_GAIN, _COARSE_GAIN = 1e-11, 1e-3
"""A problem has settled when a full Newton step promises less than this share of its objective (the
second: before the last objective) ..."""
_ABSOLUTE_GAIN = 1e-27
"""... or less than this a run, which is rounding."""
_CREEP, _CREEP_STEPS = 1e-5, 50
"""A problem whose objective falls by less than this share in so many steps creeps along a ridge,
and is left there, not settled."""
_HOPELESS = 100.0
"""Of several starts of one fit, one that is further above a settled one than so many times what its
next step promises is left."""
_SAME_OBJECTIVE = 1e-8
"""Objectives this close are one optimum; a step that finds nothing better has settled, too."""
_LEVEL = 1e-6
"""Eigenvalues of the Hessian below this share of what squares would give: perhaps level there."""
_MOVES = 1e-4
"""Directions of theta that move the losses by a smaller share of what others do move nothing."""
_TILTS = tuple(10.0**power for power in range(1, -6, -1))
"""Squares that break ties, times delta: from least squares to what doubles can just see."""
_TIED = 1e-10
"""Objectives that differ by less than this share are equal."""


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
    here = _expand(*problem, np.arange(1), theta_P[None], objective)
    free = (theta_P > surface.lower) & (theta_P < surface.upper)
    hessian = here.hessian[0][np.ix_(free, free)]
    if not np.isfinite(hessian).all():
        return theta_P
    if not _is_level(hessian, np.sqrt(weight_R)[:, None] * surface.jacobian(theta_P)[:, free]):
        return theta_P
    tilts = [replace(objective, squares=share * objective.delta) for share in _TILTS]
    starts = np.vstack([theta_P, surface.starts(STARTS)])
    weight_BR = np.broadcast_to(weight_R, (len(starts), len(weight_R)))
    ends = minimise(surface, log_loss_R, weight_BR, starts, [Objective("squared"), *tilts])
    lowest = ends.theta[[np.argmin(ends.objective)]]
    ends = _newton(*problem, lowest, tilts[-1], _FINAL_STEPS, 0.0)
    there = _expand(*problem, np.arange(1), ends.theta, objective)
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
    ends = minimise(surface, log_loss_R, weight_BR, starts, [*stages, objective], race=True)
    ends = joined([ends, *_from_special_cases(surface, log_loss_R, weight_R, objective)])
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
    ends = minimise(part, log_loss_R[rows], weight_BR, starts, [*stages, objective])
    hopeful = _apart(ends)[:_FOLLOWED]
    weight_BR = np.broadcast_to(weight_R, (len(hopeful), len(weight_R)))
    ends = minimise(surface, log_loss_R, weight_BR, hopeful, [objective])
    ends = joined([ends, *_from_special_cases(surface, log_loss_R, weight_R, objective)])
    return _best(surface, log_loss_R, weight_R, objective, ends)


def _from_special_cases(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective
) -> list[Solutions]:
    """Descents from the best of each law that this one holds."""
    descend_from = _descend_by_part if len(log_loss_R) > MANY_ROWS else _descend_at_once
    found = []
    for case, as_own in surface.special_cases():
        start_P = as_own(descend_from(case, log_loss_R, weight_R, objective).theta)
        found.append(resolve_each(surface, log_loss_R, weight_R, start_P[None], [objective]))
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
        starts = _apart(minimise(surface, log_loss_R, weight_BR, starts, useful, coarse=True))
    return starts, []


def _best(
    surface: Surface, log_loss_R: Array, weight_R: Array, objective: Objective, ends: Solutions
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
    rounding = _ABSOLUTE_GAIN * weight_R.sum()
    if settled[best] <= ends.objective[lowest] * (1 + _SAME_OBJECTIVE) + rounding:
        return Descent(ends.theta[best], True)
    creeping = np.argsort(ends.objective, kind="stable")[:_FOLLOWED]
    weight_BR = np.broadcast_to(weight_R, (len(creeping), len(weight_R)))
    start = ends.theta[creeping]
    further = minimise(surface, log_loss_R, weight_BR, start, [objective], to_the_end=True)
    lower = int(np.argmin(further.objective))
    if further.settled[lower]:
        return Descent(further.theta[lower], True)
    fallen = ends.objective[lowest] - further.objective[lower]
    if fallen > _RIDGE * ends.objective[lowest] + rounding:
        raise _unsettled(float(further.objective[lower]))
    return Descent(further.theta[lower], False)


def _unsettled(objective: float) -> WorkError:
    return WorkError(
        f"the fit did not settle: after {2 * _FINAL_STEPS} Newton steps from the best of many "
        f"starts the objective is {objective:.6g} and still falling",
        "look for runs that do not belong together, or fit a law with fewer coefficients: --law "
        "power",
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
    return minimise(surface, log_loss_BR, weight_BR, start_BP, objectives)


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


def _apart(ends: Solutions) -> Array:
    """Where the problems ended, lowest first, without those that ended next to a lower one."""
    kept: list[Array] = []
    for theta in ends.theta[np.argsort(ends.objective, kind="stable")]:
        if all(np.abs(theta - other).max() > _NEXT_TO for other in kept):
            kept.append(theta)
    return np.array(kept)


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
) -> Solutions:
    """Newton from every start on each objective in turn; only the last one is followed until it
    settles.

    With `coarse` that one, too, is left after a few steps. With `race` all are starts of one fit,
    and those that cannot win are left; with `to_the_end` none is left because it creeps.

    A problem that creeps along a curved valley towards a term of zero is tried with that term at
    zero."""
    few, last = (_COARSE_STEPS, _COARSE_GAIN), (objectives[-1], _FINAL_STEPS, _RELATIVE_GAIN)
    theta_BP = _lifted(surface, start_BP)
    for stage in objectives[:-1]:
        ends = _newton(surface, log_loss_BR, weight_BR, theta_BP, stage, *few)
        theta_BP = _lifted(surface, ends.theta)
    if coarse:
        return _newton(surface, log_loss_BR, weight_BR, theta_BP, objectives[-1], *few)
    ends = _newton(
        surface, log_loss_BR, weight_BR, theta_BP, *last, race=race, to_the_end=to_the_end
    )
    for index in np.flatnonzero(surface.vanishing):
        creeping = np.flatnonzero(~ends.settled)
        if not len(creeping):
            break
        at_zero = ends.theta[creeping]
        at_zero[:, index] = surface.lower[index]
        several = log_loss_BR.ndim == 2 and len(log_loss_BR) > 1
        target = log_loss_BR[creeping] if several else log_loss_BR
        again = _newton(surface, target, weight_BR[creeping], at_zero, *last)
        better = again.objective < ends.objective[creeping]
        ends.put(creeping[better], again[better])
    return ends


def _lifted(surface: Surface, theta_BP: Array) -> Array:
    """theta with terms at zero made small instead: at zero they feel no slope and would stay."""
    return np.where(surface.vanishing, np.maximum(theta_BP, surface.lower + _SMALL_TERM), theta_BP)


@dataclass(frozen=True)
class _Expansion:
    """Objective (B,), gradient (B, P) and Hessian (B, P, P) of every problem, and what steps are
    measured by.

    `scale` (B,) is the size that the Hessian would have under squared error: if no residual is
    within delta the Hessian is next to nothing, and Huber's reweighting, which bounds the objective
    from above, still has a size to damp by. `metric` (B, P, P), for surfaces that are not centred,
    is how far a step moves ln L, squared and summed."""

    objective: Array
    gradient: Array
    hessian: Array
    scale: Array
    metric: Array | None

    def __getitem__(self, rows: NDArray[np.bool_]) -> "_Expansion":
        metric = None if self.metric is None else self.metric[rows]
        return _Expansion(
            self.objective[rows], self.gradient[rows], self.hessian[rows], self.scale[rows], metric
        )

    def replaced(self, rows: NDArray[np.bool_], other: "_Expansion") -> "_Expansion":
        """This one with the rows of another where `rows` says so."""
        metric = None
        if self.metric is not None and other.metric is not None:
            metric = np.where(rows[:, None, None], other.metric, self.metric)
        return _Expansion(
            np.where(rows, other.objective, self.objective),
            np.where(rows[:, None], other.gradient, self.gradient),
            np.where(rows[:, None, None], other.hessian, self.hessian),
            np.where(rows, other.scale, self.scale),
            metric,
        )


def _newton(
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
) -> Solutions:
    batch = len(start_BP)
    log_loss_BR = np.atleast_2d(log_loss_BR)
    theta = np.clip(start_BP, surface.lower, surface.upper)
    tiny_gain = _ABSOLUTE_GAIN * weight_BR.sum(axis=1)
    open_ = np.arange(batch)  # which problems of the batch the rows below are
    here = _expand(surface, log_loss_BR, weight_BR, open_, theta, objective)
    ends = Solutions(theta.copy(), here.objective.copy(), np.zeros(batch, dtype=bool))
    length = np.ones(batch)  # share of the step that is tried
    wide = np.zeros(batch, dtype=bool)  # whose Hessian counts runs just beyond delta, too
    before = np.full(batch, np.inf)  # the objective some steps ago
    for count in range(most_steps):
        step, gain = _step(surface, theta, here)
        small = gain <= enough * here.objective + tiny_gain
        done = (small & ~wide) | (length < _SHORTEST)
        settled = small | (gain <= _SAME_OBJECTIVE * here.objective)
        if count and count % _CREEP_STEPS == 0 and not to_the_end:
            fallen = before[open_] - here.objective
            done |= fallen <= _CREEP * here.objective + tiny_gain
            settled |= fallen <= _SAME_OBJECTIVE * here.objective
            before[open_] = here.objective
        if race and ends.settled.any():
            won = ends.objective[ends.settled].min()
            done |= here.objective - _HOPELESS * gain > won * (1 + _SAME_OBJECTIVE)
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
        there = _expand(surface, log_loss_BR, weight_BR, open_, trial, objective, widen)
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


def _expand(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    rows: NDArray[np.int_],
    theta: Array,
    objective: Objective,
    wide: NDArray[np.bool_] | None = None,
) -> _Expansion:
    """The problems `rows` of the batch at theta, in blocks that stay in the cache."""
    most = max((_BLOCK if surface.centred else _RAW_BLOCK) // weight_BR.shape[1], 1)
    blocks = []
    for first in range(0, len(rows), most):
        part = slice(first, first + most)
        target = log_loss_BR[rows[part]] if len(log_loss_BR) > 1 else log_loss_BR
        weight, reach = weight_BR[rows[part]], None if wide is None else wide[part]
        blocks.append(_expand_block(surface, target, weight, theta[part], objective, reach))
    if len(blocks) == 1:
        return blocks[0]
    metrics = [block.metric for block in blocks if block.metric is not None]
    return _Expansion(
        np.concatenate([block.objective for block in blocks]),
        np.concatenate([block.gradient for block in blocks]),
        np.concatenate([block.hessian for block in blocks]),
        np.concatenate([block.scale for block in blocks]),
        np.concatenate(metrics) if metrics else None,
    )


def _expand_block(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    theta_BP: Array,
    objective: Objective,
    wide_B: NDArray[np.bool_] | None,
) -> _Expansion:
    runs = weight_BR.shape[1]
    sums: tuple[Array, ...] = ()
    if runs <= MANY_ROWS:
        sums = _sums(surface, log_loss_BR, weight_BR, theta_BP, objective, wide_B)
    else:
        for first in range(0, runs, MANY_ROWS):
            rows = np.arange(first, min(first + MANY_ROWS, runs))
            part, target, weight = surface.of_rows(rows), log_loss_BR[:, rows], weight_BR[:, rows]
            block = _sums(part, target, weight, theta_BP, objective, wide_B)
            sums = tuple(map(np.add, sums, block)) if sums else block
    total, gradient, hessian, metric = sums
    total = np.where(np.isnan(total), np.inf, total)  # outside the formula's domain
    scale = weight_BR.sum(axis=1)
    if objective.name != "squared":
        # objective / (delta scale) is the mean residual, about: the reweighting is delta over it
        with np.errstate(over="ignore"):
            scale = scale * (objective.delta**2 * scale / (objective.delta**2 * scale + total))
    return _Expansion(total, gradient, hessian, scale, None if surface.centred else metric)


def _sums(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    theta_BP: Array,
    objective: Objective,
    wide_B: NDArray[np.bool_] | None,
) -> tuple[Array, ...]:
    """Sums over runs: objective (B,), gradient (B, P), Hessian (B, P, P), metric unless centred."""
    value, parts = surface.evaluate(theta_BP)
    residual = value - log_loss_BR
    rho, first, second = objective.expand(residual)
    if objective.name == "huber" and wide_B is not None and wide_B.any():
        second[wide_B] = np.abs(residual[wide_B]) <= 2 * objective.delta
    total = np.einsum("br,br->b", weight_BR, rho)
    first *= weight_BR
    second *= weight_BR
    if surface.centred:
        return total, *surface.derivatives(parts, first, second), np.zeros(1)
    return total, *surface.with_metric(parts, first, second, weight_BR)


def _step(surface: Surface, theta: Array, here: _Expansion) -> tuple[Array, Array]:
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
    surface: Surface, theta: Array, here: _Expansion, held: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """The step with the coordinates `held` (B, P) left where they are."""
    gradient, hessian, metric = here.gradient, here.hessian, here.metric
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
