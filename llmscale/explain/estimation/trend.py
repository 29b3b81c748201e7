"""Whether losses move with what a law is in, and a fitted law tells more of them than their mean
does."""

import numpy as np
import pandas as pd
from scipy.special import fdtrc, stdtr

from llmscale.errors import Note
from llmscale.explain.estimation.levels import count_levels, numbers
from llmscale.explain.estimation.result import Fit, run_weights
from llmscale.explain.laws import Array
from llmscale.notes.fitting import NO_TREND

_COUNTS = ("params", "tokens")
_MOSTLY = 0.5
"""A law that leaves less of the squares tells most of the losses, if too few of them to be sure."""
_ROUNDED = 1e-9
"""Residuals below this are rounding: such a law says all of it."""


def no_trend(fit: Fit) -> Note | None:
    """What to say of a law that is no closer to the losses than their mean is (F test), if these
    do not move with any input or with N D either (rank correlation); None if they do, or there are
    too few runs to tell."""
    if fit.runs is None or _of_half(fit):
        return None
    level = fit.law.level_of(fit.table.frame["loss"].to_numpy(dtype=float))
    weight = run_weights(fit.table)
    about_mean = float((weight * (level - np.average(level, weights=weight)) ** 2).sum())
    about_law = float((weight * fit.residuals**2).sum())
    told = max(fit.law.told_by_runs or fit.free, 2) - 1
    left = len(level) - told - 1
    if left < 1 or about_law <= max(_MOSTLY * about_mean, _ROUNDED**2 * len(level)):
        return None
    ratio = max(about_mean - about_law, 0.0) / told / (about_law / left)
    chance = float(fdtrc(told, left, ratio))
    if chance < NO_TREND.limit or _moves(fit, level):
        return None
    inputs = " and ".join(fit.law.inputs)
    return NO_TREND.note(
        f"{fit.law.name} is hardly closer to the {len(level)} losses than their mean is (F test, "
        f"p = {chance:.2g}): they do not change with {inputs} by more than they scatter"
    )


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's; NaN if either is the same everywhere."""
    return float(pd.Series(one).rank().corr(pd.Series(other).rank()))


def chance_of_rank(rank: float, number: int) -> float:
    """The two-sided p of a rank correlation over so many runs, by Student's t."""
    if not np.isfinite(rank) or number < 3:
        return 1.0
    left = number - 2
    t = abs(rank) * np.sqrt(left / max(1.0 - rank * rank, 1e-12))
    return float(2.0 * stdtr(left, -t))


def _moves(fit: Fit, level: Array) -> bool:
    """A law may miss losses that move all the same, as by a few that are far off."""
    inputs = fit.inputs
    if set(_COUNTS) <= set(fit.law.inputs):
        inputs.append(np.prod([fit.table.frame[name] for name in _COUNTS], axis=0))
    chances = (chance_of_rank(rank_correlation(one, level), len(level)) for one in inputs)
    return any(chance < NO_TREND.limit / len(inputs) for chance in chances)


def _of_half(fit: Fit) -> bool:
    """Whether the law is in one of N and D and the runs differ in the other, too, which it takes
    for scatter: that is said elsewhere."""
    frame = fit.table.frame
    others = [name for name in _COUNTS if name not in fit.law.inputs and name in frame]
    in_one = len(others) == 1 and len(fit.law.inputs) == 1
    return in_one and count_levels(numbers(frame, others[0])) > 1
