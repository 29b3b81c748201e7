"""A batch of runs under a budget: those after which the forecast is expected to be narrowest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias

import numpy as np

from llmscale.explain.design.outlook import Outlooks
from llmscale.explain.design.prospects import P
from llmscale.explain.laws import Array

Prices = Callable[[tuple[int, ...]], Array]
"""What each candidate would add to the cost of a batch."""
COST_EXPONENTS = (0.0, 0.25, 0.5)
"""Powers of the cost that a gain is divided by, tried in turn: at 1 cheap runs win, which narrow
the law and not the distance, at 0 the dearest, which leave nothing for a second one. Which is best
differs from table to table; 0.25 to 0.75, or 0.5 to 1, are as good as these in the mean
(results/next-runs)."""
WORTH = 0.01
"""A run that narrows the interval by less than this share of its width is not proposed."""


@dataclass(frozen=True)
class Purchase(Generic[P]):
    """A candidate of the batch, in the order bought, with the prospects before it and after it."""

    run: int
    cost: float
    before: P
    after: P


Bought: TypeAlias = Purchase[Outlooks]
"""One for a forecast."""


def best_batch(
    outlook: P,
    prices: Prices,
    budget: float,
    most: int,
    *,
    width: float = 0.0,
    worth: float = WORTH,
) -> tuple[Purchase[P], ...]:
    """The batch of at most `most` runs that leaves the interval narrowest, of those that greedy
    choices by several powers of the cost find; it ends once the interval is as narrow as
    `width`."""
    batches = [
        _greedy(outlook, prices, budget, most, exponent, width=width) for exponent in COST_EXPONENTS
    ]
    pruned = [_without_idle(outlook, prices, batch, worth) for batch in batches]
    return min(pruned, key=lambda batch: _merit(outlook, batch, width))


def bought(outlook: P, prices: Prices, runs: Sequence[int]) -> tuple[Purchase[P], ...]:
    """The batch of these candidates, in this order."""
    batch: list[Purchase[P]] = []
    for place, run in enumerate(runs):
        price = float(prices(tuple(runs[:place]))[run])
        batch.append(Purchase(run, price, outlook, outlook.after(run)))
        outlook = batch[-1].after
    return tuple(batch)


def _merit(outlook: P, batch: Sequence[Purchase[P]], width: float) -> tuple[float, float]:
    """How wide the interval is left, and of those that are narrow enough what it costs."""
    left = batch[-1].after.width if batch else outlook.width
    return max(left, width), sum(one.cost for one in batch)


def _greedy(
    outlook: P,
    prices: Prices,
    budget: float,
    most: int,
    exponent: float,
    *,
    width: float,
) -> list[Purchase[P]]:
    batch: list[Purchase[P]] = []
    bought: tuple[int, ...] = ()
    left = budget
    while len(batch) < most and outlook.width > width:
        price = prices(bought)
        gain = outlook.width - outlook.widths_with
        open_to = (price <= left * (1 + 1e-9)) & (gain > 0)
        if not open_to.any():
            break
        score = np.where(open_to, gain / np.maximum(price, 1e-300) ** exponent, -np.inf)
        run = int(np.argmax(score))
        found = Purchase(run, float(price[run]), outlook, outlook.after(run))
        batch.append(found)
        outlook, bought, left = found.after, (*bought, run), left - found.cost
    return batch


def _without_idle(
    outlook: P, prices: Prices, batch: Sequence[Purchase[P]], worth: float
) -> tuple[Purchase[P], ...]:
    """The batch in an order in which each run narrows the interval by what is left to narrow most,
    without those that hardly do."""
    waiting, ordered = [one.run for one in batch], []
    bought: tuple[int, ...] = ()
    while waiting:
        widths = outlook.widths_with
        run = min(waiting, key=lambda one: widths[one])
        if outlook.width - widths[run] < worth * outlook.width:
            break
        price = float(prices(bought)[run])
        ordered.append(Purchase(run, price, outlook, outlook.after(run)))
        outlook, bought = ordered[-1].after, (*bought, run)
        waiting.remove(run)
    return tuple(ordered)
