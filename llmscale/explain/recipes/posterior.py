"""The posterior of the laws of several recipes, given all of their runs.

Each recipe has L = E + A/C^alpha along a ladder, or L = E + A/N^alpha + B/D^beta. The law is linear
in amplitudes and floors, which are integrated out exactly; exponents, how far floors may be from
each other, the noise and what runs share of it are sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array
from llmscale.explain.recipes.noise import Blocks, Index
from llmscale.explain.recipes.prior import PRIOR, RecipePrior
from llmscale.explain.recipes.sampler import sample

_LARGEST_AMPLITUDE = 3.0
"""A standard deviation of amplitudes at the middle of the runs, in units of the lowest loss."""
_TRIES = 16
_LEAST_NOISE = 0.001
"""Of ln L: a run that is off by less than a few times as much is no outlier."""
_WATCHED = (1.0, 10.0)


@dataclass(frozen=True)
class RecipeRuns:
    """Runs of several recipes as numbers, one place a run: the logarithms of what the law takes
    (R, T), from their means over all runs; the loss; the mean loss of all runs of its point; which
    recipe each is of; and how large its noise is taken to be, 1 for most."""

    names: tuple[str, ...]
    log_inputs_RT: Array
    middle_T: Array
    loss_R: Array
    level_R: Array
    recipe_R: Index
    spread_R: Array
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
    exponents (B, R, T), the noise of a run, the shares of it that are common and how many times as
    large what is not common is in each recipe (B, R), and the chances that exponents and floors
    are shared; `theta` is what all of that was made from (B, K)."""

    runs: RecipeRuns
    theta_BK: Array
    E_BR: Array
    amplitude_BRT: Array
    exponent_BRT: Array
    noise_B: Array
    shares_BS: Array
    factor_BR: Array
    shared: dict[str, float]
    error: float
    """By how much ends of intervals may move from one seed to another, as a share of the width."""

    def of(self, names: Sequence[str]) -> "LawDraws":
        """The same with the recipes in another order."""
        places = [self.runs.names.index(name) for name in names]
        return replace(
            self,
            E_BR=self.E_BR[:, places],
            amplitude_BRT=self.amplitude_BRT[:, places],
            exponent_BRT=self.exponent_BRT[:, places],
            factor_BR=self.factor_BR[:, places],
        )


@dataclass(frozen=True)
class _Law:
    """What theta says: ln of the exponents (W, R, T), how far floors may be from what is common
    (W, R), the noise (W,), the shares of it (W, S), and the factor of each recipe's own (W, R)."""

    log_exponent: Array
    floor_scale: Array
    noise: Array
    shares: Array
    factor: Array


