"""How `anchored` is fitted: first the shape of the loss around the best runs, then the power law
in compute through all runs, each brought to the best of its budget by that shape.

A law that is fitted to all runs alike is bent by those that are far from the optimum, which are
many and fit worst. Here a run counts the less the further its loss lies above the best of its
budget, 1/(1 + (excess/3%)²), and along the frontier the more the larger it is. What runs of few
budgets cannot tell is filled in from published laws, as wide priors on exponents and on the floor's
share of the loss. The shape is the most probable one. The frontier is the mean of the posterior, as
curves: of coefficients that runs cannot tell apart the most probable ones are often at one end.
Noise is the typical residual of the runs that count, and beyond it residuals count as in Huber's
loss.

The refits are draws from the posterior: of the frontier on a grid, of the shape from its
curvature."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from llmscale.explain.laws import Array
from llmscale.explain.laws.anchored import Anchored

NEAR = 0.03
"""Runs with a loss this share above the best of their budget count half."""
LATER = 0.5
"""Along the frontier runs count as C^0.5."""
LEAST_NOISE = 1e-4
"""Residuals below this share of the loss are rounding."""
_LEAST_OFF, _LARGEST_OFF = 0.1, 0.5
_PASSES, _PASSES_WITH_POWER = 3, 2
"""How often weights and noise are found again, with k = 1 and then with k free."""


def nearness(excess: Any) -> Any:
    """How much runs count that lie so far above the best of their budget (in ln L)."""
    return 1.0 / (1.0 + (excess / NEAR) ** 2)


@dataclass(frozen=True)
class Prior:
    """Where published laws lie: means and standard deviations, exponents in logarithms.

    Of alpha and beta: Hoffmann et al. 2022 (refitted by Besiroglu et al. 2024), Gadre et al. 2024,
    Muennighoff et al. 2023 and Llama 3 give 0.29 to 0.38. A frontier of C has about half the
    exponent, alpha beta/(alpha + beta), and is flatter where it was followed over many decades."""

    exponent: float = 0.33
    exponent_spread: float = 0.35
    apart: float = 0.3
    """Of ln alpha - ln beta."""
    share: float = 0.72
    share_spread: float = 0.4
    """Of the shape's floor in the lowest loss."""
    power_spread: float = 0.7
    """Of ln k."""
    balance_spread: float = 2.0
    """Of the logarithm of either term over the other at the middle of the runs: near the optimum
    they are of one size."""
    frontier: float = 0.12
    frontier_spread: float = 0.35
    """Of gamma."""
    floor: float = 0.6
    floor_spread: float = 0.2
    """Of the frontier's floor in the loss at the largest budget."""


PUBLISHED = Prior()


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
    shape = _Shape(np.log(N), np.log(D), np.log(loss), prior)
    log_C = np.log(6.0) + shape.log_N + shape.log_D
    theta = shape.theta(start)
    near, scale = weight, LEAST_NOISE
    for free_power in (False,) * _PASSES + (True,) * _PASSES_WITH_POWER:
        excess = np.maximum(shape.value(theta) - shape.at_best(theta, log_C), 0.0)
        near = weight * nearness(excess)
        scale = _typical(shape.log_loss - shape.value(theta), near)
        theta = shape.most_probable(theta, near, scale, free_power=free_power)
    brought = shape.log_loss - shape.value(theta) + shape.at_best(theta, log_C)
    later = near * np.exp(LATER * (log_C - log_C.max()))
    independent = min(runs / len(loss), 1.0)
    some = np.arange(len(loss))
    if len(loss) > _MOST_ON_GRID:
        some = np.linspace(0, len(loss) - 1, _MOST_ON_GRID).astype(int)
        independent *= len(loss) / _MOST_ON_GRID
    on_grid = (log_C[some], brought[some], later[some])
    frontier = _Frontier(*on_grid, scale, float(loss.min()), prior, independent)

    rng = np.random.default_rng(seed)
    best = _coefficients(
        frontier.expected()[None], frontier.largest, shape.coefficients(theta[None])
    )[0]
    drawn = np.empty((0, len(best)))
    noise = np.empty(0)
    if draws:
        thetas = shape.draws(theta, near * independent, scale, draws, rng)
        drawn = _coefficients(
            frontier.draws(draws, rng), frontier.largest, shape.coefficients(thetas)
        )
        noise = _noise(shape.log_loss - shape.value(theta), near, draws, rng)
    law = Anchored(*best.tolist())
    return Anchor(law, drawn, noise, scale, _off(law.excess(N, D), law.loss(N, D) / loss))


