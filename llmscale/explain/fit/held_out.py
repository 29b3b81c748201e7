"""The held-out check of a fit: which law is fitted without the largest runs, and what it says of
them."""

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note
from llmscale.explain.estimation.constraints import NONE, Constraints
from llmscale.explain.estimation.holdout import Holdout
from llmscale.explain.estimation.identifiability import why_not
from llmscale.explain.estimation.levels import has_steps, points, words
from llmscale.explain.estimation.result import Fit
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.laws import LAWS, Law
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import HOLDOUT_BY_SIMPLER_LAW, HOLDOUT_SKIPPED
from llmscale.runs.title import run_titles


def checker_of(
    law: Law, rest: RunTable, constraints: Constraints = NONE
) -> tuple[type[Law] | None, tuple[Note, ...]]:
    """The law to predict the held-out runs with: one point more than coefficients, or a law with
    fewer, or none."""
    inputs = law.inputs
    if rest.frame.empty:
        return None, (
            HOLDOUT_SKIPPED.note(
                f"no held-out check of {law.name}: every run is among the largest",
            ),
        )
    number = int(points(rest.frame, inputs).max()) + 1
    if has_steps(rest.frame):
        number = len(rest.frame)
    needed = constraints.unknowns(law) + 1
    problem = why_not(type(law), rest.frame, inputs, constraints)
    if number >= needed and problem is None:
        return type(law), ()
    if _suffices_without_floor(law, number, constraints):
        assert law.without_floor is not None
        message = (
            f"without the held-out runs {number} {words(inputs[0], number)} are left, too few for "
            f"{law.name}: the check was made with {law.without_floor}"
        )
        return LAWS.find(law.without_floor), (HOLDOUT_BY_SIMPLER_LAW.note(message),)
    what = words(inputs[0], number) if len(inputs) == 1 else "points"
    reason = (
        f"{number} {what} {'is' if number == 1 else 'are'} left"
        if problem is None or number < needed
        else problem.problem
    )
    return None, (
        HOLDOUT_SKIPPED.note(
            f"no held-out check of {law.name}: without the largest runs, {reason}",
        ),
    )


def _suffices_without_floor(law: Law, number: int, constraints: Constraints) -> bool:
    """Whether so many points are enough for the law without its floor, of which all is known that
    was said."""
    if law.without_floor is None:
        return False
    names = LAWS.find(law.without_floor).coefficient_names()
    return constraints.lacking(names) is None and number >= constraints.free(names) + 1


def predict_held_out(check: Fit, table: RunTable, held: NDArray[np.bool_], rule: str) -> Holdout:
    """What a fit without the held-out runs says of them."""
    columns = dict.fromkeys(["run_id", "params", "tokens", "flops", *check.law.inputs, "loss"])
    runs = table.frame.loc[held, list(columns)].reset_index(drop=True)
    at = {name: runs[name].to_numpy() for name in check.law.inputs}
    told = forecast_at(check, **at)
    runs.insert(1, "title", run_titles(table.frame, np.flatnonzero(held)))
    runs["predicted"], runs["low"], runs["high"] = told.loss, told.low, told.high
    runs["plain_low"], runs["plain_high"] = told.plain_low, told.plain_high
    rounding = 1e-9 * runs["loss"].abs()
    runs["inside"] = (runs["low"] - rounding <= runs["loss"]) & (
        runs["loss"] <= runs["high"] + rounding
    )
    return Holdout(rule, check.law, runs)
