"""The optima of a law as plausible laws: each a Gaussian by Laplace's approximation, weighed by how
well it fits the runs that were measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from misfit import Misfit, Rows
from optima import Measured, Optima

from llmscale.explain.design.belief import Belief
from llmscale.explain.design.prospects import Prospects
from llmscale.explain.laws import Array

_OPTIMA = 4
_FAR_WORSE = 8.0
"""Optima whose objective is this far above the lowest are implausible."""
_SAME = 0.5
"""Optima whose targets differ by less than this share of their standard deviation are one."""
_LEAST_SHARE = 0.01
_MOVES_NOTHING = 1e-12
"""Directions with less than this share of the largest spread are rounding."""


@dataclass(frozen=True)
class Pool:
    """Runs that could be bought and the targets, as inputs of a law; `misfit` is of the pool."""

    inputs: Array
    targets: Array
    misfit: Misfit


@dataclass(frozen=True)
class Plausible:
    """One optimum: what it says of the targets (T,), what is believed about them, and the logarithm
    of how plausible it is; only differences from the others count."""

    targets: Array
    belief: Belief
    log_weight: float


@dataclass(frozen=True)
class Spread:
    """The standard deviation of the targets, as `next` takes the width of an interval."""

    belief: Belief

    @property
    def width(self) -> float:
        return float(np.sqrt(self.belief.variance))

    @cached_property
    def widths_with(self) -> Array:
        """With each of the runs, one at a time: (K,)."""
        return np.sqrt(np.maximum(self.belief.variance - self.belief.gains(), 0.0))

    def after(self, run: int) -> "Spread":
        """Once this run was measured."""
        return Spread(self.belief.after(run))


def prospects_of(members: Sequence[Plausible]) -> Prospects[Spread]:
    """The optima, with their shares of the weight."""
    logs = np.array([member.log_weight for member in members])
    shares = np.exp(logs - logs.max())
    shares = shares / shares.sum()
    kept = [one for one in np.argsort(-shares, kind="stable") if shares[one] >= _LEAST_SHARE]
    return Prospects.of((float(shares[one]), Spread(members[one].belief)) for one in kept)


def plausible_optima(
    runs: Measured, measured: Rows, optima: Optima, pool: Pool, open_to: Rows
) -> list[Plausible]:
    """Of `open_to`, rows of the pool, after the rows `measured`: the distinct optima, the best
    first."""
    found: list[Plausible] = []
    for index in range(len(optima.z)):
        worse = optima.objective[index] - optima.objective[0]
        if worse > _FAR_WORSE or len(found) == _OPTIMA:
            break
        one = _plausible(runs, measured, optima, index, pool, open_to)
        if np.isfinite(one.targets).all() and not any(_alike(one, other) for other in found):
            found.append(one)
    return found


def noise_of(runs: Measured, misses: Array, slopes: Array) -> float:
    """Standard deviation of whitened misses (N,), less what the coefficients fitted of them."""
    squares = float(np.sum(np.square(misses))) + runs.floor
    count = len(misses)
    variance = squares / count
    for _ in range(3):
        sizes = np.linalg.svd(slopes, compute_uv=False) ** 2 / variance
        fitted = float(np.sum(sizes / (sizes + runs.prior)))
        variance = squares / max(count - fitted, 1 + 0.2 * count)
    return float(np.sqrt(variance))


def robust_scale(runs: Measured, z: Array) -> float:
    """Standard deviation of the misses at z (P,) by their median, which outliers do not move."""
    plain = Measured(runs.law, runs.box, runs.inputs, runs.losses, runs.whitening)
    missed = np.abs(plain.misses(z[None])[0][0])
    count = len(missed)
    left = np.sqrt(count / max(count - z.size, 0.3 * count))
    least = max(float(np.sqrt(runs.floor / count)), 0.1 * float(missed.std()))
    return max(float(1.4826 * np.median(missed) * left), least)


def _plausible(
    runs: Measured, measured: Rows, optima: Optima, index: int, pool: Pool, open_to: Rows
) -> Plausible:
    """One optimum. What is unknown of a run is the coefficients and the drift there, which the
    measured runs tell of together; of a target only the coefficients, since it has no drift."""
    z, coefficients = optima.z[index], runs.box.coefficients(optima.z[index])
    noise = noise_of(runs, optima.misses[index], optima.slopes[index])
    own = pool.misfit.at(measured)

    def said(inputs: Array) -> tuple[Array, Array]:
        values, slopes = runs.law(coefficients[None], inputs)
        return values[0], slopes[0] * runs.box.slopes(coefficients)

    (_, at_measured), (_, at_open), (targets, at_targets) = (
        said(inputs) for inputs in (runs.inputs, pool.inputs[open_to], pool.targets)
    )
    design = np.hstack([at_measured, own.drift])
    weighed = design / own.noise[:, None]
    prior = np.concatenate([np.full(z.size, runs.prior), np.full(own.drift.shape[1], noise**-2)])
    root = _root(_inverse(design.T @ weighed / noise**2 + np.diag(prior)))
    drift = pool.misfit.drift[open_to]
    no_drift = np.zeros((len(pool.targets), drift.shape[1]))
    bends = optima.slopes[index].T @ optima.slopes[index] / noise**2
    _, log_volume = np.linalg.slogdet(bends + runs.prior * np.eye(z.size))
    belief = Belief(
        np.hstack([at_open, drift]) @ root,
        np.hstack([at_targets, no_drift]) @ root,
        noise * np.sqrt(pool.misfit.noise[open_to]),
    )
    return Plausible(targets, belief, -float(optima.objective[index] + 0.5 * log_volume))


def _alike(one: Plausible, other: Plausible) -> bool:
    variance = other.belief.variance + np.min(other.belief.noise) ** 2
    return bool(np.mean(np.square(one.targets - other.targets)) < _SAME**2 * variance)


def _root(covariance: Array) -> Array:
    """(P, M): covariance = root root', without directions that are rounding."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > _MOVES_NOTHING**2 * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def _inverse(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors / np.maximum(values, 1e-12 * values[-1])) @ vectors.T)
