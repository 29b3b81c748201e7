"""How a law may miss runs that are far from the targets.

No law holds everywhere. What is asked is that it holds at the targets: a run near them must agree
with it, and one far from them may not. Its miss is independent noise that grows with the distance,
and a smooth drift that is nil at the targets. Many cheap runs in one corner drift together, so that
they count as few."""

from dataclasses import dataclass

import numpy as np

from llmscale.explain.laws import Array

_FEATURES = 200
"""Of the smooth drift: random Fourier features of a Gaussian kernel (Rahimi & Recht 2007)."""
_SEED = 0
_AT_TARGETS = 0.01
"""Variance of the drift, as a share of that far away, that counts as nil."""


@dataclass(frozen=True)
class Trust:
    """How far from the targets a law is trusted; distances in standard deviations of the logarithms
    of what the runs vary."""

    scatter: float = 10.0
    """The noise's variance at a distance d is 1 + scatter d², in units of that at the targets."""
    drift: float = 30.0
    """Variance of the smooth drift far away, in the units of the mean noise."""
    length: float = 3.0
    """Distance over which the drift changes."""


@dataclass(frozen=True)
class Misfit:
    """Of N runs: their noise, as a variance in sum N over all, and their drift by features."""

    noise: Array
    """(N,)"""
    drift: Array
    """(N, m): the drift is drift @ w, w ~ N(0, I) in the units of the noise's variance."""

    def at(self, runs: Array) -> "Misfit":
        """Of these runs, in the units in which their own noise is 1 in the mean."""
        mean = self.noise[runs].mean()
        return Misfit(self.noise[runs] / mean, self.drift[runs])

    def scaled(self, runs: Array) -> Array:
        """(N,): the noise's variance of all in the units of `at(runs)`."""
        return np.asarray(self.noise / self.noise[runs].mean())

    @property
    def whitening(self) -> Array:
        """(N, N): what makes misses that are distributed so independent of each other, and 1."""
        covariance = np.diag(self.noise) + self.drift @ self.drift.T
        return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


def misfit_about(runs: Array, targets: Array, trust: Trust) -> Misfit:
    """Of a law that is to hold at the targets (T, d), the N runs (N, d) being inputs of laws, all
    positive."""
    places, asked = _places(runs, targets)
    apart = np.square(places[:, None] - asked[None]).mean(axis=2).min(axis=1)
    features = _features(np.vstack([places, asked]) / trust.length)
    at_runs, at_targets = features[: len(places)], features[len(places) :]
    _, sizes, directions = np.linalg.svd(at_targets, full_matrices=False)
    known = np.square(sizes) / (np.square(sizes) + _AT_TARGETS)
    drift = at_runs - ((at_runs @ directions.T) * known) @ directions
    return Misfit(1 + trust.scatter * apart, np.sqrt(trust.drift) * drift)


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
