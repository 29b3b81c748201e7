"""What is believed of runs and targets while a batch is bought: the plausible laws, conditioned on
the runs in the batch, and what one more run is expected to tell.

Between laws (or optima) it matters what a run brings, which nobody knows yet: the batch is followed
in several imagined futures, each with outcomes drawn from what is believed. Within a law the
covariances after a run do not depend on its outcome, so the futures share them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.design.plausible import Plausible, weights_of
from llmscale.explain.laws import Array

FUTURES = 16
_NODES = 9
"""Gauss–Hermite nodes over a run's outcome under each law."""
_FAR = 700.0
"""Logarithms of densities this far below the highest are zero in double precision."""


@dataclass(frozen=True)
class Belief:
    """G laws in F futures. Arrays are named by their axes: F, G, K runs, T targets."""

    weights_FG: Array
    runs_FGK: Array
    targets_FGT: Array
    spreads: tuple[tuple[Array, Array], ...]
    """For each law, of the runs (K, P) and of the targets (T, P)."""
    noise_GK: Array
    target_weights: Array
    """(T,), in sum 1."""

    @property
    def variance(self) -> float:
        """Of the targets, by their weights, expected over the futures: within laws and between."""
        within_G = np.array([self._size(targets) for _, targets in self.spreads])
        apart_FGT = self.targets_FGT - self.mean[:, None, :]
        between_FG = np.square(apart_FGT) @ self.target_weights
        return float(np.mean(np.sum(self.weights_FG * (within_G + between_FG), axis=1)))

    @property
    def mean(self) -> Array:
        """(F, T): of the targets."""
        return np.asarray(np.einsum("fg,fgt->ft", self.weights_FG, self.targets_FGT))

    def _size(self, spread: Array) -> float:
        return float(np.sum(np.square(spread), axis=1) @ self.target_weights)


@dataclass(frozen=True)
class Gains:
    """(K,) each: by how much every run is expected to lower the variance of the targets, and how
    much of that it does within the laws; the rest is what it tells between them."""

    total: Array
    within: Array


def belief_of(members: Sequence[Plausible], target_weights: Array | None = None) -> Belief:
    """What is believed before the batch."""
    count = len(members[0].targets)
    if target_weights is None:
        target_weights = np.ones(count)
    return Belief(
        weights_of(members)[None, :],
        np.array([[member.runs for member in members]]),
        np.array([[member.targets for member in members]]),
        tuple((member.runs_spread, member.targets_spread) for member in members),
        np.array([member.noise for member in members]),
        target_weights / target_weights.sum(),
    )


def gains(belief: Belief) -> Gains:
    """What each run is expected to tell of the targets, if it were the next.

    The variance that an outcome y takes away is that of E[target | y] over y (law of total
    variance), so it is never negative. With one law it is cov(target, y)²/var(y)."""
    told = [
        _told_by(law, noise) for law, noise in zip(belief.spreads, belief.noise_GK, strict=True)
    ]
    variance_GK = np.array([variance for variance, _ in told])
    per_law_GK = np.array([_length(gain, belief) * variance for variance, gain in told])
    within = np.einsum("fg,gk->k", belief.weights_FG, per_law_GK) / len(belief.weights_FG)
    if len(told) == 1:
        return Gains(within, within)
    slopes_GKT = np.array([gain.T for _, gain in told])
    futures = range(len(belief.weights_FG))
    total = np.mean(
        [_moved_by_outcome(belief, future, variance_GK, slopes_GKT) for future in futures], axis=0
    )
    return Gains(total, np.minimum(within, total))


def after(belief: Belief, run: int, generator: np.random.Generator) -> Belief:
    """What is believed once this run is in the batch, its outcome not seen."""
    if len(belief.spreads) > 1 and len(belief.weights_FG) == 1:
        belief = _with_futures(belief)
    outcome_F = _imagined(belief, run, generator)
    runs_FGK, targets_FGT = belief.runs_FGK.copy(), belief.targets_FGT.copy()
    surprise_FG = np.empty_like(belief.weights_FG)
    spreads = []
    for law, (of_runs, of_targets) in enumerate(belief.spreads):
        direction = of_runs[run]
        noise = belief.noise_GK[law, run]
        variance = direction @ direction + noise**2
        missed_F = outcome_F - runs_FGK[:, law, run]
        surprise_FG[:, law] = -0.5 * (missed_F**2 / variance + np.log(variance))
        runs_FGK[:, law] += np.outer(missed_F, of_runs @ direction / variance)
        targets_FGT[:, law] += np.outer(missed_F, of_targets @ direction / variance)
        spreads.append(
            (_narrowed(of_runs, direction, noise), _narrowed(of_targets, direction, noise))
        )
    return replace(
        belief,
        weights_FG=_reweighted(belief.weights_FG, surprise_FG),
        runs_FGK=runs_FGK,
        targets_FGT=targets_FGT,
        spreads=tuple(spreads),
    )


