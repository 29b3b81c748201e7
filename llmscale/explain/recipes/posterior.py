"""The posterior of the laws of several recipes, given all of their runs.

Each recipe has L = E + A/C^alpha along a ladder, or L = E + A/N^alpha + B/D^beta. Amplitudes and
the size of the noise are integrated out exactly, as the law is linear in the one and the posterior
of the other is known; exponents, floors and what runs share of their noise are sampled."""

from dataclasses import dataclass, field

import numpy as np

from llmscale.explain.laws import Array
from llmscale.explain.recipes.noise import OWN, Blocks, Index, own_share
from llmscale.explain.recipes.peak import peak
from llmscale.explain.recipes.prior import PRIOR, RecipePrior
from llmscale.explain.recipes.sampler import sample

_WALKERS_PER_COORDINATE, _LEAST_WALKERS = 8, 96
_BURN_IN, _BURN_IN_PER_COORDINATE = 200, 20
_STEPS, _STEPS_PER_COORDINATE, _THIN = 300, 50, 10
"""Ends of intervals then move by 2% to 4% of the width from one seed to another."""
_STARTS, _CLIMBS = 4000, 3
_ROUNDING = 1e-6
"""Of ln L: losses are not known better."""
_LEAST_RIDGE = 1e-12
"""For a term that vanishes at all runs, of which nothing tells the amplitude."""


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
    disagreement: float = field(default=1.0)


@dataclass(frozen=True)
class _Law:
    """What theta says: ln of the exponents (W, R, T), the floors (W, R), the shares of the noise
    (W, S), and the factor of each recipe's own (W, R)."""

    log_exponent: Array
    E: Array
    shares: Array
    factor: Array


