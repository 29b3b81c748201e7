"""Draws from a posterior by an ensemble of walkers that move along the differences of others.

Differential evolution (ter Braak 2006), by halves so that the chain is exact (as Foreman-Mackey et
al. 2013 do), with moves in some of the coordinates only (Vrugt et al. 2009): nothing is to be
tuned, and the coordinates may be as correlated as they like. One seed, one result."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llmscale.explain.laws import Array

Density = Callable[[Array], Array]
"""ln of the posterior density of walkers: (W, K) to (W,)."""
_WHOLE = 0.4
"""The share of moves in all coordinates; of the others in each with this chance."""
_SOME = 0.35
_LEAP = 0.1
"""The share of moves by a whole difference, which lead from one mode to another."""
_JITTER = 1e-4
_GATHER, _LOST = 40, 3.0
"""So often in the burn-in walkers that are further below the median than those above it are, by so
many nats more, go to where others are."""


@dataclass(frozen=True)
class Sampled:
    """Draws (B, K), with the share of moves that were taken, and how far the walkers' chains are
    from having one distribution: Gelman & Rubin's R of the worst coordinate, 1 if none is."""

    draws: Array
    accepted: float
    disagreement: float


def sample(
    density: Density,
    start_WK: Array,
    rng: np.random.Generator,
    *,
    burn_in: int,
    steps: int,
    thin: int,
) -> Sampled:
    """`steps` moves of every walker after `burn_in` ones, of which every `thin`-th is kept. The
    number of walkers is even."""
    walker_WK = start_WK.copy()
    value_W = density(walker_WK)
    kept, accepted = [], 0
    for step in range(burn_in + steps):
        if step < burn_in and step % _GATHER == _GATHER - 1:
            _gather(walker_WK, value_W, rng)
        accepted += _move_halves(density, walker_WK, value_W, rng)
        if step >= burn_in and (step - burn_in) % thin == 0:
            kept.append(walker_WK.copy())
    chains_TWK = np.array(kept)
    rate = accepted / (len(walker_WK) * (burn_in + steps))
    return Sampled(chains_TWK.reshape(-1, start_WK.shape[1]), rate, _disagreement(chains_TWK))


def _gather(walker_WK: Array, value_W: Array, rng: np.random.Generator) -> None:
    """Put walkers that are stuck far down where others are, in place."""
    middle, best = np.median(value_W), value_W.max()
    lost = np.flatnonzero(value_W < middle - (best - middle) - _LOST)
    found = np.flatnonzero(value_W >= middle)
    chosen = rng.choice(found, size=len(lost))
    walker_WK[lost], value_W[lost] = walker_WK[chosen], value_W[chosen]


def _move_halves(
    density: Density, walker_WK: Array, value_W: Array, rng: np.random.Generator
) -> int:
    """One move of each walker, in place, and how many were taken."""
    half, taken = len(walker_WK) // 2, 0
    for moving, others in (
        (slice(0, half), slice(half, None)),
        (slice(half, None), slice(0, half)),
    ):
        at = walker_WK[moving]
        proposed = at + _moves(at, walker_WK[others], rng)
        value = density(proposed)
        better = np.log(rng.random(half)) < value - value_W[moving]
        at[better], value_W[moving][better] = proposed[better], value[better]
        taken += int(better.sum())
    return taken


def _moves(at_HK: Array, others_HK: Array, rng: np.random.Generator) -> Array:
    half, size = at_HK.shape
    first = rng.integers(half, size=half)
    second = (first + rng.integers(1, half, size=half)) % half
    mask_HK = (rng.random((half, size)) < _SOME) | (rng.random((half, 1)) < _WHOLE)
    mask_HK[np.arange(half), rng.integers(size, size=half)] = True
    gamma_H = 2.38 / np.sqrt(2.0 * mask_HK.sum(axis=1)) * np.exp(0.3 * rng.standard_normal(half))
    gamma_H = np.where(rng.random(half) < _LEAP, 1.0, gamma_H)
    difference = others_HK[first] - others_HK[second]
    jitter = _JITTER * others_HK.std(axis=0) * rng.standard_normal((half, size))
    return np.asarray(mask_HK * (gamma_H[:, None] * difference + jitter))


_QUARTILES = 1.349
"""How many standard deviations of a normal distribution lie between its quartiles."""


def _disagreement(chains_TWK: Array) -> float:
    """Gelman & Rubin 1992, of the halves of each chain; how far apart these are is told by their
    quartiles, since one walker that is lost moves nothing."""
    half = len(chains_TWK) // 2
    parts_THK = np.concatenate([chains_TWK[:half], chains_TWK[half : 2 * half]], axis=1)
    within = parts_THK.var(axis=0, ddof=1).mean(axis=0)
    low, high = np.quantile(parts_THK.mean(axis=0), [0.25, 0.75], axis=0)
    between = ((high - low) / _QUARTILES) ** 2
    with np.errstate(all="ignore"):
        ratio = np.sqrt((half - 1) / half + between / within)
    return float(np.nanmax(ratio, initial=1.0))
