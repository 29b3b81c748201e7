"""Which runs to buy with a budget: in turn the one that is expected to lower the variance of the
targets most for its cost, given those already in the batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llmscale.explain.design.belief import Gains, after, belief_of, gains
from llmscale.explain.design.plausible import Plausible
from llmscale.explain.laws import Array

Cost = Callable[[tuple[int, ...], int], float]
"""What a run adds to the cost of the batch so far: a branch is cheap once its trunk is bought."""
Why = Literal["within", "between", "replicate"]

COST_EXPONENT = 0.4
"""Power of the cost that a gain is divided by. At 1 the cheapest runs win, which narrow a law and
say little of its ends; at 0 the dearest."""
_NOTHING = 1e-9
"""A run that lowers the variance by less than this share of it is not bought."""


@dataclass(frozen=True)
class Purchase:
    """A run of the batch, by its place among those that could be bought."""

    run: int
    cost: float
    before: float
    after: float
    """Variance of the targets, without the run and with it."""
    why: Why
    """What it tells: more of the laws' coefficients, which law holds (or which optimum), or more of
    a run that is in the batch or measured already."""

    @property
    def share(self) -> float:
        """Of the variance that it takes away."""
        return 1 - self.after / self.before


def choose_runs(
    members: Sequence[Plausible],
    cost: Array | Cost,
    budget: float,
    *,
    target_weights: Array | None = None,
    exponent: float = COST_EXPONENT,
    most: int | None = None,
    replicates: bool = True,
    measured: Sequence[int] = (),
    seed: int = 0,
) -> tuple[Purchase, ...]:
    """The batch, in the order bought, until the budget is spent, `most` are bought, or nothing
    lowers the variance. `cost` is each run's, or what it adds to a batch. `measured` are those that
    the table has already: to buy one is a replicate, as it is to buy one twice."""
    belief = belief_of(members, target_weights)
    generator = np.random.default_rng(seed)
    price = _price(cost, len(members[0].runs))
    batch: list[Purchase] = []
    bought: tuple[int, ...] = ()
    spent, variance = 0.0, belief.variance
    while variance > 0 and (most is None or len(batch) < most):
        prices = price(bought)
        told = gains(belief)
        open_to = prices <= (budget - spent) * (1 + 1e-12)
        if not replicates:
            open_to[[*bought, *measured]] = False
        run = _best(told.total, prices, exponent, open_to)
        if run is None or told.total[run] <= _NOTHING * variance:
            break
        left = max(variance - float(told.total[run]), 0.0)
        why = _why(told, run, run in bought or run in measured)
        batch.append(Purchase(run, float(prices[run]), variance, left, why))
        spent, variance, bought = spent + float(prices[run]), left, (*bought, run)
        belief = after(belief, run, generator)
    return tuple(batch)


def _price(cost: Array | Cost, count: int) -> Callable[[tuple[int, ...]], Array]:
    """What every run would add to the cost of a batch."""
    if callable(cost):
        adds = cost
        return lambda bought: np.array([adds(bought, run) for run in range(count)], dtype=float)
    fixed = np.asarray(cost, dtype=float)
    return lambda bought: fixed


def _best(gain: Array, prices: Array, exponent: float, open_to: np.ndarray) -> int | None:
    """The run with the highest gain for its cost. One that costs nothing comes first."""
    if not open_to.any():
        return None
    scale = np.maximum(prices / max(prices.max(), np.finfo(float).tiny), 1e-12)
    score = np.where(open_to, gain / scale**exponent, -np.inf)
    return int(np.argmax(score))


def _why(told: Gains, run: int, again: bool) -> Why:
    if again:
        return "replicate"
    if told.within[run] * 2 < told.total[run]:
        return "between"
    return "within"
