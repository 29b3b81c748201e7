"""What makes forecasts doubtful: how far beyond the runs they lie, and losses that cannot be."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import Note
from llmscale.explain import digits
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import Array
from llmscale.notes.predicting import EXTRAPOLATES_FAR, FORECAST_TOO_HIGH, LOSS_NOT_POSITIVE

FAR = EXTRAPOLATES_FAR.limit
"""Forecasts more than this many times beyond the runs are called far."""
GUESS = 1e3
"""Past so many times beyond the runs a forecast is a guess: 7 of 26 public tables go so far."""


def far(fit: Fit, inputs: Mapping[str, ArrayLike], horizons: Array) -> list[Note]:
    """What to say of forecasts of which one is far beyond the runs, or below them; `horizons` are
    ln of how many times."""
    furthest = float(horizons.max(initial=0.0))
    if furthest <= math.log(FAR):
        return []
    at_below = fit.reach.below(fit.law.inputs, fit.inputs_at(inputs))
    below = bool(np.broadcast_to(at_below, horizons.shape).flat[int(np.argmax(horizons))])
    known = f"past {FAR:g}x even widened 90% intervals held 86% of the runs of public tables"
    if furthest > math.log(GUESS):
        known = f"this is a guess, since past {GUESS:,.0f}x hardly any forecast was ever checked"
    needed = "smaller budgets" if below else "a larger budget in between"
    where = digits.from_the_runs(furthest, below=below)
    return [EXTRAPOLATES_FAR.note(f"the forecast lies {where}: {known}; measure {needed}")]


def heights(fit: Fit, loss: Array) -> list[Note]:
    """The notes on losses that no run can have."""
    if fit.law.plain:
        return []
    found = (_not_positive(fit, loss), _too_high(fit, loss))
    return [note for note in found if note is not None]


def _not_positive(fit: Fit, loss: Array) -> Note | None:
    nowhere = int((loss <= 0).sum())
    if not nowhere:
        return None
    return LOSS_NOT_POSITIVE.note(
        f"{fit.law.name} gives no positive loss at {nowhere} of {loss.size} forecasts: its formula "
        "does not hold there; use another law (llmscale laws), or forecast nearer to the runs"
    )


def _too_high(fit: Fit, loss: Array) -> Note | None:
    """What to say of forecasts above ln of any vocabulary, by a law of runs that are all below."""
    limit = FORECAST_TOO_HIGH.limit
    highest = _highest(fit)
    if not highest <= limit < loss.max(initial=0.0):
        return None
    return FORECAST_TOO_HIGH.note(
        f"a loss of {loss.max():.3g} nats is more than guessing costs with any vocabulary, and "
        f"the runs have {highest:.3g} at most: are the sizes in another unit? They are asked for "
        "in ones, or with a suffix: --params 7B --tokens 100B"
    )


def _highest(fit: Fit) -> float:
    """The highest loss of the runs; of a fit without them what its law says of the smallest, NaN
    if they are not known either."""
    if fit.runs is not None:
        return float(fit.table.frame["loss"].max())
    ranges = fit.reach.ranges
    if not set(fit.law.inputs) <= set(ranges):
        return math.nan
    with np.errstate(all="ignore"):
        return float(fit.law.loss(*(math.exp(ranges[name][0]) for name in fit.law.inputs)))