class _Shape:
    """ln of E + (A/N^alpha + B/D^beta)^k at R rows, theta = (ln E, ln of either term at the middle
    of the table, ln alpha, ln beta, ln k)."""

    def __init__(self, log_N: Array, log_D: Array, log_loss: Array, prior: Prior) -> None:
        self.log_N, self.log_D, self.log_loss, self.prior = log_N, log_D, log_loss, prior
        self.middle = float(log_N.mean()), float(log_D.mean())
        self.lowest = float(log_loss.min())

    def theta(self, start: Array) -> Array:
        """From E, A, B, alpha and beta of Chinchilla's law, kept off its bounds."""
        E, A, B, alpha, beta = np.maximum(start, 1e-12).tolist()
        E = max(E, 0.05 * float(np.exp(self.lowest)))
        at_middle = (np.log(A) - alpha * self.middle[0], np.log(B) - beta * self.middle[1])
        exponents = np.log(np.clip([alpha, beta], 0.02, 2.0))
        return np.array([np.log(E), *np.maximum(at_middle, -30.0), *exponents, 0.0])

    def value(self, theta: Array) -> Array:
        return self._parts(theta, self.log_N, self.log_D)[0]

    def at_best(self, theta: Array, log_C: Array) -> Array:
        """ln of the lowest value at each C = 6ND."""
        _, log_a, log_b, alpha, beta = self._raw(theta)
        log_ND = log_C - np.log(6.0)
        log_G = (np.log(alpha) + log_a - np.log(beta) - log_b) / (alpha + beta)
        log_N = log_G + beta / (alpha + beta) * log_ND
        return self._parts(theta, log_N, log_ND - log_N)[0]

    def most_probable(
        self, theta: Array, weight: Array, scale: float, *, free_power: bool
    ) -> Array:
        free = 6 if free_power else 5
        root = np.sqrt(weight)

        def whole(part: Array) -> Array:
            return np.concatenate([part, theta[free:]])

        def residuals(part: Array) -> Array:
            miss = (self.value(whole(part)) - self.log_loss) / scale
            return np.concatenate([root * _huber_root(miss), self._misses(whole(part))])

        def jacobian(part: Array) -> Array:
            value, slope = self._slope(whole(part))
            miss = (value - self.log_loss) / scale
            # d sqrt(2|r| - 1) / dr beyond 1.
            steep = root / np.sqrt(np.maximum(2.0 * np.abs(miss) - 1.0, 1.0)) / scale
            return np.vstack([steep[:, None] * slope, self._prior_slope(whole(part))])[:, :free]

        with np.errstate(all="ignore"):
            found = least_squares(residuals, theta[:free], jacobian, max_nfev=200)
        if not np.isfinite(found.x).all():
            return theta
        return whole(found.x)

    def draws(
        self, theta: Array, weight: Array, scale: float, count: int, rng: np.random.Generator
    ) -> Array:
        """Normal about theta, with the curvature of the posterior: (count, 6)."""
        value, slope = self._slope(theta)
        inside = weight / np.maximum(np.abs(value - self.log_loss) / scale, 1.0)
        prior = self._prior_slope(theta)
        precision = (inside[:, None] * slope).T @ slope / scale**2 + prior.T @ prior
        values, vectors = np.linalg.eigh(precision)
        spread = vectors / np.sqrt(np.maximum(values, 1e-6 * values.max()))
        return np.asarray(theta + rng.standard_normal((count, len(theta))) @ spread.T)

    def coefficients(self, theta_B6: Array) -> Array:
        """N_S, D_S, alpha, beta and k, with the floor as the unit: (B, 5)."""
        alpha, beta, k = np.exp(theta_B6[:, 3:]).T
        log_a = theta_B6[:, 1] + alpha * self.middle[0] - theta_B6[:, 0] / k
        log_b = theta_B6[:, 2] + beta * self.middle[1] - theta_B6[:, 0] / k
        with np.errstate(over="ignore"):
            N_S, D_S = np.exp(log_a / alpha), np.exp(log_b / beta)
        return np.stack([N_S, D_S, alpha, beta, k], axis=1)

    def _raw(self, theta: Array) -> tuple[float, float, float, float, float]:
        """ln E, ln A, ln B, alpha, beta."""
        alpha, beta = np.exp(theta[3]), np.exp(theta[4])
        log_A, log_B = theta[1] + alpha * self.middle[0], theta[2] + beta * self.middle[1]
        return theta[0], log_A, log_B, alpha, beta

    def _parts(self, theta: Array, log_N: Array, log_D: Array) -> tuple[Array, ...]:
        """ln of the value, the shares of the floor and the power in it, of either term in the
        power, and ln of both terms' sum."""
        alpha, beta, k = np.exp(theta[3]), np.exp(theta[4]), np.exp(theta[5])
        one = theta[1] - alpha * (log_N - self.middle[0])
        other = theta[2] - beta * (log_D - self.middle[1])
        both = np.logaddexp(one, other)
        value = np.logaddexp(theta[0], k * both)
        power = np.exp(k * both - value)
        return value, power, np.exp(one - both), both

    def _slope(self, theta: Array) -> tuple[Array, Array]:
        """ln of the value (R,), and its gradient in theta (R, 6)."""
        value, power, one, both = self._parts(theta, self.log_N, self.log_D)
        alpha, beta, k = np.exp(theta[3]), np.exp(theta[4]), np.exp(theta[5])
        first, second = power * k * one, power * k * (1.0 - one)
        slope = [
            1.0 - power,
            first,
            second,
            -first * alpha * (self.log_N - self.middle[0]),
            -second * beta * (self.log_D - self.middle[1]),
            power * k * both,
        ]
        return value, np.stack(slope, axis=1)

    def _misses(self, theta: Array) -> Array:
        """How far theta is from the prior's means, in its standard deviations."""
        prior, usual = self.prior, np.log(self.prior.exponent)
        share = np.exp(np.minimum(theta[0] - self.lowest, 5.0))
        misses = [
            (theta[3] - usual) / prior.exponent_spread,
            (theta[4] - usual) / prior.exponent_spread,
            (theta[3] - theta[4]) / prior.apart,
            (share - prior.share) / prior.share_spread,
            theta[5] / prior.power_spread,
            (theta[1] - theta[2]) / prior.balance_spread,
        ]
        return np.array(misses)

    def _prior_slope(self, theta: Array) -> Array:
        prior, slope = self.prior, np.zeros((6, 6))
        slope[0, 3] = slope[1, 4] = 1.0 / prior.exponent_spread
        slope[2, 3], slope[2, 4] = 1.0 / prior.apart, -1.0 / prior.apart
        slope[3, 0] = np.exp(np.minimum(theta[0] - self.lowest, 5.0)) / prior.share_spread
        slope[4, 5] = 1.0 / prior.power_spread
        slope[5, 1], slope[5, 2] = 1.0 / prior.balance_spread, -1.0 / prior.balance_spread
        return slope