class Posterior:
    """Of theta, whose coordinates are all standard normal before the runs are looked at: for each
    exponent what is common and how far each recipe is from it, how far the floor of each may be,
    the noise, the shares of it, and the factor of each recipe, if there are more than two."""

    def __init__(self, runs: RecipeRuns, prior: RecipePrior = PRIOR) -> None:
        self.runs, self.prior = runs, prior
        self.lowest = runs.lowest
        self.scale = float(self.lowest.min())
        self.floors_told = runs.floor is not None
        each = runs.recipes
        shares = runs.blocks.shares
        sizes = [1 + each] * runs.terms
        sizes += [0 if self.floors_told else each, 1, len(shares), each if each > 2 else 0]
        self.size = sum(sizes)
        *self.exponents_at, self.floors_at, self.noise_at, self.shares_at, self.factor_at = (
            np.split(np.arange(self.size), np.cumsum(sizes)[:-1])
        )
        usual, spread = (prior.exponent_of_compute, prior.exponent)[runs.terms - 1]
        self.usual, self.spread = np.log(usual), spread
        self.share_middle, self.share_spread = (
            np.array([prior.shares[name] for name in shares]).reshape(-1, 2).T
        )
        # The floor is counted from where it is expected.
        self.base = runs.floor if runs.floor is not None else prior.floor[0] * self.scale
        self.scale_R = runs.level_R * runs.spread_R

    def coefficients(self, theta_WK: Array) -> _Law:
        """What every row of theta says."""
        runs, prior = self.runs, self.prior
        log_exponent = [
            self.usual
            + self.spread * theta_WK[:, at[:1]]
            + prior.exponents.off_common(theta_WK[:, at[1:]])
            for at in self.exponents_at
        ]
        usual, spread = prior.noise
        noise = usual * np.exp(spread * theta_WK[:, self.noise_at[0]])
        common = np.exp(self.share_middle + self.share_spread * theta_WK[:, self.shares_at])
        shares = common / (1.0 + common.sum(axis=1, keepdims=True))
        factor = np.ones((len(theta_WK), runs.recipes))
        if self.factor_at.size:
            factor = np.exp(prior.factor * theta_WK[:, self.factor_at])
        floor_scale = self.scale * prior.floors.scale(theta_WK[:, self.floors_at])
        return _Law(np.stack(log_exponent, axis=2), floor_scale, noise, shares, factor)

    def log_likelihood(self, theta_WK: Array) -> Array:
        """Of every row of theta; -inf for laws that cannot be."""
        with np.errstate(all="ignore"):
            fitted = self._fitted(self.coefficients(theta_WK))
            value = np.where(
                self._possible(fitted.mean).all(axis=1), fitted.log_likelihood, -np.inf
            )
        return np.where(np.isfinite(value), value, -np.inf)

    def shared(self, theta_WK: Array) -> dict[str, float]:
        """The chance that all recipes share each exponent, and the floor."""
        exponents, floors = self.prior.exponents, self.prior.floors
        found = {
            name: exponents.shared(theta_WK[:, at[1:]])
            for name, at in zip(("alpha", "beta"), self.exponents_at, strict=False)
        }
        if not self.floors_told:
            found["E"] = floors.shared_scale(theta_WK[:, self.floors_at])
        return {name: float(each.prod(axis=1).mean()) for name, each in found.items()}

    def _possible(self, linear_WRP: Array) -> NDArray[np.bool_]:
        """Whether amplitudes are above 0, and floors between 0 and the lowest loss: (W, R)."""
        terms = self.runs.terms
        good = np.asarray((linear_WRP[:, :, :terms] > 0).all(axis=2))
        if not self.floors_told:
            floor = self.base + linear_WRP[:, :, terms]
            good &= (floor > 0) & (floor < self.lowest)
        return good

    def _fitted(self, law: _Law) -> "_Fitted":
        """Amplitudes and floors that go with the rest, by generalised least squares of L/L_point.

        Not of L/L_run: a law that vanishes is off by exactly 1 at every run then, which passes for
        noise that all runs have in common, with none of their own (Peelle's puzzle)."""
        products, log_det = self.runs.blocks.products(
            law.shares, law.factor, law.noise, self._columns(law)
        )
        walkers, recipes, columns = products.shape[:3]
        size = recipes * (columns - 1)
        precision = products[:, :, :-1, :, :-1].reshape(walkers, size, size)
        believed, log_believed = self._belief(law)
        precision = precision + believed
        moment = products[:, :, :-1, :, -1].sum(axis=3).reshape(walkers, size, 1)
        total = products[:, :, -1, :, -1].sum(axis=(1, 2))
        mean = np.linalg.solve(precision, moment)
        left = np.maximum(total - (moment * mean).sum(axis=(1, 2)), 0.0)
        _, log_precision = np.linalg.slogdet(precision)
        likelihood = log_believed - log_det - 0.5 * log_precision - 0.5 * left
        return _Fitted(likelihood, mean.reshape(walkers, recipes, columns - 1), precision)

    def _columns(self, law: _Law) -> Array:
        """What multiplies each amplitude and the floor of a run's own recipe, and what is left for
        them: (W, R, T + 2)."""
        runs, terms = self.runs, self.runs.terms
        columns = np.ones((len(law.noise), len(runs.loss_R), terms + 1 + (not self.floors_told)))
        rate = -np.exp(law.log_exponent)
        for term in range(terms):
            columns[:, :, term] = np.exp(rate[:, runs.recipe_R, term] * runs.log_inputs_RT[:, term])
        columns[:, :, -1] = runs.loss_R - self.base
        columns /= self.scale_R[:, None]
        return columns

    def _belief(self, law: _Law) -> tuple[Array, Array]:
        """The precision of amplitudes and floors before the runs are looked at (W, P, P), and half
        of ln of the determinant of that of the floors."""
        walkers, recipes = law.factor.shape
        terms = self.runs.terms
        columns = terms + (not self.floors_told)
        belief = np.zeros((walkers, recipes, columns, recipes, columns))
        each = np.arange(recipes)
        for term in range(terms):
            belief[:, each, term, each, term] = (_LARGEST_AMPLITUDE * self.scale) ** -2.0
        log_det = np.zeros(walkers)
        if not self.floors_told:
            # The floors have what is common in common: Sherman & Morrison's inverse.
            own = law.floor_scale**-2.0
            common = (self.prior.floor[1] * self.scale) ** -2.0
            among = common + own.sum(axis=1)
            belief[:, each, terms, each, terms] = own
            belief[:, :, terms, :, terms] -= (
                own[:, :, None] * own[:, None, :] / among[:, None, None]
            )
            log_det = 0.5 * (np.log(own).sum(axis=1) + np.log(common / among))
        size = recipes * columns
        return belief.reshape(walkers, size, size), log_det

    def deleted_residuals(self, theta_WK: Array) -> "DeletedResiduals":
        """How far each run is from what the others, and what it shares with them, say."""
        runs, law = self.runs, self.coefficients(theta_WK)
        columns = self._columns(law)
        of_recipe = runs.recipe_R[:, None] == np.arange(runs.recipes)
        design = (columns[:, :, None, :-1] * of_recipe[:, :, None]).reshape(*columns.shape[:2], -1)
        weight = runs.blocks.precision(law.shares, law.factor, law.noise)
        weighed = weight @ design
        told = np.linalg.solve(self._fitted(law).precision, np.swapaxes(weighed, 1, 2))
        # What the amplitudes and floors take up is taken out.
        weight = weight - weighed @ told
        pulled = (weight @ columns[:, :, -1:])[:, :, 0]
        own = np.einsum("wrr->wr", weight)
        off = pulled / own
        total = (pulled * columns[:, :, -1]).sum(axis=1)
        degrees = max(len(runs.loss_R) - runs.terms * (runs.recipes + 1.0) - 1.0, 1.0)
        # The noise that was drawn has the run in it.
        without = np.maximum(total[:, None] - off**2 * own, 0.0)
        variance = (without + (_LEAST_NOISE / law.noise[:, None]) ** 2) / degrees
        return DeletedResiduals(off * runs.spread_R, off * np.sqrt(own / variance), degrees)

    def draws(self, seed: int) -> LawDraws:
        """Draws of all coefficients."""
        rng = np.random.default_rng(seed)
        sampled = sample(self.log_likelihood, self._watched, self.size, rng)
        theta = sampled.draws
        with np.errstate(all="ignore"):
            law = self.coefficients(theta)
            linear = self._linear(self._fitted(law), rng)
        terms = self.runs.terms
        E = np.full(linear.shape[:2], self.base)
        if not self.floors_told:
            E = E + linear[:, :, terms]
        return LawDraws(
            self.runs,
            theta,
            E,
            linear[:, :, :terms],
            np.exp(law.log_exponent),
            law.noise,
            law.shares,
            law.factor,
            self.shared(theta),
            sampled.error,
        )

    def _watched(self, theta_WK: Array) -> Array:
        """How far recipes are from each other: ln of the loss of each at the top of the runs and
        ten times beyond, less the mean of all."""
        law = self.coefficients(theta_WK)
        linear = self._fitted(law).mean
        terms = self.runs.terms
        found = []
        for beyond in _WATCHED:
            top_T = self.runs.log_inputs_RT.max(axis=0) + np.log(beyond) / terms
            powers = np.exp(-np.exp(law.log_exponent) * top_T)
            loss = self.base + (linear[:, :, :terms] * powers).sum(axis=2)
            if not self.floors_told:
                loss += linear[:, :, terms]
            found.append(np.log(loss) - np.log(loss).mean(axis=1, keepdims=True))
        return np.concatenate(found, axis=1)

    def _linear(self, fitted: "_Fitted", rng: np.random.Generator) -> Array:
        """Amplitudes and floors, drawn until they are possible; what never is keeps its mean."""
        turned = np.swapaxes(np.linalg.cholesky(fitted.precision), 1, 2)
        drawn = fitted.mean.copy()
        left = np.arange(len(drawn))
        for _ in range(_TRIES):
            normal = rng.standard_normal((len(left), turned.shape[1], 1))
            tried = fitted.mean[left] + np.linalg.solve(turned[left], normal).reshape(
                -1, *drawn.shape[1:]
            )
            good = self._possible(tried).all(axis=1)
            drawn[left[good]] = tried[good]
            left = left[~good]
        return drawn


@dataclass(frozen=True)
class DeletedResiduals:
    """As shares of the loss (W, R), in standard deviations (W, R), and their degrees of freedom."""

    off: Array
    deviations: Array
    degrees: float


@dataclass(frozen=True)
class _Fitted:
    log_likelihood: Array
    mean: Array
    """(W, R, P)."""
    precision: Array
