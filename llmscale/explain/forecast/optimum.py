"""The compute-optimal run of a budget by a fitted law: C = 6ND split so that the loss is lowest."""

from typing import Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, Tested, percentiles, with_coefficients
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.forecast.asked import forecast_at, numbers_asked
from llmscale.explain.forecast.forecast import Optimum
from llmscale.quantity import MOST

_LEAST_FLOPS = 6.0
"""One parameter and one token."""


def optimum(
    fit: Fit, flops: float | str, *, level: float | None = None, check: Tested | None = None
) -> Optimum:
    """The best run of one budget; `check` as in `forecast`. Raises InputError if the law has no
    optimum."""
    level = fit.level if level is None else Options(level=level).level
    budget = _budget(flops)
    best = fit.law.optimal(budget)
    if best is None:
        raise InputError(
            f"{fit.law.name} is no law in N and D, and has no optimum at a budget", _in_both(fit)
        )
    params, tokens = (float(value) for value in best)
    loss = float(fit.law.loss(params, tokens))
    if not len(fit.replicates):
        return Optimum(budget, params, tokens, loss)
    with np.errstate(all="ignore"):
        refits = with_coefficients(fit.law, fit.replicates)
        found = refits.optimal(budget)
        assert found is not None
        losses = refits.loss(*found)
    intervals: dict[str, tuple[float, float]] = {}
    for name, values in zip(("params", "tokens", "law"), (*found, losses), strict=True):
        low, high = percentiles(np.asarray(values).reshape(-1, 1), level)
        intervals[name] = (float(low[0]), float(high[0]))
    told = forecast_at(fit, params=params, tokens=tokens, level=level, check=check)
    intervals["loss"] = (told.low, told.high)
    return Optimum(budget, params, tokens, loss, intervals)


def _budget(flops: Any) -> float:
    asked = numbers_asked("C", flops)
    if asked.ndim:
        raise InputError(
            f"there are {asked.size} budgets, and one is asked for at a time", "give one: C=1e21"
        )
    budget = float(asked)
    if not _LEAST_FLOPS <= budget <= MOST:
        raise InputError(
            f"a budget of {budget:g} FLOPs is not from {_LEAST_FLOPS:g} to {MOST:.0e}",
            "give FLOPs, like C=1e21",
        )
    return budget


def _in_both(fit: Fit) -> str:
    """How to get a law in N and D."""
    if fit.runs is None:
        return "name a fit of one that is, such as fit-chinchilla.json, or the table"
    return law_in_both(fit.runs.frame)