_EXPONENTS = np.geomspace(0.01, 0.8, 45)
_SHARES = np.linspace(0.0, 0.98, 50)
_LARGEST_SHARE = 0.999
_IMPROBABLE = 8.0
"""Minus the logarithm of a posterior that is left out, next to the best."""
_MOST_OF_IT = 0.3
_MOST_ROWS, _MOST_ON_GRID = 3000, 600
"""Of more rows as many are taken, evenly spread, for the shape and for the frontier: beyond, the
posterior is narrow anyhow."""
_ZOOMS = 4
"""How often the grid is laid again, each time over the part that is not improbable."""
AHEAD = math.log(100.0)
"""How far beyond the runs, in ln C, the frontier is that of the posterior."""
_CURVE_POINTS = 24


class _Frontier:
    """The posterior of ln L = level + ln(share + (1 - share) (C/largest)^-gamma) on a grid of gamma
    and share; the level is solved for, robustly."""

    def __init__(
        self,
        log_C: Array,
        log_loss: Array,
        weight: Array,
        scale: float,
        lowest: float,
        prior: Prior,
        independent: float,
    ) -> None:
        self.largest = float(log_C.max())
        self.x, self.log_loss, self.weight = log_C - self.largest, log_loss, weight
        self.scale, self.lowest, self.prior, self.independent = scale, lowest, prior, independent

    def expected(self) -> Array:
        """(level, share, gamma) of the frontier that is nearest to the mean of ln L over the
        posterior, from the first runs to as far ahead as forecasts go."""
        at, cost = self._grid(*self.axes)
        probability = np.exp(cost.min() - cost)
        x = np.linspace(min(float(self.x.min()), -1.0), AHEAD, _CURVE_POINTS)
        mean = probability @ _frontier(at, x) / probability.sum()
        most_probable = at[np.argmin(cost)]

        def apart(coefficients: Array) -> Array:
            return np.asarray(_frontier(coefficients[None], x)[0] - mean) / self.scale

        ends = ([-np.inf, 0.0, _EXPONENTS[0] / 2], [np.inf, _LARGEST_SHARE, 2 * _EXPONENTS[-1]])
        start = np.clip(most_probable, np.array(ends[0]) + 1e-6, np.array(ends[1]) - 1e-6)
        return np.asarray(least_squares(apart, start, bounds=ends, x_scale=(1.0, 0.1, 0.1)).x)

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """(count, 3), anywhere in the cell of the grid that is drawn."""
        axes = self.axes
        at, cost = self._grid(*axes)
        probability = np.exp(-(cost - cost.min()))
        drawn = at[rng.choice(len(at), size=count, p=probability / probability.sum())]
        gamma = drawn[:, 2] * np.exp(_jitter(np.log(axes[0]), count, rng))
        share = np.clip(drawn[:, 1] + _jitter(axes[1], count, rng), 0.0, _LARGEST_SHARE)
        level = self._levels(gamma, share)[0]
        total = max(float(self.weight.sum()) * self.independent, 1.0)
        level = level + self.scale / np.sqrt(total) * rng.standard_normal(count)
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

    def _levels(self, gamma: Array, share: Array) -> tuple[Array, Array]:
        """The robust level at each pair (G,), and |residuals| there in units of the noise
        (G, R)."""
        falling = np.exp(-gamma[:, None] * self.x)
        apart = self.log_loss - np.log(share[:, None] + (1 - share)[:, None] * falling)
        level = (apart * self.weight).sum(axis=1) / self.weight.sum()
        for _ in range(3):
            miss = np.abs(apart - level[:, None]) / self.scale
            robust = self.weight / np.maximum(miss, 1.0)
            level = (apart * robust).sum(axis=1) / robust.sum(axis=1)
        return level, np.abs(apart - level[:, None]) / self.scale

    def _grid(self, gamma_G: Array, share_S: Array) -> tuple[Array, Array]:
        """Every (level, share, gamma), and minus the logarithm of its posterior."""
        gamma, share = (part.ravel() for part in np.meshgrid(gamma_G, share_S, indexing="ij"))
        level, miss = self._levels(gamma, share)
        rho = np.where(miss < 1.0, 0.5 * miss**2, miss - 0.5)
        prior = self.prior
        slow = (np.log(gamma) - np.log(prior.frontier)) / prior.frontier_spread
        low = (share - prior.floor) / prior.floor_spread
        cost = self.independent * (rho * self.weight).sum(axis=1) + 0.5 * (slow**2 + low**2)
        return np.stack([level, share, gamma], axis=1), cost