class Posterior:
    """Of theta: for each exponent ln of its mean over recipes and contrasts (see `Sharing`), as
    many for the floor, the shares of the noise in logits, and ln of each recipe's factor of it, if
    there are more than two."""

    def __init__(self, runs: RecipeRuns, prior: RecipePrior = PRIOR) -> None:
        self.runs, self.prior = runs, prior
        self.lowest = runs.lowest
        self.scale = float(self.lowest.min())
        self.sharings = [prior.exponents] * runs.terms
        if runs.floor is None:
            self.sharings.append(prior.floors)
        each, noise = runs.recipes, len(runs.blocks.shares)
        factors = runs.recipes if runs.recipes > 2 else 0
        self.size = each * len(self.sharings) + noise + factors
        ends = each * np.arange(1, len(self.sharings) + 1)
        *self.places, rest = np.split(np.arange(self.size), ends)
        self.noise_place, self.factor_place = np.split(rest, [noise])
        usual, spread = (prior.exponent_of_compute, prior.exponent)[runs.terms - 1]
        self.usual, self.spread = np.log(usual), spread
        columns = runs.recipes * runs.terms
        column_of_R = runs.recipe_R[:, None] * runs.terms
        self.own_RP = (np.arange(columns) // runs.terms * runs.terms == column_of_R).astype(float)
        self.of_shares = np.array([prior.of_shares[name] for name in (*runs.blocks.shares, OWN)])
        self.degrees = len(runs.loss_R) - columns + 1.0

    def coefficients(self, theta_WK: Array) -> _Law:
        """What every row of theta says."""
        runs, walkers = self.runs, len(theta_WK)
        off_mean = [
            sharing.off_mean(theta_WK[:, place[1:]])
            for sharing, place in zip(self.sharings, self.places, strict=True)
        ]
        log_exponent = np.stack(
            [theta_WK[:, [self.places[term][0]]] + off_mean[term] for term in range(runs.terms)],
            axis=2,
        )
        if runs.floor is not None:
            E = np.full((walkers, runs.recipes), runs.floor)
        else:
            below = np.exp(theta_WK[:, [self.places[-1][0]]])
            E = self.scale * (1.0 - below + off_mean[-1])
        logits = theta_WK[:, self.noise_place]
        shares = np.exp(logits - np.logaddexp(0.0, _log_sum(logits))[:, None])
        factor = np.ones((walkers, runs.recipes))
        if self.factor_place.size:
            factor = np.exp(self.prior.factor * theta_WK[:, self.factor_place])
        return _Law(log_exponent, E, shares, factor)

    def density(self, theta_WK: Array) -> Array:
        """ln of the posterior density of every row of theta; -inf out of bounds."""
        with np.errstate(all="ignore"):
            law = self.coefficients(theta_WK)
            value = self._log_prior(theta_WK, law)
            fitted = self._fitted(law)
            value = np.where(fitted.good, value + fitted.log_likelihood, -np.inf)
        return np.where(np.isfinite(value), value, -np.inf)

    def shared(self, theta_WK: Array) -> dict[str, float]:
        """The chance that all recipes share each exponent, and the floor."""
        names = (*("alpha", "beta")[: self.runs.terms], "E")
        return {
            name: sharing.shared(theta_WK[:, place[1:]])
            for name, sharing, place in zip(names, self.sharings, self.places, strict=False)
        }

    def _log_prior(self, theta_WK: Array, law: _Law) -> Array:
        own = np.log1p(-law.shares.sum(axis=1))
        value = np.log(law.shares) @ self.of_shares[:-1] + self.of_shares[-1] * own
        value -= 0.5 * (theta_WK[:, self.factor_place] ** 2).sum(axis=1)
        for place in self.places:
            value -= 0.5 * (theta_WK[:, place[1:]] ** 2).sum(axis=1)
        for place in self.places[: self.runs.terms]:
            value -= 0.5 * ((theta_WK[:, place[0]] - self.usual) / self.spread) ** 2
        if self.runs.floor is None:
            value += theta_WK[:, self.places[-1][0]]  # the floor is uniform, not ln of the rest
            inside = ((law.E > 0) & (self.lowest > law.E)).all(axis=1)
            value = np.where(inside, value, -np.inf)
        return np.asarray(value)

    def _fitted(self, law: _Law) -> "_Fitted":
        """The amplitudes that go with exponents, floors and shares of the noise, by generalised
        least squares of L/L_point.

        Not of L/L_run: a law that vanishes is off by exactly 1 at every run then, which passes for
        noise that all runs have in common, with none of their own (Peelle's puzzle)."""
        runs = self.runs
        values = self._linear(law)
        white, log_det = runs.blocks.whitened(law.shares, law.factor, values)
        gram = np.swapaxes(white, 1, 2) @ white
        precision, moment = gram[:, :-1, :-1], gram[:, :-1, -1:]
        # A little of a ridge keeps two terms apart that the runs do not tell apart.
        ridge = 1e-10 * np.einsum("wpp->wp", precision) + _LEAST_RIDGE
        precision = precision + ridge[:, :, None] * np.eye(precision.shape[1])
        amplitude = np.linalg.solve(precision, moment)[:, :, 0]
        left = np.maximum(gram[:, -1, -1] - (moment[:, :, 0] * amplitude).sum(axis=1), 0.0)
        own_WR = own_share(law.shares)[:, None] * law.factor[:, runs.recipe_R] ** 2
        left += self.prior.noise**2 + _ROUNDING**2 * (1.0 / own_WR).sum(axis=1)
        _, log_precision = np.linalg.slogdet(precision)
        likelihood = -log_det - 0.5 * log_precision - 0.5 * self.degrees * np.log(left)
        return _Fitted(likelihood, amplitude, precision, left)

    def _linear(self, law: _Law) -> Array:
        """What multiplies each amplitude, and what is left for them: (W, R, P + 1)."""
        runs = self.runs
        scale = runs.level_R * runs.spread_R
        target = (runs.loss_R - law.E[:, runs.recipe_R]) / scale
        powers = np.exp(-np.exp(law.log_exponent)[:, runs.recipe_R] * runs.log_inputs_RT)
        design = np.tile(powers / scale[:, None], (1, 1, runs.recipes)) * self.own_RP
        return np.concatenate([design, target[:, :, None]], axis=2)

    def deleted_residuals(self, theta_WK: Array) -> "DeletedResiduals":
        """How far each run is from what the others, and what it shares with them, say."""
        law = self.coefficients(theta_WK)
        values = self._linear(law)
        runs = len(values[0])
        identity = np.broadcast_to(np.eye(runs), (len(values), runs, runs))
        white, _ = self.runs.blocks.whitened(law.shares, law.factor, identity)
        whitened = white @ values
        design, target = whitened[:, :, :-1], whitened[:, :, -1:]
        basis, _ = np.linalg.qr(design)
        # What the amplitudes take up is taken out: rows of the projected precision, P and P y.
        white = white - basis @ (np.swapaxes(basis, 1, 2) @ white)
        weight = (white**2).sum(axis=1)
        pulled = np.swapaxes(white, 1, 2) @ target
        off = pulled[:, :, 0] / weight
        left = (target - basis @ (np.swapaxes(basis, 1, 2) @ target))[:, :, 0]
        degrees = self.degrees - 1.0 - len(self.sharings)
        without = (left**2).sum(axis=1)[:, None] - off**2 * weight
        variance = (np.maximum(without, 0.0) + self.prior.noise**2) / degrees
        return DeletedResiduals(off * self.runs.spread_R, off * np.sqrt(weight / variance), degrees)

    def draws(self, seed: int) -> LawDraws:
        """Draws of all coefficients."""
        rng = np.random.default_rng(seed)
        start = self._starts(rng)
        with np.errstate(all="ignore"):
            sampled = sample(
                self.density,
                start,
                rng,
                burn_in=_BURN_IN + _BURN_IN_PER_COORDINATE * self.size,
                steps=_STEPS + _STEPS_PER_COORDINATE * self.size,
                thin=_THIN,
            )
            theta = sampled.draws
            law = self.coefficients(theta)
            fitted = self._fitted(law)
        variance = fitted.left / rng.chisquare(self.degrees, len(theta))
        root = np.linalg.cholesky(fitted.precision)
        normal = rng.standard_normal((*fitted.amplitude.shape, 1))
        moved = np.linalg.solve(np.swapaxes(root, 1, 2), normal)[:, :, 0]
        amplitude = fitted.amplitude + np.sqrt(variance)[:, None] * moved
        # An amplitude below zero is no law: those few draws keep their mean.
        amplitude = np.where((amplitude > 0).all(axis=1)[:, None], amplitude, fitted.amplitude)
        shape = (len(theta), self.runs.recipes, self.runs.terms)
        return LawDraws(
            self.runs,
            theta,
            law.E,
            amplitude.reshape(shape),
            np.exp(law.log_exponent),
            np.sqrt(variance),
            law.shares,
            law.factor,
            self.shared(theta),
            sampled.disagreement,
        )

    def _starts(self, rng: np.random.Generator) -> Array:
        """Walkers about the peak of the density, as widely as it is curved: from draws of the prior
        they would have to find it, and in tables of many recipes some never did."""
        walkers = max(_LEAST_WALKERS, _WALKERS_PER_COORDINATE * self.size)
        walkers += walkers % 2
        theta = rng.standard_normal((_STARTS, self.size))
        for place in self.places[: self.runs.terms]:
            theta[:, place[0]] = self.usual + self.spread * theta[:, place[0]]
        if self.runs.floor is None:
            theta[:, self.places[-1][0]] = np.log(rng.uniform(0.02, 0.98, _STARTS))
        theta[:, self.noise_place] -= 1.0
        value = self.density(theta)
        best = theta[np.argsort(-value, kind="stable")]
        top = max((peak(self.density, one) for one in best[:_CLIMBS]), key=lambda one: one.value)
        about = top.about(rng, 4 * walkers)
        value = self.density(about)
        return about[np.argsort(~np.isfinite(value), kind="stable")[:walkers]]


@dataclass(frozen=True)
class DeletedResiduals:
    """As shares of the loss (W, R), in standard deviations (W, R), and their degrees of freedom."""

    off: Array
    deviations: Array
    degrees: float


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
