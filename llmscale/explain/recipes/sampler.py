"""Draws from a posterior by ensembles of walkers, which the prior turns into the posterior.

Walkers begin as draws of the prior, a standard normal one, and the likelihood is raised from
nothing to its whole by steps small enough that walkers can follow (annealed importance sampling,
Neal 2001, with the resampling of Del Moral et al. 2006): all modes are found, in proportion to
their weight, and nothing has to be started well. Between steps walkers move by differential
evolution (ter Braak 2006), by halves so that the chain is exact (as Foreman-Mackey et al. 2013 do),
with moves in some of the coordinates only (Vrugt et al. 2009): nothing is to be tuned, and the
coordinates may be as correlated as they like. Ensembles know nothing of each other, so how far they
agree tells how far the draws are to be trusted. One seed, one result."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llmscale.errors import WorkError
from llmscale.explain.laws import Array

Likelihood = Callable[[Array], Array]
"""ln of the likelihood of walkers: (W, K) to (W,)."""
Watched = Callable[[Array], Array]
"""What is wanted of draws: (B, K) to (B, Q)."""
_ENSEMBLES, _LEAST_WALKERS, _WALKERS_PER_COORDINATE = 6, 64, 4
_KEPT = 0.6
"""The share of walkers that the next step of the likelihood leaves of weight."""
_MOVES, _MOVES_PER_COORDINATE = 4, 1
"""Between two steps of the likelihood."""
_BATCH, _THIN = 100, 20
_LEAST_BATCHES, _MOST_BATCHES = 2, 10
"""Of moves of every walker, after which it is looked whether the draws have settled."""
_SETTLED = 0.04
"""The error that is good enough."""
_MOST_DRAWS = 8000
_TRIES = 20
"""Of an ensemble, to have a first walker that can be."""
_SAME = 1e-6
"""Values that differ by no more are alike."""
_WHOLE = 0.4
"""The share of moves in all coordinates; of the others in each with this chance."""
_SOME = 0.35
_LEAP = 0.1
"""The share of moves by a whole difference, which lead from one mode to another."""
_JITTER = 1e-4


@dataclass(frozen=True)
class Sampled:
    """Draws (B, K), and by how much the middle and the ends of 90% intervals of what is watched
    may move from one seed to another: a standard deviation, as a share of the interval's width."""

    draws: Array
    error: float


