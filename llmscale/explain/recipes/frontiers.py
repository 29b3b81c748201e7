"""What each recipe reaches with so much compute, and how much compute another needs for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.laws import Array
from llmscale.explain.recipes.posterior import LawDraws


@dataclass(frozen=True)
class Frontiers:
    """L = E + K/(C/C_0)^gamma of every recipe, in B draws: each (B, R). `middle` is ln C_0."""

    E: Array
    K: Array
    gamma: Array
    middle: float

    def loss(self, log_flops_X: Array) -> Array:
        """The loss of every recipe at X budgets: (B, R, X)."""
        x = log_flops_X - self.middle
        power = np.exp(-self.gamma[:, :, None] * x)
        return np.asarray(self.E[:, :, None] + self.K[:, :, None] * power)

    def log_multiplier(self, of: int, to: int, log_flops_X: Array) -> Array:
        """ln of the factor of the budget with which recipe `of` reaches what `to` reaches with the
        budget, (B, X); infinite if that is below its floor."""
        if self._is_one_law(of, to):
            return np.zeros((len(self.E), len(log_flops_X)))
        x = log_flops_X - self.middle
        above = self.K[:, [to]] * np.exp(-self.gamma[:, [to]] * x) + self.E[:, [to]]
        above = above - self.E[:, [of]]
        with np.errstate(all="ignore"):
            needed = -np.log(above / self.K[:, [of]]) / self.gamma[:, [of]]
        return np.where(above > 0, needed - x, np.inf)

    def with_one_law(self, places: Sequence[int]) -> "Frontiers":
        """The same with the law of the first recipe for those at `places`."""
        each = {name: getattr(self, name).copy() for name in ("E", "K", "gamma")}
        for values in each.values():
            values[:, list(places)] = values[:, [0]]
        return replace(self, **each)

    def _is_one_law(self, of: int, to: int) -> bool:
        each = (self.E, self.K, self.gamma)
        return all(np.array_equal(values[:, of], values[:, to]) for values in each)

    def log_slope(self, log_flops: float) -> Array:
        """-d ln L/d ln C of every recipe: (B, R)."""
        x = log_flops - self.middle
        above = self.K * np.exp(-self.gamma * x)
        return np.asarray(self.gamma * above / (self.E + above))


def along_ladder(draws: LawDraws) -> Frontiers:
    """Of laws in C: what the ladder that was measured reaches."""
    middle = float(draws.runs.middle_T[0])
    amplitude, exponent = draws.amplitude_BRT[:, :, 0], draws.exponent_BRT[:, :, 0]
    return Frontiers(draws.E_BR, amplitude, exponent, middle)


def compute_optimal(draws: LawDraws, flops_per_ND_R: Array) -> Frontiers:
    """Of laws in N and D: what the best split of each budget reaches, C = k N D with each recipe's
    own k (Hoffmann et al. 2022, eq. 4)."""
    a, (alpha, beta) = draws.amplitude_BRT[:, :, 0], np.moveaxis(draws.exponent_BRT, 2, 0)
    gamma = alpha * beta / (alpha + beta)
    K = a * np.exp(-alpha * _log_best_size(draws)) * (1.0 + alpha / beta)
    # At the middle of the runs C = k N D with the middle N and D.
    middle_R = np.log(flops_per_ND_R) + draws.runs.middle_T.sum()
    middle = float(middle_R.mean())
    return Frontiers(draws.E_BR, K * np.exp(-gamma * (middle - middle_R)), gamma, middle)


def best_splits(draws: LawDraws, flops_per_ND_R: Array, flops: float) -> tuple[Array, Array]:
    """The best N of a budget for every recipe, and its D: the medians of the draws, each (R,)."""
    alpha, beta = np.moveaxis(draws.exponent_BRT, 2, 0)
    log_N_middle, log_D_middle = draws.runs.middle_T
    log_ND_R = np.log(flops / flops_per_ND_R)
    beyond_R = log_ND_R - log_N_middle - log_D_middle
    log_N_BR = log_N_middle + _log_best_size(draws) + beyond_R * beta / (alpha + beta)
    N_R = np.exp(np.median(log_N_BR, axis=0))
    return N_R, np.exp(log_ND_R) / N_R


def _log_best_size(draws: LawDraws) -> Array:
    """ln of the best N at the middle of the runs, in units of the middle N: (B, R)."""
    (a, b), (alpha, beta) = (
        np.moveaxis(values, 2, 0) for values in (draws.amplitude_BRT, draws.exponent_BRT)
    )
    return np.asarray(np.log(alpha * a / (beta * b)) / (alpha + beta))


def noise_of(draws: LawDraws) -> tuple[Array, Array]:
    """The variance of what cancels between recipes in ln L of a run, one a draw, and of what does
    not, of every recipe: (B,) and (B, R)."""
    cancels_B = draws.shares_BS @ draws.runs.blocks.cancels
    variance_B = draws.noise_B**2
    rest_BR = ((1.0 - cancels_B) * variance_B)[:, None] * draws.factor_BR**2
    return cancels_B * variance_B, rest_BR