def _told_by(spreads: tuple[Array, Array], noise: Array) -> tuple[Array, Array]:
    """Of one law: the variance of each run's outcome (K,), and by how much each target moves (T, K)
    for one unit of the outcome."""
    of_runs, of_targets = spreads
    variance = np.sum(np.square(of_runs), axis=1) + np.square(noise)
    covariance = of_targets @ of_runs.T
    moves = np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0)
    return variance, moves


def _length(moves: Array, belief: Belief) -> Array:
    return np.asarray(belief.target_weights @ np.square(moves))


def _moved_by_outcome(belief: Belief, future: int, variance_GK: Array, slopes_GKT: Array) -> Array:
    """(K,): the variance of E[target | y] over a run's outcome y, by Gauss–Hermite quadrature under
    each law.

    E[target | y] less its mean is the sum over laws of w(y) (apart + slope (y - expected)), so its
    square is a form in the products of those vectors, and no node needs a vector of targets."""
    weights_G, expected_GK = belief.weights_FG[future], belief.runs_FGK[future]
    apart_GT = belief.targets_FGT[future] - belief.mean[future]
    nodes, shares = np.polynomial.hermite_e.hermegauss(_NODES)
    shares = shares / shares.sum()
    deviation_GK = np.sqrt(np.maximum(variance_GK, np.finfo(float).tiny))
    outcome_GQK = expected_GK[:, None, :] + nodes[None, :, None] * deviation_GK[:, None, :]
    missed_LGQK = outcome_GQK[None] - expected_GK[:, None, None, :]
    density_LGQK = (
        -0.5 * np.square(missed_LGQK / deviation_GK[:, None, None, :])
        - np.log(deviation_GK)[:, None, None, :]
        + np.log(np.maximum(weights_G, np.finfo(float).tiny))[:, None, None, None]
    )
    density_LGQK -= density_LGQK.max(axis=0)
    believed_LGQK = np.exp(np.maximum(density_LGQK, -_FAR))
    believed_LGQK /= believed_LGQK.sum(axis=0)
    pulled_LGQK = believed_LGQK * missed_LGQK
    weighted_GT = apart_GT * belief.target_weights
    constant_LM = weighted_GT @ apart_GT.T
    mixed_LMK = np.einsum("lt,mkt->lmk", weighted_GT, slopes_GKT)
    slope_LMK = np.einsum("lkt,mkt,t->lmk", slopes_GKT, slopes_GKT, belief.target_weights)
    squared_GQK = (
        np.einsum("lgqk,mgqk,lm->gqk", believed_LGQK, believed_LGQK, constant_LM, optimize=True)
        + 2 * np.einsum("lgqk,mgqk,lmk->gqk", believed_LGQK, pulled_LGQK, mixed_LMK, optimize=True)
        + np.einsum("lgqk,mgqk,lmk->gqk", pulled_LGQK, pulled_LGQK, slope_LMK, optimize=True)
    )
    return np.asarray(np.einsum("g,q,gqk->k", weights_G, shares, np.maximum(squared_GQK, 0.0)))


def _with_futures(belief: Belief) -> Belief:
    return replace(
        belief,
        weights_FG=np.repeat(belief.weights_FG, FUTURES, axis=0),
        runs_FGK=np.repeat(belief.runs_FGK, FUTURES, axis=0),
        targets_FGT=np.repeat(belief.targets_FGT, FUTURES, axis=0),
    )


def _imagined(belief: Belief, run: int, generator: np.random.Generator) -> Array:
    """(F,): an outcome in each future. With one law there is one, the expected, since no outcome
    changes what the next run tells."""
    if len(belief.spreads) == 1:
        return belief.runs_FGK[:, 0, run]
    futures = len(belief.weights_FG)
    # Strata: with few futures, each law gets about its share of them.
    strata = (generator.permutation(futures) + 0.5) / futures
    true_F = (np.cumsum(belief.weights_FG, axis=1) < strata[:, None]).sum(axis=1)
    true_F = np.minimum(true_F, len(belief.spreads) - 1)
    known_G = [np.sum(np.square(of_runs[run])) for of_runs, _ in belief.spreads]
    variance_G = np.array(known_G) + np.square(belief.noise_GK[:, run])
    drawn_F = generator.standard_normal(futures) * np.sqrt(variance_G)[true_F]
    return np.asarray(belief.runs_FGK[np.arange(futures), true_F, run] + drawn_F)


def _narrowed(spread: Array, direction: Array, noise: float) -> Array:
    """The spread once an outcome along `direction` is known: spread (I - v v'/(v'v + noise²))^½."""
    length = float(direction @ direction)
    if length == 0:
        return spread
    share = (1 - noise / np.sqrt(length + noise**2)) / length
    return np.asarray(spread - np.outer(spread @ (share * direction), direction))


def _reweighted(weights_FG: Array, log_likelihood_FG: Array) -> Array:
    logs_FG = np.log(np.maximum(weights_FG, np.finfo(float).tiny)) + log_likelihood_FG
    logs_FG -= logs_FG.max(axis=1, keepdims=True)
    weights_FG = np.exp(logs_FG)
    return np.asarray(weights_FG / weights_FG.sum(axis=1, keepdims=True))