def sample(
    likelihood: Likelihood, watched: Watched, size: int, rng: np.random.Generator
) -> Sampled:
    """Draws of a posterior whose prior is standard normal in `size` coordinates, until they have
    settled or that takes too long."""
    walkers = _Walkers(likelihood, size, rng)
    walkers.anneal()
    kept: list[Array] = []
    seen: list[Array] = []
    error = np.inf
    for batch in range(_MOST_BATCHES):
        for _ in range(_BATCH // _THIN):
            walkers.move(_THIN)
            kept.append(walkers.theta.copy())
            seen.append(walkers.each(watched))
        error = _error(np.concatenate(seen, axis=1))
        if batch + 1 >= _LEAST_BATCHES and error <= _SETTLED:
            break
    draws = np.concatenate(kept, axis=1).reshape(-1, size)
    return Sampled(draws[:: -(-len(draws) // _MOST_DRAWS)], error)


_QUANTILES = (0.05, 0.5, 0.95)


def _error(seen_GBQ: Array) -> float:
    """From how far quantiles of ensembles are from each other."""
    ensembles, _, wanted = seen_GBQ.shape
    low, _, high = np.quantile(seen_GBQ.reshape(-1, wanted), _QUANTILES, axis=0)
    spread = np.quantile(seen_GBQ, _QUANTILES, axis=1).std(axis=1, ddof=1)
    return float((spread / np.sqrt(ensembles) / (high - low + _SAME)).max())


class _Walkers:
    """Ensembles of walkers (G, W, K), with ln of the likelihood of each (G, W), which counts as
    much as `heat` says."""

    def __init__(self, likelihood: Likelihood, size: int, rng: np.random.Generator) -> None:
        self.likelihood, self.rng, self.size = likelihood, rng, size
        walkers = max(_LEAST_WALKERS, 2 * round(0.5 * _WALKERS_PER_COORDINATE * size))
        self.theta = rng.standard_normal((_ENSEMBLES, walkers, size))
        self.value = self._values(self.theta)
        self.heat = 0.0
        for _ in range(_TRIES):
            empty = ~np.isfinite(self.value).any(axis=1)
            if not empty.any():
                return
            self.theta[empty] = rng.standard_normal(self.theta[empty].shape)
            self.value = self._values(self.theta)
        raise WorkError(
            "no laws of the form that recipes are compared by can have the losses of these runs",
            "check that the loss falls with compute in every table",
        )

    def anneal(self) -> None:
        """From the prior to the posterior."""
        moves = _MOVES + _MOVES_PER_COORDINATE * self.size
        while self.heat < 1.0:
            step = self._step()
            self._resample(step)
            self.heat = min(self.heat + step, 1.0)
            self.move(moves)

    def move(self, times: int) -> None:
        half = self.theta.shape[1] // 2
        first, second = slice(0, half), slice(half, None)
        for _ in range(times):
            self._move(first, second)
            self._move(second, first)

    def each(self, function: Watched) -> Array:
        """The function of all walkers: (G, W, Q)."""
        found = function(self.theta.reshape(-1, self.size))
        return found.reshape(*self.theta.shape[:2], -1)

    def _values(self, theta_GWK: Array) -> Array:
        return self.likelihood(theta_GWK.reshape(-1, self.size)).reshape(theta_GWK.shape[:2])

    def _step(self) -> float:
        """By how much the likelihood may count more."""
        low, high = 0.0, 1.0 - self.heat
        if self._left(high) >= _KEPT:
            return high
        for _ in range(40):
            middle = 0.5 * (low + high)
            if self._left(middle) >= _KEPT:
                low = middle
            else:
                high = middle
        return high

    def _left(self, step: float) -> float:
        """Of how many draws walkers of other weights are worth, as a share of those inside."""
        weight = np.exp(step * (self.value - self.value.max()))
        return float(weight.sum() ** 2 / (weight**2).sum() / np.isfinite(self.value).sum())

    def _resample(self, step: float) -> None:
        """Within each ensemble, walkers by their weights."""
        walkers = self.theta.shape[1]
        for theta, value in zip(self.theta, self.value, strict=True):
            weight = np.cumsum(np.exp(step * (value - value.max())))
            places = (np.arange(walkers) + self.rng.random()) / walkers
            chosen = np.searchsorted(weight, places * weight[-1])
            order = self.rng.permutation(np.minimum(chosen, walkers - 1))
            theta[:], value[:] = theta[order], value[order]

    def _move(self, moving: slice, others: slice) -> None:
        at, value = self.theta[:, moving], self.value[:, moving]
        proposed = at + self._moves(at, self.theta[:, others])
        new = self._values(proposed)
        ratio = self.heat * (new - value) + 0.5 * ((at**2).sum(axis=2) - (proposed**2).sum(axis=2))
        better = np.log(self.rng.random(ratio.shape)) < ratio
        at[better], value[better] = proposed[better], new[better]

    def _moves(self, at_GHK: Array, others_GHK: Array) -> Array:
        rng, (ensembles, half, size) = self.rng, at_GHK.shape
        each = np.arange(ensembles)[:, None]
        first = rng.integers(half, size=(ensembles, half))
        second = (first + rng.integers(1, half, size=first.shape)) % half
        some = rng.random((ensembles, half, size)) < _SOME
        mask = some | (rng.random((ensembles, half, 1)) < _WHOLE)
        one = rng.integers(size, size=(ensembles, half, 1))
        np.put_along_axis(mask, one, True, axis=2)
        gamma = (
            2.38 / np.sqrt(2.0 * mask.sum(axis=2)) * np.exp(0.3 * rng.standard_normal(first.shape))
        )
        gamma = np.where(rng.random(first.shape) < _LEAP, 1.0, gamma)
        difference = others_GHK[each, first] - others_GHK[each, second]
        jitter = _JITTER * rng.standard_normal(at_GHK.shape)
        return np.asarray(mask * (gamma[:, :, None] * difference + jitter))
