"""Whether forecasts err to one side: a sign test over runs not fitted (Dixon & Mood 1946)."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import bdtr

from llmscale.errors import Note
from llmscale.explain.estimation.relative import relative
from llmscale.notes.fitting import HOLDOUT_ONE_SIDED
from llmscale.notes.kind import Kind
from llmscale.runs import json_values

_RARE = HOLDOUT_ONE_SIDED.limit
"""Held-out runs share the error of one fit: most of them on one side is no news, 27 of 30 is."""
_SMALLEST = 1e-4
"""0.01% of the loss is nothing to warn of, whatever its sign."""


@dataclass(frozen=True)
class Bias:
    """How many runs lie above and below their forecast, and the mean ln(measured/forecast), or of
    a plain law the mean of measured - forecast."""

    above: int
    below: int
    mean_log: float
    plain: bool = False

    @cached_property
    def p_value(self) -> float:
        """How likely so lopsided a split is if both sides are as likely (binomial, two-sided)."""
        fewer, runs = min(self.above, self.below), self.above + self.below
        return min(1.0, 2.0 * float(bdtr(fewer, runs, 0.5))) if runs else 1.0

    @property
    def one_sided(self) -> bool:
        """Whether it is said."""
        return self.p_value < _RARE and abs(self.mean_log) > _SMALLEST

    @property
    def mean_rel_error(self) -> float:
        """The typical measured/forecast - 1: above 0 if runs are worse than forecast. NaN of a
        plain law."""
        return math.nan if self.plain else float(np.expm1(self.mean_log))

    def note(self, kind: Kind, what: str, *, ranked: bool = False) -> Note:
        """The warning, for `what` was forecast; `ranked` if other laws stand next to this one."""
        others = "which are ranked here" if ranked else "--law all"
        side, too = ("above", "low") if self.above > self.below else ("below", "high")
        most, runs = max(self.above, self.below), self.above + self.below
        by = relative(self.mean_log, 2, plain=self.plain).lstrip("+-")
        return kind.note(
            f"{most} of {runs} {what} lie {side} their forecast, by {by} in the mean "
            f"(sign test, p = {self.p_value:.0e}): further out forecasts will be too {too} by "
            f"more. Compare forms ({others}), or fit only the largest budgets"
        )

    def to_json(self) -> dict[str, Any]:
        """Counts, the mean signed error, and the p-value of the sign test."""
        return {
            "above": self.above,
            "below": self.below,
            "mean_rel_error": json_values.plain(self.mean_rel_error),
            "p_value": self.p_value,
            "one_sided": self.one_sided,
        }

    def __str__(self) -> str:
        """`3 above and 27 below, -0.8% in the mean`; nothing of a single run."""
        if self.above + self.below < 2:
            return ""
        mean = relative(self.mean_log, 2, plain=self.plain)
        return f"{self.above} above and {self.below} below, {mean} in the mean"


def bias_of(
    run_ids: ArrayLike, loss: ArrayLike, predicted: ArrayLike, *, plain: bool = False
) -> Bias:
    """The bias of forecasts, by a plain law or another; the rows of one run, such as steps of a
    curve, count as one."""
    measured, told = np.asarray(loss, dtype=float), np.asarray(predicted, dtype=float)
    with np.errstate(all="ignore"):
        off = measured - told if plain else np.log(measured) - np.log(told)
    error = pd.Series(off).groupby(np.asarray(run_ids)).mean()
    error = error[np.isfinite(error)]
    if error.empty:
        return Bias(0, 0, math.nan, plain)
    above, below = int((error > 0).sum()), int((error < 0).sum())
    return Bias(above, below, float(error.mean()), plain)
