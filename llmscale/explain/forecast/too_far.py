"""What is to be said of a forecast that is far from the runs, or higher than a loss can be."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import Note
from llmscale.explain import digits
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import Array
from llmscale.notes.predicting import EXTRAPOLATES_FAR, FORECAST_TOO_HIGH

FAR = EXTRAPOLATES_FAR.limit
"""Forecasts more than this many times beyond the runs are called far."""


def far_from_runs(fit: Fit, inputs: Mapping[str, ArrayLike], h: Array) -> list[Note]:
    """What to say of a forecast that is far beyond the runs, or below them."""
    furthest = float(h.max(initial=0.0))
    if furthest <= math.log(FAR):
        return []
    at_below = fit.reach.below(fit.law.inputs, fit.inputs_at(inputs))
    below = bool(np.broadcast_to(at_below, h.shape).flat[int(np.argmax(h))])
    needed = "smaller budgets" if below else "a larger budget in between"
    return [
        EXTRAPOLATES_FAR.note(
            f"the forecast lies {digits.from_the_runs(furthest, below=below)}: past {FAR:g}x even "
            f"widened 90% intervals held 86% of the runs of public tables; measure {needed}"
        )
    ]


def too_high(fit: Fit, loss: Array) -> list[Note]:
    """What to say of forecasts above ln of any vocabulary, by a law of runs that are all below."""
    limit = FORECAST_TOO_HIGH.limit
    if fit.law.plain or fit.runs is None or not loss.max(initial=0.0) > limit:
        return []
    highest = float(fit.table.frame["loss"].max())
    if highest > limit:
        return []
    return [
        FORECAST_TOO_HIGH.note(
            f"a loss of {loss.max():.3g} nats is more than guessing costs with any vocabulary, and "
            f"the runs have {highest:.3g} at most: are the sizes in another unit? They are asked "
            "for in ones, or with a suffix: --params 7B --tokens 100B"
        )
    ]
