"""The power law in compute through the best runs of each budget, of which `anchored` is made."""

import math
from functools import cached_property

import numpy as np
from scipy.optimize import least_squares

from llmscale.explain.estimation.anchor_noise import Noise, counting, improbable
from llmscale.explain.estimation.anchor_prior import Prior
from llmscale.explain.laws import Array

_EXPONENTS = np.geomspace(0.01, 0.8, 45)
_SHARES = np.linspace(0.0, 0.98, 50)
_LARGEST_SHARE = 0.999
_IMPROBABLE = 8.0
"""Minus the logarithm of a posterior that is left out, next to the best."""
_MOST_OF_IT = 0.3
_AT_ONCE = 2**14
"""Runs × points of the grid whose residuals are held at once: what the cache holds."""
_ZOOMS = 4
"""How often the grid is laid again, each time over the part that is not improbable."""
_AHEAD = math.log(100.0)
"""How far beyond the runs, in ln C, the frontier is that of the posterior."""
_CURVE_POINTS = 24
_COEFFICIENTS = 3
_LEVELLED = 4
"""How often runs are weighed anew by how far they are off the level."""


class Frontier:
    """The posterior of ln L = level + ln(share + (1 - share) (C/largest)^-gamma) on a grid of gamma
    and share; the level is solved for, robustly."""

    def __init__(
        self,
        log_C: Array,
        log_loss: Array,
        weight: Array,
        noise: Noise,
        prior: Prior,
        independent: float,
    ) -> None:
        self.largest = float(log_C.max())
        self.x, self.log_loss, self.weight = log_C - self.largest, log_loss, weight
        self.noise, self.scale = noise, noise.scale
        self.prior, self.independent = prior, independent

    def expected(self) -> Array:
        """(level, share, gamma) of the frontier that is nearest to the mean of ln L over the
        posterior, from the first runs to as far ahead as forecasts go."""
        at, probability = self.posterior
        x = np.linspace(min(float(self.x.min()), -1.0), _AHEAD, _CURVE_POINTS)
        mean = probability @ _curves(at, x)
        most_probable = at[np.argmax(probability)]

        def apart(coefficients: Array) -> Array:
            return np.asarray(_curves(coefficients[None], x)[0] - mean) / self.scale

        ends = ([-np.inf, 0.0, _EXPONENTS[0] / 2], [np.inf, _LARGEST_SHARE, 2 * _EXPONENTS[-1]])
        start = np.clip(most_probable, np.array(ends[0]) + 1e-6, np.array(ends[1]) - 1e-6)
        return np.asarray(least_squares(apart, start, bounds=ends, x_scale=(1.0, 0.1, 0.1)).x)

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """(count, 3), anywhere in the cell of the grid that is drawn."""
        (gammas, shares), (at, probability) = self.axes, self.posterior
        drawn = at[rng.choice(len(at), size=count, p=probability)]
        gamma = drawn[:, 2] * np.exp(_jitter(np.log(gammas), count, rng))
        share = np.clip(drawn[:, 1] + _jitter(shares, count, rng), 0.0, _LARGEST_SHARE)
        level = self._levels(np.exp(-gamma[:, None] * self.x), share)[0]
        total = max(float(self.weight.sum()) * self.independent, 1.0)
        spread = self.scale / np.sqrt(total) * self.noise.factors(count, rng)
        level = level + spread * rng.standard_normal(count)
        return np.stack([level, share, gamma], axis=1)

    def moved(self, drawn_B3: Array, best: Array, change_BR: Array) -> Array:
        """Draws of the frontier, each of runs whose best losses lie by `change` (in ln L) elsewhere
        than they were taken to, to first order."""
        level, share, gamma = best
        falling = np.exp(-gamma * self.x)
        loss = share + (1.0 - share) * falling
        slope = (1.0 - falling) / loss, -(1.0 - share) * self.x * falling / loss
        slope_R3 = np.stack([np.ones_like(loss), *slope], axis=1)
        off = (self.log_loss - _curves(best[None], self.x)[0]) / self.scale
        weight = self.independent * self.weight * counting(off) / self.scale**2
        spreads = np.array([np.inf, self.prior.floor_spread, gamma * self.prior.frontier_spread])
        known = np.diag(spreads**-2.0)
        precision = (weight[:, None] * slope_R3).T @ slope_R3 + known
        shift = np.linalg.solve(precision, (weight[:, None] * slope_R3).T @ change_BR.T).T
        level, share, gamma = (drawn_B3 + shift).T
        share = np.clip(share, 0.0, _LARGEST_SHARE)
        gamma = np.clip(gamma, _EXPONENTS[0] / 2, 2 * _EXPONENTS[-1])
        return np.stack([level, share, gamma], axis=1)

    @cached_property
    def axes(self) -> tuple[Array, Array]:
        """gamma and share, as finely as the posterior asks: the grid is laid again over the part
        of it that is not improbable, until that is most of it."""
        gamma, share = _EXPONENTS, _SHARES
        for _ in range(_ZOOMS):
            _, cost = self._grid(gamma, share)
            likely = (cost - cost.min() < _IMPROBABLE).reshape(len(gamma), len(share))
            rows, columns = np.flatnonzero(likely.any(axis=1)), np.flatnonzero(likely.any(axis=0))
            if min(len(rows) / len(gamma), len(columns) / len(share)) > _MOST_OF_IT:
                break
            low, high = max(rows[0] - 1, 0), min(rows[-1] + 1, len(gamma) - 1)
            gamma = np.geomspace(gamma[low], gamma[high], len(gamma))
            low, high = max(columns[0] - 1, 0), min(columns[-1] + 1, len(share) - 1)
            share = np.linspace(share[low], share[high], len(share))
        return gamma, share

    @cached_property
    def posterior(self) -> tuple[Array, Array]:
        """Every (level, share, gamma) of the grid (G, 3), and its probability (G,)."""
        at, cost = self._grid(*self.axes)
        probability = np.exp(cost.min() - cost)
        return at, probability / probability.sum()

    def _grid(self, gamma_G: Array, share_S: Array) -> tuple[Array, Array]:
        """Every (level, share, gamma), and minus the logarithm of its posterior."""
        gamma, share = (part.ravel() for part in np.meshgrid(gamma_G, share_S, indexing="ij"))
        parts, most = [], max(_AT_ONCE // (len(self.x) * len(share_S)), 1)
        for first in range(0, len(gamma_G), most):
            falling = np.exp(-gamma_G[first : first + most, None] * self.x)
            shares = np.tile(share_S, len(falling))
            parts.append(self._levels(np.repeat(falling, len(share_S), axis=0), shares))
        level, misfit = map(np.concatenate, zip(*parts, strict=True))
        prior = self.prior
        slow = (np.log(gamma) - np.log(prior.frontier)) / prior.frontier_spread
        low = (share - prior.floor) / prior.floor_spread
        # The noise is known from so many degrees of freedom only: Student's t of the misfit.
        degrees, more = self.noise.degrees, self.independent * (misfit - misfit.min())
        by_runs = 0.5 * (degrees + _COEFFICIENTS) * np.log1p(2.0 * more / degrees)
        cost = by_runs + 0.5 * (slow**2 + low**2)
        return np.stack([level, share, gamma], axis=1), cost

    def _levels(self, falling_GR: Array, share: Array) -> tuple[Array, Array]:
        """The robust level at each share and (C/largest)^-gamma of the runs, and how far the runs
        are improbable there (G,)."""
        apart = self.log_loss - np.log(share[:, None] + (1 - share)[:, None] * falling_GR)
        level = (apart * self.weight).sum(axis=1) / self.weight.sum()
        for _ in range(_LEVELLED):
            robust = self.weight * counting((apart - level[:, None]) / self.scale)
            level = (apart * robust).sum(axis=1) / robust.sum(axis=1)
        rho = improbable((apart - level[:, None]) / self.scale)
        return level, (rho * self.weight).sum(axis=1)


def _curves(coefficients_G3: Array, x_R: Array) -> Array:
    """ln L of (level, share, gamma) at ln C, counted from the largest budget: (G, R)."""
    level, share, gamma = coefficients_G3.T[:, :, None]
    return np.asarray(level + np.log(share + (1.0 - share) * np.exp(-gamma * x_R)))


def _jitter(axis: Array, count: int, rng: np.random.Generator) -> Array:
    step = float(axis[1] - axis[0])
    return step * rng.uniform(-0.5, 0.5, count)