def _coefficients(frontier_B3: Array, largest: float, shape_B5: Array) -> Array:
    """E, A, gamma, N_S, D_S, alpha, beta, k of every row: (B, 8)."""
    level, share, gamma = frontier_B3.T
    with np.errstate(over="ignore"):
        E = np.exp(level) * share
        A = np.exp(level + np.log(1.0 - share) + gamma * largest)
    return np.column_stack([E, A, gamma, shape_B5])


def _frontier(coefficients_G3: Array, x_R: Array) -> Array:
    """ln L of (level, share, gamma) at ln C, counted from the largest budget: (G, R)."""
    level, share, gamma = coefficients_G3.T[:, :, None]
    return np.asarray(level + np.log(share + (1.0 - share) * np.exp(-gamma * x_R)))


def _jitter(axis: Array, count: int, rng: np.random.Generator) -> Array:
    step = float(axis[1] - axis[0])
    return step * rng.uniform(-0.5, 0.5, count)


def _huber_root(miss: Array) -> Array:
    """Whose square is twice Huber's loss."""
    size = np.abs(miss)
    return np.where(size < 1.0, miss, np.sign(miss) * np.sqrt(np.maximum(2.0 * size - 1.0, 0.0)))


def _typical(residual: Array, weight: Array) -> float:
    """A standard deviation from the weighted median of |residual|."""
    size = np.abs(residual)
    order = np.argsort(size, kind="stable")
    reached = np.cumsum(weight[order])
    middle = size[order][np.searchsorted(reached, 0.5 * reached[-1])]
    return max(1.4826 * float(middle), LEAST_NOISE)


def _off(excess: Array, ratio: Array) -> float:
    """Of the rows that are off the optimum, the typical |residual| as a share of the excess."""
    far = excess > NEAR
    if not far.any():
        return _LARGEST_OFF
    share = np.abs(np.log(ratio[far])) / excess[far]
    return float(np.clip(np.sqrt(np.mean(share**2)), _LEAST_OFF, _LARGEST_OFF))


def _noise(residual: Array, weight: Array, count: int, rng: np.random.Generator) -> Array:
    """One residual a draw, those of runs that count more being drawn more often."""
    return np.asarray(rng.choice(residual, size=count, p=weight / weight.sum()))
