"""What is believed of runs and targets while a batch is bought: how they vary together, and what
one more run takes away of the variance of the targets.

These covariances do not depend on the outcome of a run, so a batch can be chosen before any of it
is measured."""

from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.laws import Array

_MOVES_NOTHING = 1e-12
"""Directions with less than this share of the largest spread are rounding."""


@dataclass(frozen=True)
class Belief:
    """A vector z of standard normal numbers moves the K runs that could be bought and the T targets
    together:

        outcome of a run = expected + runs_spread z + noise,    target = expected + targets_spread z
    """

    runs_spread: Array
    """(K, P)"""
    targets_spread: Array
    """(T, P)"""
    noise: Array
    """(K,): standard deviation of an outcome about what is known of the run."""

    @property
    def variance(self) -> float:
        """Of the targets, in the mean."""
        return float(np.mean(np.sum(np.square(self.targets_spread), axis=1)))

    def gains(self) -> Array:
        """(K,): by how much each run, if it were the next, lowers the variance of the targets:
        cov(target, outcome)²/var(outcome)."""
        variance = np.sum(np.square(self.runs_spread), axis=1) + np.square(self.noise)
        covariance = self.targets_spread @ self.runs_spread.T
        squares = np.mean(np.square(covariance), axis=0)
        return np.divide(squares, variance, out=np.zeros_like(squares), where=variance > 0)

    def after(self, run: int) -> "Belief":
        """What is believed once this run was measured."""
        direction, noise = self.runs_spread[run], float(self.noise[run])
        return replace(
            self,
            runs_spread=_narrowed(self.runs_spread, direction, noise),
            targets_spread=_narrowed(self.targets_spread, direction, noise),
        )


def from_draws(runs: Array, targets: Array, noise: float | Array) -> Belief:
    """By draws: what B bootstrap refits or draws from a posterior say of the runs (B, K) and of the
    targets (B, T).

    Few draws correlate by chance. The correlations between runs and targets are therefore shrunk as
    Schäfer & Strimmer (2005) shrink a correlation matrix: by the share of their squares that is
    their own sampling variance. What a run's spread loses by it counts as its noise."""
    draws = len(runs)
    runs_spread = (runs - runs.mean(axis=0)).T / np.sqrt(draws - 1)
    targets_spread = (targets - targets.mean(axis=0)).T / np.sqrt(draws - 1)
    shrunk = _shrinkage(runs_spread, targets_spread, draws)
    variance = np.sum(runs_spread**2, axis=1)
    runs_spread, targets_spread = _compact(runs_spread, targets_spread)
    lost = (1 - (1 - shrunk) ** 2) * variance
    return Belief((1 - shrunk) * runs_spread, targets_spread, np.sqrt(np.square(noise) + lost))


def _narrowed(spread: Array, direction: Array, noise: float) -> Array:
    """The spread once an outcome along `direction` is known: spread (I - v v'/(v'v + noise²))^½."""
    length = float(direction @ direction)
    if length == 0:
        return spread
    share = (1 - noise / np.sqrt(length + noise**2)) / length
    return np.asarray(spread - np.outer(spread @ (share * direction), direction))


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
