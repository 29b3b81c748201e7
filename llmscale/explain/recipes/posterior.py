"""The posterior of the laws of several recipes, given all of their runs.

Each recipe has L = E + A/C^alpha along a ladder, or L = E + A/N^alpha + B/D^beta. Amplitudes and
the size of the noise are integrated out exactly, as the law is linear in the one and the posterior
of the other is known; exponents, floors and what runs share of their noise are sampled."""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaln

from llmscale.explain.laws import Array
from llmscale.explain.recipes.noise import Blocks, Index
from llmscale.explain.recipes.prior import PRIOR, RecipePrior
from llmscale.explain.recipes.sampler import sample

_WALKERS_PER_COORDINATE, _LEAST_WALKERS = 8, 48
_BURN_IN, _STEPS, _THIN = 500, 1200, 12
_STARTS = 4000
_ROUNDING = 1e-6
"""Of ln L: losses are not known better."""


@dataclass(frozen=True)
class RecipeRuns:
    """Runs of several recipes as numbers, one place a run: the logarithms of what the law takes
    (R, T), from their means over all runs; the loss; and which recipe each is of."""

    names: tuple[str, ...]
    log_inputs_RT: Array
    middle_T: Array
    loss_R: Array
    recipe_R: Index
    log_flops_R: Array
    blocks: Blocks
    floor: float | None = None
    """If it is known."""

    @property
    def recipes(self) -> int:
        return len(self.names)

    @property
    def terms(self) -> int:
        """1 along a ladder, 2 in N and D."""
        return self.log_inputs_RT.shape[1]

    @property
    def lowest(self) -> Array:
        """The lowest loss of every recipe."""
        return np.array([self.loss_R[self.recipe_R == r].min() for r in range(self.recipes)])


@dataclass(frozen=True)
class LawDraws:
    """Draws of the laws of every recipe: E (B, R), amplitudes at the middle of the runs and
    exponents (B, R, T), the noise of a run and the shares that are common, and the chances that
    exponents and floors are shared."""

    runs: RecipeRuns
    E_BR: Array
    amplitude_BRT: Array
    exponent_BRT: Array
    noise_B: Array
    shares_BS: Array
    shared: dict[str, float]
    disagreement: float = field(default=1.0)


