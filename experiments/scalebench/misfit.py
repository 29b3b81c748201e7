"""How a law may miss runs that are far from the targets.

No law holds everywhere. What is asked is that it holds at the targets: a run near them must agree
with it, and one far from them may not. Its miss is independent noise that grows with the distance,
and a smooth drift that is nil at the targets. Many cheap runs in one corner drift together, so that
they count as few."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array

Rows = NDArray[np.intp]

_FEATURES = 200
"""Of the smooth drift: random Fourier features of a Gaussian kernel (Rahimi & Recht 2007)."""
_SEED = 0
_AT_TARGETS = 0.01
"""Variance of the drift, as a share of that far away, that counts as nil."""


@dataclass(frozen=True)
class Trust:
    """How far from the targets a law is trusted: misses are shares of the spread of the losses, and
    distances are in standard deviations of the logarithms of what the runs vary."""

    scatter: float = 0.05
    """Of each run on its own, at a distance of 1; it grows in proportion."""
    drift: float = 0.15
    """Of the smooth drift, far away."""
    length: float = 3.0
    """Distance over which the drift changes."""


@dataclass(frozen=True)
class Misfit:
    """Of N runs, in units of the noise that the losses have anyway."""

    noise: Array
    """(N,): variance of a run on its own, 1 at the targets."""
    drift: Array
    """(N, m): the drift is drift @ w, w ~ N(0, I)."""

    def at(self, runs: Rows) -> "Misfit":
        """Of these runs."""
        return Misfit(self.noise[runs], self.drift[runs])

    @property
    def whitening(self) -> Array:
        """(N, N): what makes misses that are distributed so independent of each other, and 1."""
        covariance = np.diag(self.noise) + self.drift @ self.drift.T
        return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


@dataclass(frozen=True)
class Surroundings:
    """Where the N runs are about the targets, at which a law is to hold."""

    apart: Array
    """(N,): squared distance from the nearest target."""
    drift: Array
    """(N, m): features of a drift of size 1 that is nil at the targets."""
    trust: Trust

    def misfit(self, noise: float) -> Misfit:
        """`noise` is what the losses have anyway, as a share of their spread."""
        scatter = np.square(self.trust.scatter / noise)
        return Misfit(1 + scatter * self.apart, self.trust.drift / noise * self.drift)


def surroundings(runs: Array, targets: Array, trust: Trust) -> Surroundings:
    """Of runs (N, d) and targets (T, d), inputs of laws that are all positive."""
    places, asked = _places(runs, targets)
    apart = np.square(places[:, None] - asked[None]).mean(axis=2).min(axis=1)
    features = _features(np.vstack([places, asked]) / trust.length)
    at_runs, at_targets = features[: len(places)], features[len(places) :]
    _, sizes, directions = np.linalg.svd(at_targets, full_matrices=False)
    known = np.square(sizes) / (np.square(sizes) + _AT_TARGETS)
    drift = at_runs - ((at_runs @ directions.T) * known) @ directions
    return Surroundings(apart, drift, trust)


def _places(runs: Array, targets: Array) -> tuple[Array, Array]:
    """Logarithms in units of their standard deviation over the runs."""
    tiny = np.finfo(float).tiny
    logs, asked = np.log(np.maximum(runs, tiny)), np.log(np.maximum(targets, tiny))
    spread = logs.std(axis=0)
    spread[spread == 0] = 1.0
    return logs / spread, asked / spread


def _features(places: Array) -> Array:
    generator = np.random.default_rng(_SEED)
    waves = generator.standard_normal((places.shape[1], _FEATURES))
    phases = generator.uniform(0, 2 * np.pi, _FEATURES)
    return np.asarray(np.sqrt(2 / _FEATURES) * np.cos(places @ waves + phases))
