"""Minimise sum_r w_r Huber_delta(ln L̂_r - ln L_r) over a law's coefficients: many problems at once, to the bottom.

Starts come from the law's surface; delta is lowered from 0.1 to the one asked for, so that far starts see a smooth
valley; each step is an exact Newton step, its Hessian made positive by its eigenvalues, damped for each problem on
its own, inside the bounds. Problems that have settled leave the batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import WorkError
from llmscale.laws import Array, Surface

STARTS, STARTS_FOR_FEW_RUNS, FEW_RUNS = 8, 32, 50
"""Few runs make a rugged objective, and cost little."""
FIRST_DELTA = 0.1
_DELTA_FACTOR = 3.0
_COARSE_STEPS = 6
_FINAL_STEPS = 400
_BLOCK = 2**16
"""Problems × runs in a block: what the cache holds."""
_LARGEST_STEP = 3.0
_SMALL_TERM, _FADING_TERM = 30.0, 25.0
"""Terms this much (in logs) above their lower bound are small, about 1e-3 of the loss, or far below any delta."""
_SHORTEST = 1e-14
"""A step cut to this share of itself has nowhere to go."""
_RELATIVE_GAIN = 1e-11
"""A problem has settled when a full Newton step promises less than this share of its objective ..."""
_ABSOLUTE_GAIN = 1e-27
"""... or less than this a run, which is rounding."""
_SAME_OBJECTIVE = 1e-8
"""Objectives this close are one optimum; a step that finds nothing better and promises less has settled, too."""


@dataclass(frozen=True)
class Solutions:
    """Where each problem of a batch ended: theta (B, P), objective (B,), and whether it settled."""

    theta: Array
    objective: Array
    settled: NDArray[np.bool_]


def solve(surface: Surface, log_loss_R: Array, weight_R: Array, delta: float) -> Array:
    """The best theta over many starts. Raises WorkError when the best of them did not settle."""
    starts = surface.starts(STARTS if len(log_loss_R) >= FEW_RUNS else STARTS_FOR_FEW_RUNS)
    weight_BR = np.broadcast_to(weight_R, (len(starts), len(weight_R)))
    ends = minimise(surface, log_loss_R, weight_BR, starts, graduated(delta))
    lowest = float(ends.objective.min())
    settled = np.where(ends.settled, ends.objective, np.inf)
    best = int(np.argmin(settled))
    if settled[best] > lowest * (1 + _SAME_OBJECTIVE) + _ABSOLUTE_GAIN * weight_R.sum():
        raise WorkError(
            f"the fit did not settle: after {_FINAL_STEPS} Newton steps from each of {len(starts)} starts the best"
            f" objective is {lowest:.6g} and still falling",
            "look for runs that do not belong together, or fit a law with fewer coefficients: --law power",
        )
    return ends.theta[best]


def resolve(surface: Surface, log_loss_BR: Array, weight_BR: Array, theta_P: Array, deltas: list[float]) -> Solutions:
    """Refits of B problems on the same runs, started at `theta_P`, in blocks that stay in the cache.

    `log_loss_BR` and `weight_BR` may each be one row for all problems.
    """
    batch = max(len(log_loss_BR), len(weight_BR))
    problems = max(_BLOCK // weight_BR.shape[1], 16)
    parts = []
    for first in range(0, batch, problems):
        block = slice(first, min(first + problems, batch))
        rows = block.stop - block.start
        target = log_loss_BR[block] if len(log_loss_BR) > 1 else log_loss_BR
        weight = weight_BR[block] if len(weight_BR) > 1 else weight_BR
        weight = np.broadcast_to(weight, (rows, weight.shape[1]))
        start = np.broadcast_to(theta_P, (rows, len(theta_P)))
        parts.append(minimise(surface, target, weight, start, deltas))
    return Solutions(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.settled for part in parts]),
    )


def graduated(delta: float) -> list[float]:
    """Deltas from FIRST_DELTA down to `delta`, by factors of about 3."""
    stages = max(int(np.ceil(np.log(FIRST_DELTA / delta) / np.log(_DELTA_FACTOR))), 0)
    return [delta * (FIRST_DELTA / delta) ** (1 - i / stages) for i in range(stages)] + [delta]


def huber_sum(residual: Array, weight: Array, delta: float) -> Array:
    """sum over the last axis of w Huber_delta(residual)."""
    clipped = np.clip(residual, -delta, delta)
    return np.asarray((weight * clipped * (residual - 0.5 * clipped)).sum(axis=-1))


def minimise(surface: Surface, log_loss_BR: Array, weight_BR: Array, start_BP: Array, deltas: list[float]) -> Solutions:
    """Newton from every start at each delta in turn; only the last delta is followed until it settles.

    A problem that creeps along a curved valley towards a term of zero is tried with that term at zero.
    """
    theta_BP = _lifted(surface, start_BP)
    for delta in deltas[:-1]:
        theta_BP = _lifted(surface, _newton(surface, log_loss_BR, weight_BR, theta_BP, delta, _COARSE_STEPS).theta)
    ends = _newton(surface, log_loss_BR, weight_BR, theta_BP, deltas[-1], _FINAL_STEPS)
    for index in np.flatnonzero(surface.vanishing):
        creeping = np.flatnonzero(~ends.settled)
        if not len(creeping):
            break
        at_zero = ends.theta[creeping]
        at_zero[:, index] = surface.lower[index]
        target = log_loss_BR[creeping] if log_loss_BR.ndim == 2 and len(log_loss_BR) > 1 else log_loss_BR
        again = _newton(surface, target, weight_BR[creeping], at_zero, deltas[-1], _FINAL_STEPS)
        better = again.objective < ends.objective[creeping]
        ends.theta[creeping[better]] = again.theta[better]
        ends.objective[creeping[better]] = again.objective[better]
        ends.settled[creeping[better]] = again.settled[better]
    return ends


def _lifted(surface: Surface, theta_BP: Array) -> Array:
    """theta with terms at zero made small instead: at zero they feel no slope and would stay."""
    return np.where(surface.vanishing, np.maximum(theta_BP, surface.lower + _SMALL_TERM), theta_BP)


def _newton(
    surface: Surface, log_loss_BR: Array, weight_BR: Array, start_BP: Array, delta: float, most_steps: int
) -> Solutions:
    batch = len(start_BP)
    log_loss_BR = np.atleast_2d(log_loss_BR)
    theta = np.clip(start_BP, surface.lower, surface.upper)
    tiny_gain = _ABSOLUTE_GAIN * weight_BR.sum(axis=1)
    objective, gradient, hessian, scale = _expand(surface, log_loss_BR, weight_BR, theta, delta)
    ends = Solutions(theta.copy(), objective.copy(), np.zeros(batch, dtype=bool))
    open_ = np.arange(batch)  # which problems of the batch the rows below are
    length = np.ones(batch)  # share of the step that is tried
    wide = np.zeros(batch, dtype=bool)  # whose Hessian counts runs just beyond delta, too
    target, weight = log_loss_BR, weight_BR
    for _ in range(most_steps):
        step, gain = _step(surface, theta, gradient, hessian, scale)
        trial = np.clip(theta + length[:, None] * step, surface.lower, surface.upper)
        small = gain <= _RELATIVE_GAIN * objective + tiny_gain
        # A short step means that a run sits on the kink at delta: let the next Hessian see it from both sides.
        widen = length < 0.2
        new_objective, new_gradient, new_hessian, new_scale = _expand(surface, target, weight, trial, delta, widen)
        better = new_objective < objective
        done = (small & ~wide) | (length < _SHORTEST)
        wide = np.where(better, widen, wide)
        theta = np.where(better[:, None], trial, theta)
        objective = np.where(better, new_objective, objective)
        gradient = np.where(better[:, None], new_gradient, gradient)
        hessian = np.where(better[:, None, None], new_hessian, hessian)
        scale = np.where(better, new_scale, scale)
        length = np.where(better, np.where(widen, 1.0, np.minimum(4 * length, 1.0)), 0.25 * length)
        if done.any():
            ends.theta[open_[done]] = theta[done]
            ends.objective[open_[done]] = objective[done]
            ends.settled[open_[done]] = (small | (gain <= _SAME_OBJECTIVE * objective))[done]
            keep = ~done
            if not keep.any():
                return ends
            open_, length, wide, theta, objective = open_[keep], length[keep], wide[keep], theta[keep], objective[keep]
            gradient, hessian, weight, tiny_gain = gradient[keep], hessian[keep], weight[keep], tiny_gain[keep]
            scale = scale[keep]
            target = target[keep] if len(target) > 1 else target
    ends.theta[open_] = theta
    ends.objective[open_] = objective
    return ends


def _expand(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    theta_BP: Array,
    delta: float,
    wide_B: NDArray[np.bool_] | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Objective, gradient and Hessian of every problem, and the size its Hessian would have under squared error.

    Where no residual is within delta the Hessian of the objective is next to nothing; Huber's reweighting, which
    bounds the objective from above, still has a size to damp by.
    """
    value, parts = surface.evaluate(theta_BP)
    residual = value - log_loss_BR
    clipped = np.clip(residual, -delta, delta)
    first = weight_BR * clipped
    second = weight_BR * (clipped == residual)
    if wide_B is not None and wide_B.any():
        second[wide_B] = np.broadcast_to(weight_BR, second.shape)[wide_B] * (np.abs(residual[wide_B]) <= 2 * delta)
    objective = np.einsum("br,br->b", first, residual - 0.5 * clipped)
    gradient, hessian = surface.derivatives(parts, first, second)
    scale = np.einsum("br,br->b", weight_BR, delta / np.maximum(np.abs(residual), delta))
    return objective, gradient, hessian, scale


def _step(surface: Surface, theta: Array, gradient: Array, hessian: Array, scale: Array) -> tuple[Array, Array]:
    """A damped Newton step for every problem, and the gain that the undamped one promises."""
    held = ((theta <= surface.lower) & (gradient > 0)) | ((theta >= surface.upper) & (gradient < 0))
    if held.any():
        gradient = np.where(held, 0.0, gradient)
        hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    eigenvalue, vector = np.linalg.eigh(hessian)
    size = np.maximum(np.abs(eigenvalue), 1e-13 * scale[:, None])
    slope = np.einsum("bpk,bp->bk", vector, gradient)
    gain = 0.5 * (slope**2 / size).sum(axis=1)
    step = -np.einsum("bpk,bk->bp", vector, slope / size)
    longest = np.abs(step).max(axis=1, keepdims=True)
    step *= np.minimum(1.0, _LARGEST_STEP / np.maximum(longest, 1e-300))
    # A term on its way to zero moves by one a step in its logarithm: let it go at once.
    fading = surface.vanishing & (step < -0.5) & (theta < surface.lower + _FADING_TERM)
    step = np.where(fading, -40.0, step)
    return step, gain