class Posterior:
    """Of theta: ln of the exponents of the first recipe and how far the others' are from them, the
    first floor and how far the others' are, and the shares of the noise."""

    def __init__(self, runs: RecipeRuns, prior: RecipePrior = PRIOR) -> None:
        self.runs, self.prior = runs, prior
        self.lowest = runs.lowest
        self.scale = float(self.lowest.min())
        exponents = runs.recipes * runs.terms
        floors = 0 if runs.floor is not None else runs.recipes
        self.places = np.split(
            np.arange(exponents + floors + len(runs.blocks.shares)),
            [exponents, exponents + floors],
        )
        usual, spread = (prior.exponent_of_compute, prior.exponent)[runs.terms - 1]
        self.usual, self.spread = np.log(usual), spread
        columns = runs.recipes * runs.terms
        self.own_RP = np.zeros((len(runs.loss_R), columns))
        for recipe in range(runs.recipes):
            for term in range(runs.terms):
                self.own_RP[:, recipe * runs.terms + term] = runs.recipe_R == recipe
        self.degrees = len(runs.loss_R) - columns + 1.0

    def coefficients(self, theta_WK: Array) -> tuple[Array, Array, Array]:
        """ln of the exponents (W, R, T), the floors (W, R) and the shares of noise (W, S)."""
        runs, walkers = self.runs, len(theta_WK)
        exponents, floors, shares = (theta_WK[:, place] for place in self.places)
        log_exponent = exponents.reshape(walkers, runs.recipes, runs.terms).copy()
        log_exponent[:, 1:] += log_exponent[:, :1]
        if runs.floor is not None:
            E = np.full((walkers, runs.recipes), runs.floor)
        else:
            first = self.lowest[0] - np.exp(floors[:, :1])
            E = np.concatenate([first, first + floors[:, 1:] * self.scale], axis=1)
        common = np.exp(shares - np.logaddexp(0.0, _log_sum(shares))[:, None])
        return log_exponent, E, common

    def density(self, theta_WK: Array) -> Array:
        """ln of the posterior density of every row of theta; -inf out of bounds."""
        with np.errstate(all="ignore"):
            value = self._log_prior(theta_WK)
            inside = np.isfinite(value)
            value = np.where(inside, value, -np.inf)
            if inside.any():
                fitted = self._fitted(theta_WK[inside])
                value[inside] += np.where(fitted.good, fitted.log_likelihood, -np.inf)
        return np.where(np.isfinite(value), value, -np.inf)

    def shared(self, theta_WK: Array) -> dict[str, float]:
        """The chance that recipes share each exponent, and the floor."""
        log_exponent, E, _ = self.coefficients(theta_WK)
        found = {}
        for term in range(self.runs.terms):
            name = ("alpha", "beta")[term]
            _, chance = self.prior.exponents_shared.density(log_exponent[:, :, term])
            found[name] = float(chance.mean())
        if self.runs.floor is None:
            _, chance = self.prior.floors_shared.density(E / self.scale)
            found["E"] = float(chance.mean())
        return found

    def _log_prior(self, theta_WK: Array) -> Array:
        log_exponent, E, common = self.coefficients(theta_WK)
        mean = log_exponent.mean(axis=1)
        value = -0.5 * (((mean - self.usual) / self.spread) ** 2).sum(axis=1)
        for term in range(self.runs.terms):
            value += self.prior.exponents_shared.density(log_exponent[:, :, term])[0]
        if self.runs.floor is None:
            inside = ((E > 0) & (self.lowest > E)).all(axis=1)
            value += self.prior.floors_shared.density(E / self.scale)[0]
            value += theta_WK[:, self.places[1][0]]  # the floor is uniform, not ln of the rest
            value = np.where(inside, value, -np.inf)
        own = 1.0 - common.sum(axis=1)
        return np.asarray(
            value + self.prior.common_noise * np.log(common).sum(axis=1) + np.log(own)
        )

    def _fitted(self, theta_WK: Array) -> "_Fitted":
        """The amplitudes at every row of theta, by generalised least squares of L/L_run."""
        log_exponent, E, common = self.coefficients(theta_WK)
        runs = self.runs
        loss = runs.loss_R
        target = (loss - E[:, runs.recipe_R]) / loss
        powers = np.exp(-np.exp(log_exponent)[:, runs.recipe_R] * runs.log_inputs_RT)
        design = np.tile(powers / loss[:, None], (1, 1, runs.recipes)) * self.own_RP
        values = np.concatenate([design, target[:, :, None]], axis=2)
        white, log_det = runs.blocks.whitened(common, values)
        gram = np.swapaxes(white, 1, 2) @ white
        precision, moment = gram[:, :-1, :-1], gram[:, :-1, -1:]
        # A little of a ridge keeps two terms apart that the runs do not tell apart.
        ridge = 1e-10 * np.einsum("wpp->wp", precision)
        precision = precision + ridge[:, :, None] * np.eye(precision.shape[1])
        amplitude = np.linalg.solve(precision, moment)[:, :, 0]
        left = np.maximum(gram[:, -1, -1] - (moment[:, :, 0] * amplitude).sum(axis=1), 0.0)
        left += self.prior.noise**2 + len(loss) * _ROUNDING**2
        _, log_precision = np.linalg.slogdet(precision)
        likelihood = -log_det - 0.5 * log_precision - 0.5 * self.degrees * np.log(left)
        return _Fitted(likelihood, amplitude, precision, left)

    def draws(self, seed: int) -> LawDraws:
        """Draws of all coefficients."""
        rng = np.random.default_rng(seed)
        start = self._starts(rng)
        with np.errstate(all="ignore"):
            sampled = sample(self.density, start, rng, burn_in=_BURN_IN, steps=_STEPS, thin=_THIN)
            theta = sampled.draws
            fitted = self._fitted(theta)
        variance = fitted.left / rng.chisquare(self.degrees, len(theta))
        root = np.linalg.cholesky(np.linalg.inv(fitted.precision))
        normal = rng.standard_normal(fitted.amplitude.shape)
        moved = (root @ normal[:, :, None])[:, :, 0] * np.sqrt(variance)[:, None]
        amplitude = fitted.amplitude + moved
        # An amplitude below zero is no law: those few draws keep their mean.
        amplitude = np.where((amplitude > 0).all(axis=1)[:, None], amplitude, fitted.amplitude)
        log_exponent, E, common = self.coefficients(theta)
        shape = (len(theta), self.runs.recipes, self.runs.terms)
        return LawDraws(
            self.runs,
            E,
            amplitude.reshape(shape),
            np.exp(log_exponent),
            np.sqrt(variance),
            common,
            self.shared(theta),
            sampled.disagreement,
        )

    def _starts(self, rng: np.random.Generator) -> Array:
        """Walkers where the posterior is high: the best of draws from the prior, moved a little."""
        runs, size = self.runs, int(self.places[2][-1] + 1 if len(self.places[2]) else 0)
        size = sum(map(len, self.places))
        walkers = max(_LEAST_WALKERS, _WALKERS_PER_COORDINATE * size)
        theta = np.zeros((_STARTS, size))
        exponents, floors, shares = self.places
        theta[:, exponents[: runs.terms]] = self.usual + self.spread * rng.standard_normal(
            (_STARTS, runs.terms)
        )
        apart = rng.standard_normal((_STARTS, len(exponents) - runs.terms))
        theta[:, exponents[runs.terms :]] = 0.05 * apart * rng.random((_STARTS, 1))
        if len(floors):
            theta[:, floors[0]] = np.log(self.lowest[0] * rng.uniform(0.02, 0.98, _STARTS))
            few = 0.01 * rng.standard_normal((_STARTS, len(floors) - 1))
            theta[:, floors[1:]] = few * rng.random((_STARTS, 1))
        theta[:, shares] = -1.0 + rng.standard_normal((_STARTS, len(shares)))
        value = self.density(theta)
        return theta[np.argsort(-value, kind="stable")[: walkers + walkers % 2]]


@dataclass(frozen=True)
class _Fitted:
    log_likelihood: Array
    amplitude: Array
    precision: Array
    left: Array

    @property
    def good(self) -> Array:
        """Whether every amplitude is above zero."""
        return np.asarray((self.amplitude > 0).all(axis=1))


def _log_sum(values_WS: Array) -> Array:
    """ln of the sum of exp, -inf of nothing."""
    return np.asarray(np.logaddexp.reduce(values_WS, axis=1))
