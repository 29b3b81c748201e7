"""Bootstrap of large tables from scores: what many refits would spread by, without making them.

With n runs a refit moves the coefficients by H^-1 times the sum of the scores drawn, to order 1/n:
H is the Hessian of the objective, and a run's score its slope. From some ten thousand runs that sum
is Gaussian whatever the noise, so replicates are drawn from its sandwich covariance H^-1 S H^-1
(Huber 1967; Hu & Kalbfleisch 2000, Canad. J. Statist. 28, "The estimating function bootstrap") in
the solver's coordinates, in which the objective is nearly a parabola. S is that of the draws it
stands for: points are drawn with replacement, then runs within each. A coefficient on a bound stays
there."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.laws import Array, Surface
from llmscale.notes.fitting import SCORE_BOOTSTRAP

ROWS = int(SCORE_BOOTSTRAP.limit)
"""Tables of more rows are not refitted a thousand times."""
_BLOCK = 2**15
_NEAR = 0.3
"""Standard deviations over which the density of residuals is about the one at the law."""


def replicates(
    surface: Surface,
    theta_P: Array,
    log_loss_R: Array,
    point_R: NDArray[np.int_],
    weight_R: Array,
    *,
    count: int,
    objective: Objective,
    rng: np.random.Generator,
    steps: bool,
) -> tuple[Array, Note]:
    """`count` draws of theta (count, P), and the note that says how they were made.
    With `steps` the rows of a point are the steps of one run, which are drawn together."""
    free = (theta_P > surface.lower) & (theta_P < surface.upper)
    hessian, score_RP = _slopes(surface, theta_P, log_loss_R, weight_R, objective)
    points = int(point_R.max()) + 1
    spread = _of_draws(score_RP[:, free], point_R, points, whole=steps)
    inverse = _inverse(hessian[np.ix_(free, free)])
    covariance = inverse @ spread @ inverse
    value, vector = np.linalg.eigh(0.5 * (covariance + covariance.T))
    width = vector * np.sqrt(np.maximum(value, 0.0))
    # With few points their spread is uncertain, too: Student's t with as many degrees of freedom.
    wider = np.sqrt((points - 1) / rng.chisquare(points - 1, count))
    drawn = np.tile(theta_P, (count, 1))
    drawn[:, free] += (rng.standard_normal((count, int(free.sum()))) @ width.T) * wider[:, None]
    drawn = np.clip(drawn, surface.lower, surface.upper)
    note = SCORE_BOOTSTRAP.note(
        f"{len(log_loss_R):,} rows are not refitted {count} times: the intervals come from "
        f"{count} draws with the spread that refits of resampled {'runs' if steps else 'points'} "
        "would have, to first order (from scores and Hessian at the fit)"
    )
    return drawn, note


def simulated(
    surface: Surface,
    theta_P: Array,
    weight_R: Array,
    shared: Sequence[tuple[NDArray[np.int_], Array]],
    seed_B: Array | None,
    rng: np.random.Generator,
) -> Array:
    """Draws of theta (B, P) if points are few: least squares of tables to first order. Rows are off
    by what they share with those of the same index (R,), each with its standard deviations (B,),
    and by `seed_B` each on its own."""
    free = (theta_P > surface.lower) & (theta_P < surface.upper)
    size, count = int(free.sum()), len(shared[0][1])
    own, within = np.zeros((size, size)), np.zeros((size, size))
    pulled = [np.zeros((int(index_R.max()) + 1, size)) for index_R, _ in shared]
    for first in range(0, len(weight_R), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(weight_R)))
        jacobian = surface.of_rows(rows).jacobian(theta_P)[:, free]
        weighted = jacobian * weight_R[rows, None]
        own += weighted.T @ jacobian
        within += weighted.T @ weighted
        for sums, (index_R, _) in zip(pulled, shared, strict=True):
            np.add.at(sums, index_R[rows], weighted)
    inverse = _inverse(own)
    pull = np.zeros((count, size))
    if seed_B is not None:
        value, vector = np.linalg.eigh(within)
        root = (vector * np.sqrt(np.maximum(value, 0.0))).T
        pull += seed_B[:, None] * (rng.standard_normal((count, size)) @ root)
    for sums, (_, scale_B) in zip(pulled, shared, strict=True):
        pull += scale_B[:, None] * (rng.standard_normal((count, len(sums))) @ sums)
    drawn = np.tile(theta_P, (count, 1))
    drawn[:, free] += pull @ inverse
    return np.clip(drawn, surface.lower, surface.upper)


def _slopes(
    surface: Surface, theta_P: Array, log_loss_R: Array, weight_R: Array, objective: Objective
) -> tuple[Array, Array]:
    """The Hessian of the objective (P, P), and every run's score (R, P), block by block."""
    size = len(theta_P)
    window = _window(surface, theta_P, log_loss_R, objective)
    hessian, score_RP = np.zeros((size, size)), np.empty((len(log_loss_R), size))
    for first in range(0, len(log_loss_R), _BLOCK):
        rows = np.arange(first, min(first + _BLOCK, len(log_loss_R)))
        part = surface.of_rows(rows)
        value, parts = part.evaluate(theta_P[None])
        residual = value - log_loss_R[rows]
        _, slope, bend = objective.expand(residual)
        if window is not None:
            bend = np.where(np.abs(residual) <= window, objective.delta / window, 0.0)
        slope, bend = slope * weight_R[rows], bend * weight_R[rows]
        hessian += part.derivatives(parts, slope, bend)[1][0]
        score_RP[rows] = part.jacobian(theta_P) * slope[0][:, None]
    return hessian, score_RP


def _window(
    surface: Surface, theta_P: Array, log_loss_R: Array, objective: Objective
) -> float | None:
    """How near to the law residuals tell their density, if too few within delta do."""
    if objective.name != "huber":
        return None
    rows = np.linspace(0, len(log_loss_R) - 1, min(_BLOCK, len(log_loss_R))).astype(int)
    residual = surface.of_rows(rows).evaluate(theta_P[None])[0][0] - log_loss_R[rows]
    window = _NEAR * 1.4826 * float(np.median(np.abs(residual)))
    return window if window > objective.delta else None


def _of_draws(score_RP: Array, point_R: NDArray[np.int_], points: int, *, whole: bool) -> Array:
    """The covariance of the sum of scores over points drawn again, and runs within each."""
    runs_P = np.bincount(point_R, minlength=points).astype(float)
    sums = [np.bincount(point_R, weights=column, minlength=points) for column in score_RP.T]
    total = np.stack(sums, axis=1)
    spread = total.T @ total - points * np.outer(total.mean(axis=0), total.mean(axis=0))
    if not whole:
        within = score_RP - (total / np.maximum(runs_P, 1.0)[:, None])[point_R]
        spread = spread + within.T @ within
    return np.asarray(spread)


def _inverse(hessian: Array) -> Array:
    """Of a Hessian that should be positive: directions next to nothing are taken as unknown."""
    length = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    value, vector = np.linalg.eigh(hessian * length[:, None] * length)
    size = np.maximum(np.abs(value), 1e-10 * np.abs(value).max(initial=1e-300))
    scaled = length[:, None] * vector
    return np.asarray((scaled / size) @ scaled.T)
