"""Ways to choose what to buy from a pool: each sees the runs that it bought, and the N, D and cost
of the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pools import Pool

from llmscale import LlmscaleError
from llmscale.explain.design.batch import Prices, best_batch
from llmscale.explain.design.believed import belief_by_law, outlook_of
from llmscale.explain.design.outlook import Outlooks
from llmscale.explain.estimation.options import Options
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.forecast import forecast as forecasts
from llmscale.explain.forecast.forecast import Forecast

Chooser = Callable[[Pool, list[int], float], list[int]]
"""From a pool, what was bought of it, and FLOPs to what to buy."""
LAW = "anchored"
"""The law that `predict` takes for nearly all of these pools."""
REFITS = 200
ROUNDS = 3
"""How often a batch of at most BATCH runs is chosen, measured and chosen anew; the last one may be
larger, so that the budget is spent."""
BATCH, ANY = 8, 1000


def in_order(order: Callable[[Pool], np.ndarray]) -> Chooser:
    """The runs in this order, until one is too dear."""

    def choose(pool: Pool, bought: list[int], budget: float) -> list[int]:
        found: list[int] = []
        for run in order(pool).tolist():
            if run in bought:
                continue
            if pool.cost[run] > budget:
                break
            found.append(run)
            budget -= pool.cost[run]
        return found

    return choose


def smallest_first(pool: Pool) -> np.ndarray:
    return np.argsort(pool.cost, kind="stable")


def whole_budgets(pool: Pool, bought: list[int], budget: float) -> list[int]:
    """The usual IsoFLOP grid: all sizes of the lowest budget, then of the next one."""
    found: list[int] = []
    for level in range(int(pool.budget.max()) + 1):
        runs = [run for run in np.flatnonzero(pool.budget == level).tolist() if run not in bought]
        cost = float(pool.cost[runs].sum())
        if cost > budget:
            break
        found += runs
        budget -= cost
    return found


def at_random(seed: int) -> Chooser:
    """Any run that can still be paid for."""

    def choose(pool: Pool, bought: list[int], budget: float) -> list[int]:
        found: list[int] = []
        for run in np.random.default_rng(seed).permutation(len(pool.runs)).tolist():
            if run not in bought and pool.cost[run] <= budget:
                found.append(run)
                budget -= pool.cost[run]
        return found

    return choose


def largest_first(pool: Pool, bought: list[int], budget: float) -> list[int]:
    """The dearest run that can still be paid for."""
    found: list[int] = []
    for run in np.argsort(-pool.cost, kind="stable").tolist():
        if run not in bought and pool.cost[run] <= budget:
            found.append(run)
            budget -= pool.cost[run]
    return found


@dataclass(frozen=True)
class ByDesign:
    """Batches by the expected width of the forecast's interval, as `next_runs` chooses them.

    Without `misfit` the interval is taken to be that of the law only, and unless candidates are
    seen `as_fitted` each is measured with the same noise: what an optimal design of a law that is
    exactly right goes by."""

    law: str = LAW
    misfit: bool = True
    as_fitted: bool = True
    rounds: int = ROUNDS

    def __call__(self, pool: Pool, bought: list[int], budget: float) -> list[int]:
        found: list[int] = []
        for turn in range(self.rounds):
            most = ANY if turn == self.rounds - 1 else BATCH
            try:
                batch, _ = self.batch(pool, [*bought, *found], budget, most)
            except LlmscaleError:  # this law asks for more runs
                return [*found, *in_order(smallest_first)(pool, [*bought, *found], budget)]
            found += batch
            budget -= float(pool.cost[batch].sum())
        return found

    def batch(
        self, pool: Pool, bought: list[int], budget: float, most: int
    ) -> tuple[list[int], float]:
        """The next runs, and the width that the interval is expected to have after them."""
        others = [run for run in range(len(pool.runs)) if run not in bought]
        others = [run for run in others if pool.cost[run] <= budget]
        if not others:
            return [], 0.0
        outlooks = self._outlooks(pool, bought, others)
        prices = once(pool.cost[others])
        batch = best_batch(outlooks, prices, budget, most, worth=0.0)
        last = batch[-1].after if batch else outlooks
        return [others[one.run] for one in batch], last.first.width

    def _outlooks(self, pool: Pool, bought: list[int], others: Sequence[int]) -> Outlooks:
        params, tokens = (pool.runs[name].to_numpy()[others] for name in ("params", "tokens"))
        told = forecast(pool, bought, pool.target, self.law)
        one = outlook_of(told, params, tokens)
        if not self.misfit:
            one = replace(one, misfit=replace(one.misfit, scale=0.0, off=0.0))
        if not self.as_fitted:
            one = replace(one, belief=belief_by_law(told, params, tokens))
        return Outlooks.of([(1.0, one)])


def once(prices: np.ndarray) -> Prices:
    """These, and more than any budget for what was bought."""

    def asked(bought: tuple[int, ...]) -> np.ndarray:
        left = prices.copy()
        left[list(bought)] = np.inf
        return left

    return asked


def forecast(pool: Pool, bought: list[int], at: Any, law: str = LAW) -> Forecast:
    """What this law says with the runs that were bought, with the interval that `predict` gives
    without a backtest: that would take most of the time."""
    fit = bare_fit(pool.table(bought), law, Options(bootstrap=REFITS, holdout="none"))
    return forecasts.forecast(fit, params=at["params"], tokens=at["tokens"])


RANDOM = 3
CHOOSERS: dict[str, tuple[Chooser, ...]] = {
    "smallest first": (in_order(smallest_first),),
    "IsoFLOP grid": (whole_budgets,),
    "largest first": (largest_first,),
    "random": tuple(at_random(seed) for seed in range(RANDOM)),
    "V-optimal": (ByDesign("chinchilla", misfit=False, as_fitted=False),),
    "misfit off": (ByDesign(misfit=False),),
    "next_runs": (ByDesign(),),
}
