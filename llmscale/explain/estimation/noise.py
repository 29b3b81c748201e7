"""How large the noise of runs about a law is: of their bulk, so that a few bad runs do not set it.

A robust fit passes exactly through some runs and may lie anywhere between others, so its own
residuals say neither their spread nor how many lie within delta. So the noise is that of a nearby
M-fit which is next to least squares (Huber's proposal 2 with a bound of two standard deviations:
Huber 1964; Huber & Ronchetti 2009, sec. 6.7), on the degrees of freedom that are left."""

import numpy as np
from scipy.special import ndtr, ndtri

from llmscale.explain.estimation.objective import Objective
from llmscale.explain.laws import Array

_BOUND = 2.0
"""Residuals count up to so many standard deviations: 97% as precise as squares, if all is well."""
_STEPS = 50
_SETTLED = 1e-6
_NODES = 20_001
"""Quantiles of a Gaussian that an expectation is the mean over."""


def least_squares_residual(residual_R: Array, jacobian_RP: Array) -> tuple[Array, int]:
    """What the nearest least-squares fit would leave of the residuals, and the rank of the
    Jacobian.

    A robust fit passes exactly through some runs; this one does not, and says better how large the
    noise is."""
    correction, _, rank, _ = np.linalg.lstsq(jacobian_RP, residual_R, rcond=1e-9)
    return residual_R - jacobian_RP @ correction, int(rank)


def bulk_noise(residual_R: Array, jacobian_RP: Array, weight_R: Array) -> float:
    """The standard deviation of ln L about the law, of a run of weight one; to be linear in the
    coefficients, the law is taken near the fit. 0 if no degree of freedom is left."""
    root = np.sqrt(weight_R)
    target, jacobian = residual_R * root, jacobian_RP * root[:, None]
    left, rank = least_squares_residual(target, jacobian)
    degrees = int((weight_R > 0).sum()) - rank
    if degrees <= 0:
        return 0.0
    bounded = 2 * ndtr(_BOUND) - 1
    density = np.exp(-0.5 * _BOUND**2) / np.sqrt(2 * np.pi)
    of_gaussian = bounded - 2 * _BOUND * density + _BOUND**2 * (1 - bounded)
    noise = float(np.sqrt((left**2).sum() / degrees))
    project = jacobian @ np.linalg.pinv(jacobian, rcond=1e-9)
    for _ in range(_STEPS):
        before = noise
        left = left - project @ np.clip(left, -_BOUND * noise, _BOUND * noise)
        squares = np.minimum(left**2, (_BOUND * noise) ** 2).sum()
        noise = float(np.sqrt(squares / (degrees * of_gaussian)))
        if abs(noise - before) <= _SETTLED * before:
            break
    return noise


def expected(objective: Objective, noise_R: Array) -> tuple[Array, Array]:
    """E[rho'^2] and E[rho''] of Gaussian residuals with these standard deviations (R,)."""
    normal = ndtri((np.arange(_NODES) + 0.5) / _NODES)
    squares, bends = np.empty(len(noise_R)), np.empty(len(noise_R))
    for noise in np.unique(noise_R):
        _, first, second = objective.expand(noise * normal)
        squares[noise_R == noise] = (first**2).mean()
        bends[noise_R == noise] = second.mean()
    return squares, bends
