"""The compute-optimal run of a budget by a fitted law: C = 6ND split so that the loss is lowest."""

from dataclasses import replace
from typing import Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.estimation.lowest_points import LowestPoints
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, Tested, percentiles, with_coefficients
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.forecast.asked import forecast_at, numbers_asked
from llmscale.explain.forecast.best_size import (
    Ends,
    Optimum,
    SaidByBudgets,
    asked_at,
    dispute,
    sentence,
    widened_sizes,
)
from llmscale.explain.forecast.widths import growth
from llmscale.quantity import MOST

_LEAST_FLOPS = 6.0
"""One parameter and one token."""


def optimum(
    fit: Fit,
    flops: float | str,
    *,
    level: float | None = None,
    check: Tested | None = None,
    points: LowestPoints | None = None,
) -> Optimum:
    """The best run of one budget; `check` as in `forecast`, and `points` what the budgets of the
    table say of it themselves. Raises InputError if the law has no optimum."""
    level = fit.level if level is None else Options(level=level).level
    budget = _budget(flops)
    best = fit.law.optimal(budget)
    if best is None:
        raise InputError(
            f"{fit.law.name} is no law in N and D, and has no optimum at a budget",
            law_in_both(fit.runs, budget),
        )
    params, tokens = (float(value) for value in best)
    found = Optimum(budget, params, tokens, float(fit.law.loss(params, tokens)))
    said = None
    if points is not None:
        said = asked_at(points, budget, fit.law, level)
    if len(fit.replicates):
        found = _with_intervals(found, fit, level, check, said)
    return replace(
        found,
        isoflop=said,
        said=sentence(found, fit.law.name, said),
        notes=dispute(found, fit.law.name, said, level),
    )


def _with_intervals(
    best: Optimum, fit: Fit, level: float, check: Tested | None, said: SaidByBudgets | None
) -> Optimum:
    """The optimum with the intervals of its size and tokens, and of the loss there."""
    with np.errstate(all="ignore"):
        refits = with_coefficients(fit.law, fit.replicates)
        sizes = refits.optimal(best.flops)
        assert sizes is not None
        losses = refits.loss(*sizes)
    intervals: dict[str, Ends] = {}
    for name, values in zip(("params", "tokens", "law"), (*sizes, losses), strict=True):
        low, high = percentiles(np.asarray(values).reshape(-1, 1), level)
        intervals[name] = (float(low[0]), float(high[0]))
    told = forecast_at(fit, params=best.params, tokens=best.tokens, level=level, check=check)
    intervals["loss"] = (told.low, told.high)
    intervals["law_params"] = intervals["params"]
    by_law = replace(best, intervals=intervals)
    further = float(growth(np.asarray(told.horizon)))
    return replace(by_law, intervals={**intervals, **widened_sizes(by_law, further, level, said)})


def _budget(flops: Any) -> float:
    asked = numbers_asked("C", flops)
    if asked.ndim:
        raise InputError(
            f"there are {asked.size} budgets, and one is asked for at a time", "give one: C=1e21"
        )
    budget = float(asked)
    if not _LEAST_FLOPS <= budget <= float(MOST):
        raise InputError(
            f"a budget of {budget:g} FLOPs is not from {_LEAST_FLOPS:g} to {MOST:.0e}",
            "give FLOPs, like C=1e21",
        )
    return budget
