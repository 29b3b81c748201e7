"""How `anchored` is fitted: first the shape of the loss around the best runs, then the power law
in compute through all runs, each brought to the best of its budget by that shape.

A law that is fitted to all runs alike is bent by those that are far from the optimum, which are
many and fit worst. Here a run counts the less the further its loss lies above the best of its
budget, 1/(1 + (excess/3%)²), and along the frontier the more the larger it is. What runs of few
budgets cannot tell is filled in from published laws, as wide priors on exponents and on the floor's
share of the loss. The shape is the most probable one. The frontier is the mean of the posterior, as
curves: of coefficients that runs cannot tell apart the most probable ones are often at one end.
Noise is the typical residual of the runs that count (anchor_noise.py), and runs that are far off
the law count less and less: one bad run carries no forecast.

The refits are draws from the posterior: of the shape from its curvature, and of the frontier on a
grid, moved as each shape brings the runs to the best of their budgets."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.estimation.anchor_frontier import Frontier
from llmscale.explain.estimation.anchor_noise import LEAST_NOISE, Noise, noise_of
from llmscale.explain.estimation.anchor_prior import PUBLISHED, Prior
from llmscale.explain.estimation.anchor_shape import Shape
from llmscale.explain.laws import Array
from llmscale.explain.laws.anchored import Anchored

NEAR = 0.03
"""Runs with a loss this share above the best of their budget count half."""
LATER = 0.5
"""Along the frontier runs count as C^0.5."""
_LEAST_OFF, _LARGEST_OFF = 0.1, 0.5
_MOST_ROWS, _MOST_ON_GRID = 3000, 600
"""Of more rows as many are taken, evenly spread, for the shape and for the frontier: beyond, the
posterior is narrow anyhow."""
_CLIPPED = 0.72
"""Root mean square of what is left of normal noise if larger values are cut to its deviation."""
_PASSES, _PASSES_WITH_POWER = 3, 2
"""How often weights and noise are found again, with k = 1 and then with k free."""


def nearness(excess: Any) -> Any:
    """How much runs count that lie so far above the best of their budget (in ln L)."""
    return 1.0 / (1.0 + (excess / NEAR) ** 2)


@dataclass(frozen=True)
class Anchor:
    """The law, draws of its coefficients (B, 8), one log residual a draw, the noise (a standard
    deviation of ln L), and the share of its excess by which the loss of a run off the optimum is
    missed."""

    law: Anchored
    replicates: Array
    noise: Array
    scale: float
    off: float


def fit_anchor(
    N: Array,
    D: Array,
    loss: Array,
    weight: Array,
    start: Array,
    *,
    runs: int,
    draws: int,
    seed: int,
    prior: Prior = PUBLISHED,
) -> Anchor:
    """The law of these rows (R); `start` are E, A, B, alpha, beta of Chinchilla's law of them.
    `runs` says of how many runs the rows are: checkpoints of one tell less than as many runs."""
    weight = weight / weight.mean()
    if len(loss) > _MOST_ROWS:
        some = np.linspace(0, len(loss) - 1, _MOST_ROWS).astype(int)
        N, D, loss, weight = N[some], D[some], loss[some], weight[some]
    # Minimisers step by the size of what they search: the unit of the loss must not change it.
    unit = float(np.exp(np.log(loss).mean()))
    loss, start = loss / unit, start / np.array([unit, unit, unit, 1.0, 1.0])
    shape = Shape(np.log(N), np.log(D), np.log(loss), prior)
    log_C = np.log(6.0) + shape.log_N + shape.log_D
    theta = shape.theta(start)
    independent = min(runs / len(loss), 1.0)
    near, noise = weight, Noise(LEAST_NOISE, 1.0)
    for free_power in (False,) * _PASSES + (True,) * _PASSES_WITH_POWER:
        excess = np.maximum(shape.value(theta) - shape.at_best(theta, log_C), 0.0)
        near = weight * nearness(excess)
        left = shape.log_loss - shape.value(theta)
        told = shape.told(theta, near * independent, noise.scale)
        noise = noise_of(left, near, independent, told)
        theta = shape.most_probable(theta, near, noise.scale, free_power=free_power)
    brought = shape.brought(theta, log_C)
    later = near * np.exp(LATER * (log_C - log_C.max()))
    some = np.arange(len(loss))
    if len(loss) > _MOST_ON_GRID:
        some = np.linspace(0, len(loss) - 1, _MOST_ON_GRID).astype(int)
        independent *= len(loss) / _MOST_ON_GRID
    on_grid = (log_C[some], brought[some], later[some])
    frontier = Frontier(*on_grid, noise, prior, independent)

    rng = np.random.default_rng(seed)
    best = frontier.expected()
    law = _laws(best[None], frontier.largest, shape.coefficients(theta[None]))[0]
    drawn = np.empty((0, len(law)))
    residuals = np.empty(0)
    if draws:
        thetas = shape.draws(theta, near * independent, noise, draws, rng)
        moved = np.array([shape.brought(one, log_C)[some] for one in thetas]) - brought[some]
        frontiers = frontier.moved(frontier.draws(draws, rng), best, moved)
        drawn = _laws(frontiers, frontier.largest, shape.coefficients(thetas))
        residuals = _residuals(shape.log_loss - shape.value(theta), near, noise.scale, draws, rng)
    found = Anchored(*law.tolist())
    off = _off(found.excess(N, D), found.loss(N, D) / loss)
    as_given = np.array([unit, unit, *np.ones(len(law) - 2)])
    return Anchor(
        Anchored(*(law * as_given).tolist()), drawn * as_given, residuals, noise.scale, off
    )


def _laws(frontier_B3: Array, largest: float, shape_B5: Array) -> Array:
    """E, A, gamma, N_S, D_S, alpha, beta, k of every row: (B, 8)."""
    level, share, gamma = frontier_B3.T
    with np.errstate(over="ignore"):
        E = np.exp(level) * share
        A = np.exp(level + np.log(1.0 - share) + gamma * largest)
    return np.column_stack([E, A, gamma, shape_B5])


def _off(excess: Array, ratio: Array) -> float:
    """Of the rows that are off the optimum, the typical |residual| as a share of the excess."""
    far = excess > NEAR
    if not far.any():
        return _LARGEST_OFF
    share = np.abs(np.log(ratio[far])) / excess[far]
    return float(np.clip(np.sqrt(np.mean(share**2)), _LEAST_OFF, _LARGEST_OFF))


def _residuals(
    residual: Array, weight: Array, scale: float, count: int, rng: np.random.Generator
) -> Array:
    """One residual a draw, those of runs that count more being drawn more often, as large as the
    noise is."""
    typical = np.sqrt((weight * np.minimum(residual**2, scale**2)).sum() / weight.sum())
    drawn = rng.choice(residual, size=count, p=weight / weight.sum())
    return np.asarray(drawn * max(_CLIPPED * scale / max(float(typical), LEAST_NOISE), 1.0))
