"""Which law a task's score follows in the loss, if it may be one of several: that which erred least
when lower budgets of the table were asked for higher ones, as laws of the loss are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from llmscale.errors import LlmscaleError, counted
from llmscale.explain import digits
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.backtest import backtest
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.fit.task_score import Score
from llmscale.explain.laws import Law

_Errors = Mapping[type[Law], float]


def chosen_law(score: Score, options: Options) -> tuple[type[Law], str]:
    """The law of a score's laws to forecast with, and why if there was a choice. Raises
    LlmscaleError if none can be fitted."""
    if len(score.laws) == 1:
        return score.laws[0], ""
    quick = replace(options, bootstrap=0)
    fits, problems = _fitted(score, quick)
    if len(fits) == 1:
        (law,) = fits
        return law, f"{_called(score, law)}: {'; '.join(problems)}"
    with np.errstate(all="ignore"):
        tests = [backtest(score.table_for(law), law, quick).frame for law in fits]
    errors, budgets = _held_out_errors(tests)
    if budgets:
        said = "erred least when lower budgets of this table were asked for higher ones"
        over = f" over {counted(budgets, 'budget')}"
        return _least(score, dict(zip(fits, errors, strict=True)), said, over)
    spreads = {law: _spread(fit) for law, fit in fits.items()}
    said = "is nearest to its runs, of too few budgets to hold any out"
    return _least(score, spreads, said, "")


def _fitted(score: Score, options: Options) -> tuple[dict[type[Law], Fit], list[str]]:
    """The laws that can be fitted, and why others cannot be."""
    fits: dict[type[Law], Fit] = {}
    errors: dict[str, LlmscaleError] = {}
    for law in score.laws:
        try:
            fits[law] = bare_fit(score.table_for(law), law, options)
        except LlmscaleError as error:
            errors[law.name] = error
    if not fits:
        raise next(iter(errors.values()))
    return fits, [f"of {law}, {error.problem}" for law, error in errors.items()]


def _held_out_errors(tests: Sequence[pd.DataFrame]) -> tuple[list[float], int]:
    """The mean |error| of each law's forecasts over the budgets that all laws forecast, from the
    same origins, and how many those are."""
    origins = set.intersection(*(set(test["origin"]) for test in tests))
    errors, budgets = [], 0
    for test in tests:
        seen = test[test["origin"].isin(origins)]
        by_budget = (seen["predicted"] - seen["loss"]).abs().groupby(seen["budget"]).mean()
        errors.append(float(by_budget.mean()))
        budgets = len(by_budget)
    return errors, budgets


def _spread(fit: Fit) -> float:
    """The standard deviation of a fit's residuals, given its number of coefficients."""
    left = len(fit.residuals) - len(fit.law.coefficient_names())
    return float(np.sqrt((fit.residuals**2).sum() / left)) if left > 0 else np.inf


def _least(score: Score, errors: _Errors, said: str, over: str) -> tuple[type[Law], str]:
    """The law with the least error, and a sentence with that of the next."""
    first, second = sorted(errors, key=lambda law: errors[law])[:2]
    best, next_best = (digits.number(errors[law]) for law in (first, second))
    return first, (
        f"{_called(score, first)}, which {said}: by {best}{over}; next "
        f"{_called(score, second)}, {next_best}"
    )


def _called(score: Score, law: type[Law]) -> str:
    """`task-accuracy of 1 - err`."""
    return f"{law.name} of {score.named_for(law)}"
