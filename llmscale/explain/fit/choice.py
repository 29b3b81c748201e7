"""Which law to forecast with: the one that erred least when it was fitted to the lower budgets of
the same table and asked for the higher ones.

An error counts per unit of growth g of its distance (see forecast/widths.py), so that budgets near
and far compare, and as much as the run's place off the optimum is like that of the run asked for. A
table of few budgets says little: what each law needed on public tables stands in as if it had been
seen on four budgets of the table (geometric means)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmscale.explain.estimation.anchor import NEAR
from llmscale.explain.fit.backtest import Backtest
from llmscale.explain.forecast.widths import growth

CANDIDATES = ("anchored", "chinchilla")
"""Laws in N and D that forecasts are made with unless one is named, best on public tables first.
Of more of them the choice is no better (experiments/league), and takes longer."""
PUBLIC_ERRORS: Mapping[str, float] = {
    "anchored": 0.006,
    "skaling": 0.0135,
    "chinchilla": 0.0157,
}
"""Typical |error| of ln L per unit of growth for near-optimal runs of public tables: what
experiments/league prints with --constants."""
_UNKNOWN = 0.02
"""The same for laws that were not measured."""
_BUDGETS = 4.0
"""How many budgets of the table that counts as."""
_LEAST_ERROR = 1e-5
_NO_FORECAST = 0.2
"""The |error| that a forecast which is no number counts as."""
_ENOUGH = 3
AS_GOOD = 1.25
"""Laws that err at most this many times as much as the best forecast as well as it."""


@dataclass(frozen=True)
class Judged:
    """A law by its forecasts: `score` is its typical |error| of ln L per unit of growth, what
    public tables say included; `error` the mean |error| on this table over `budgets` held-out
    budgets, NaN if there were none."""

    law: str
    score: float
    error: float
    budgets: int


def judged(tests: Mapping[str, Backtest], excess: float = 0.0) -> tuple[Judged, ...]:
    """Laws by their backtests on one table, best first, for runs that lie `excess` (in ln L) above
    the best of their budget. Of equals the one that is named first."""
    found = [_judged(law, test.frame, excess) for law, test in tests.items()]
    return tuple(sorted(found, key=lambda one: one.score))


def as_good(ranked: Sequence[Judged]) -> tuple[str, ...]:
    """The laws that forecast as well as the best, which comes first: on this table if it has
    enough budgets to tell, else with what public tables say."""
    best = ranked[0]
    if best.budgets >= _ENOUGH:
        return tuple(one.law for one in ranked if one is best or one.error <= AS_GOOD * best.error)
    return tuple(one.law for one in ranked if one.score <= AS_GOOD * best.score)


def _judged(law: str, frame: pd.DataFrame, excess: float) -> Judged:
    public = PUBLIC_ERRORS.get(law, _UNKNOWN)
    if not len(frame):
        return Judged(law, public, float("nan"), 0)
    error = np.abs(np.log(frame["predicted"] / frame["loss"]))
    error = error.where(np.isfinite(error), _NO_FORECAST)
    apart = (frame["excess"] - excess) / (NEAR + 0.5 * excess)
    weight = 1.0 / (1.0 + apart**2)
    g = growth(np.maximum(frame["horizon"].to_numpy(dtype=float), 1e-3))
    by = frame["budget"]
    total = weight.groupby(by).sum()
    each = (weight * error).groupby(by).sum() / total
    per_growth = (weight * error / g).groupby(by).sum() / total
    # Geometric means: what was seen is not outweighed by what is known of other tables.
    typical = max(float(np.sqrt((per_growth**2).mean())), _LEAST_ERROR)
    share = _BUDGETS / (_BUDGETS + len(total))
    score = public**share * typical ** (1.0 - share)
    return Judged(law, score, float(each.mean()), len(total))
