"""The laws that the runs so far leave plausible, each seen only through what it says of the runs
that could be bought and of the targets: a Gaussian about one optimum of one law."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.laws import Array

_MOVES_NOTHING = 1e-12
"""Directions with less than this share of the largest spread are rounding."""


@dataclass(frozen=True)
class Plausible:
    """One law at one optimum. A vector z of standard normal numbers moves what it says of the K
    runs that could be bought and of the T targets together:

        outcome of a run = runs + runs_spread z + noise,    target = targets + targets_spread z
    """

    runs: Array
    """(K,): the loss that it expects of each run, or its logarithm: of one kind with `targets`."""
    targets: Array
    """(T,)"""
    runs_spread: Array
    """(K, P)"""
    targets_spread: Array
    """(T, P)"""
    noise: Array
    """(K,): standard deviation of an outcome about the law."""
    log_weight: float = 0.0
    """Logarithm of how plausible it is; only differences from the others count."""


def from_coefficients(
    runs: Array,
    targets: Array,
    runs_slopes: Array,
    targets_slopes: Array,
    covariance: Array,
    noise: float | Array,
    log_weight: float = 0.0,
) -> Plausible:
    """An optimum whose coefficients have this covariance (P, P): the slopes (K, P) and (T, P) of
    what the law says carry it over (Laplace's approximation)."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > _MOVES_NOTHING**2 * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])
    return Plausible(
        runs,
        targets,
        runs_slopes @ root,
        targets_slopes @ root,
        np.broadcast_to(np.asarray(noise, dtype=float), runs.shape),
        log_weight,
    )


def from_draws(
    runs: Array, targets: Array, noise: float | Array, log_weight: float = 0.0
) -> Plausible:
    """An optimum known by draws: what B bootstrap refits or draws from a posterior say of the runs
    (B, K) and of the targets (B, T).

    Few draws correlate by chance. The correlations between runs and targets are therefore shrunk as
    Schäfer & Strimmer (2005) shrink a correlation matrix: by the share of their squares that is
    their own sampling variance. What a run's spread loses by it counts as its noise."""
    draws = len(runs)
    runs_spread = (runs - runs.mean(axis=0)).T / np.sqrt(draws - 1)
    targets_spread = (targets - targets.mean(axis=0)).T / np.sqrt(draws - 1)
    shrunk = _shrinkage(runs_spread, targets_spread, draws)
    variance = np.sum(runs_spread**2, axis=1)
    runs_spread, targets_spread = _compact(runs_spread, targets_spread)
    return Plausible(
        runs.mean(axis=0),
        targets.mean(axis=0),
        (1 - shrunk) * runs_spread,
        targets_spread,
        np.sqrt(np.square(noise) + (1 - (1 - shrunk) ** 2) * variance),
        log_weight,
    )


def weights_of(members: Sequence[Plausible]) -> Array:
    """(G,): how plausible each is, in sum 1."""
    logs = np.array([member.log_weight for member in members])
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def worth_keeping(members: Sequence[Plausible], least: float = 1e-3) -> tuple[Plausible, ...]:
    """Those that have more than this share of the weight, the most plausible first."""
    weights = weights_of(members)
    order = np.argsort(-weights, kind="stable")
    return tuple(
        replace(members[index], log_weight=float(np.log(weights[index])))
        for index in order
        if weights[index] >= least
    )


def _shrinkage(runs_spread: Array, targets_spread: Array, draws: int) -> float:
    """By which share correlations between runs and targets are shrunk: the sum of their sampling
    variances, (1 - r²)²/(B - 1), over that of their squares."""
    lengths = np.linalg.norm(runs_spread, axis=1), np.linalg.norm(targets_spread, axis=1)
    moving = lengths[0] > 0, lengths[1] > 0
    if not (moving[0].any() and moving[1].any()):
        return 0.0
    directions = runs_spread[moving[0]] / lengths[0][moving[0], None]
    asked = targets_spread[moving[1]] / lengths[1][moving[1], None]
    squares = np.minimum((directions @ asked.T) ** 2, 1.0)
    by_chance = (1 - squares) ** 2 / (draws - 1)
    return float(min(by_chance.sum() / squares.sum(), 1.0))


def _compact(runs_spread: Array, targets_spread: Array) -> tuple[Array, Array]:
    """The same spreads by as few numbers as move anything: laws have fewer coefficients than there
    are draws."""
    both = np.vstack([runs_spread, targets_spread])
    left, sizes, _ = np.linalg.svd(both, full_matrices=False)
    kept = sizes > _MOVES_NOTHING * max(sizes[0], np.finfo(float).tiny)
    spread = left[:, kept] * sizes[kept]
    return spread[: len(runs_spread)], spread[len(runs_spread) :]
