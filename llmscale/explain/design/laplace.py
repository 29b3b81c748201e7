"""The optima of a law as plausible laws: each a Gaussian by Laplace's approximation, weighed by how
well it fits the runs that were measured."""

from dataclasses import dataclass

import numpy as np

from llmscale.explain.design.misfit import Misfit, Rows
from llmscale.explain.design.optima import Measured, Optima
from llmscale.explain.design.plausible import Plausible, from_coefficients
from llmscale.explain.laws import Array

_OPTIMA = 4
_FAR_WORSE = 8.0
"""Optima whose objective is this far above the lowest are implausible."""
_SAME = 0.5
"""Optima whose targets differ by less than this share of their standard deviation are one."""


@dataclass(frozen=True)
class Pool:
    """Runs that could be bought and the targets, as inputs of a law; `misfit` is of the pool."""

    inputs: Array
    targets: Array
    misfit: Misfit


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

    at_measured, at_open, at_targets = (
        said(inputs) for inputs in (runs.inputs, pool.inputs[open_to], pool.targets)
    )
    design = np.hstack([at_measured[1], own.drift])
    weighed = design / own.noise[:, None]
    prior = np.concatenate([np.full(z.size, runs.prior), np.full(own.drift.shape[1], noise**-2)])
    covariance = _inverse(design.T @ weighed / noise**2 + np.diag(prior))
    shift = covariance @ (weighed.T @ (runs.losses - at_measured[0])) / noise**2
    drift = pool.misfit.drift[open_to]
    no_drift = np.zeros((len(pool.targets), drift.shape[1]))
    bends = optima.slopes[index].T @ optima.slopes[index] / noise**2
    _, log_volume = np.linalg.slogdet(bends + runs.prior * np.eye(z.size))
    return from_coefficients(
        at_open[0] + drift @ shift[z.size :],
        at_targets[0],
        np.hstack([at_open[1], drift]),
        np.hstack([at_targets[1], no_drift]),
        covariance,
        noise * np.sqrt(pool.misfit.noise[open_to]),
        -float(optima.objective[index] + 0.5 * log_volume),
    )


def _alike(one: Plausible, other: Plausible) -> bool:
    variance = np.mean(np.sum(np.square(other.targets_spread), axis=1)) + np.min(other.noise) ** 2
    return bool(np.mean(np.square(one.targets - other.targets)) < _SAME**2 * variance)


def _inverse(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors / np.maximum(values, 1e-12 * values[-1])) @ vectors.T)
