"""What makes forecasts doubtful: how far beyond the runs they lie, and losses that cannot be."""

import math

import numpy as np

from llmscale.errors import Note
from llmscale.explain import digits
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import Array
from llmscale.notes.predicting import EXTRAPOLATES_FAR, FORECAST_TOO_HIGH, LOSS_NOT_POSITIVE

FAR = EXTRAPOLATES_FAR.limit
"""Forecasts more than this many times beyond the runs are called far."""
GUESS = 1e3
"""Past so many times beyond the runs a forecast is a guess: 7 of 26 public tables go so far."""


def placed(horizon: float) -> str:
    """`inside the runs`, `3.5x beyond the runs`, or `a guess, 5,000x beyond the runs`; `horizon` is
    ln of how many times."""
    if not horizon > 0:
        return "inside the runs"
    times = math.exp(horizon)
    guess = "a guess, " if times > GUESS else ""
    return f"{guess}{digits.times(times)} beyond the runs"


def far(times: float) -> Note:
    """What to say of a forecast so many times beyond the runs."""
    known = f"past {FAR:g}x even widened 90% intervals held 86% of the runs of public tables"
    if times > GUESS:
        known = f"this is a guess, since past {GUESS:,.0f}x hardly any forecast was ever checked"
    return EXTRAPOLATES_FAR.note(
        f"the forecast lies {digits.times(times)} beyond the runs: {known}; measure a larger "
        "budget in between"
    )


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
