"""The least compute whose best run has a loss, and how far that is known."""

import math
from typing import Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain import digits
from llmscale.explain.forecast.forecast import forecast
from llmscale.explain.laws import Array
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.target import Target
from llmscale.explain.search import first_crossing
from llmscale.quantity import MOST, format_count

_LEAST_FLOPS = 600.0
"""Ten parameters and ten tokens: no model is smaller."""
_STEPS = 1000
_FAR_BELOW, _FAR_ABOVE = 1e-6, 1e9
"""Times the compute, in which ends of its interval are looked for."""


def flops_for_loss(judge: Judge, target: Target) -> Estimate:
    """The least C of which the best run has this loss.

    Its interval holds every C at which a new run there might have it, as forecasts of the loss go:
    it ends where their lower and their upper end reach the loss, at infinity if that never does.
    Raises InputError if no compute reaches it, or any does."""
    surface, loss = judge.surface, target.loss
    log_C = np.linspace(math.log(_LEAST_FLOPS), math.log(float(MOST)), _STEPS)

    def above(log_C: Any) -> Any:
        return surface.lowest_loss(np.exp(log_C)) - loss

    with np.errstate(all="ignore"):
        found = _first_below(above, log_C)
        if math.isinf(found):
            raise _unreachable(judge, target)
        if found == log_C[0]:
            raise InputError(
                f"{target.said} takes no training: by {judge.fit.law.name} a model of ten "
                "parameters has it",
                "give a loss that runs of the table have, or less",
            )
        if not len(judge.fit.replicates):
            return Estimate(math.exp(found))
        near = np.linspace(
            max(found + math.log(_FAR_BELOW), log_C[0]),
            min(found + math.log(_FAR_ABOVE), log_C[-1]),
            _STEPS,
        )
        ends = [_end(judge, loss, side, near) for side in ("low", "high")]
    return Estimate(math.exp(found), *ends)


def _end(judge: Judge, loss: float, side: str, log_C: Array) -> float:
    """Where an end of the forecast at the best run of a budget reaches the loss; infinite if that
    is below or above all of these budgets."""

    def above(log_C: Any) -> Any:
        asked = judge.asked(*judge.surface.best(np.exp(log_C)))
        told = forecast(judge.fit, **asked)
        return np.asarray(getattr(told, side)) - loss

    found = _first_below(above, log_C)
    return -math.inf if found == log_C[0] else math.exp(found)


def _first_below(function: Any, points: Array) -> float:
    """The first place at which a function is no longer above 0; the first point if it is not there,
    infinity if it always is."""

    def in_rows(points_BX: Array) -> Array:
        return np.reshape(function(np.ravel(points_BX)), np.shape(points_BX))

    return float(first_crossing(in_rows, points[None, :])[0, 0])


def _unreachable(judge: Judge, target: Target) -> InputError:
    """Why no compute reaches a loss: it lies below the floor, or below what the text can give."""
    fit, loss = judge.fit, target.loss
    shown = target.said if fit.origin.loss_unit else f"{loss:g}"
    if judge.unique is not None:
        least = digits.number(float(judge.surface.lowest_loss(float(MOST) / 100.0)))
        text = format_count(judge.unique)
        return InputError(
            f"{shown} is below {least}, the least that {text} unique tokens give by "
            f"{fit.law.name}: no compute reaches it",
            "ask for a higher loss, or get more text: --unique-tokens",
        )
    name = fit.law.floor
    if name is None or loss >= float(fit.law.coefficients()[name]):
        return InputError(
            f"by {fit.law.name} no compute up to {float(MOST):.0e} FLOPs reaches {target.said}",
            "ask for a higher loss, or try other laws: --law all",
        )
    ends = fit.interval(name) or (math.nan, math.nan)
    floor = digits.with_ends(fit.reads(name), *ends)
    return InputError(
        f"{shown} is below the floor {floor} of {fit.law.name}: by this law no compute reaches it"
        f"{_held_by_forecasts(judge, loss)}",
        "ask for a higher loss, or try other laws: --law all",
    )


def _held_by_forecasts(judge: Judge, loss: float) -> str:
    """That forecasts, which allow for a law that is wrong beyond the runs, hold it all the same."""
    if not len(judge.fit.replicates):
        return ""
    log_C = np.linspace(math.log(_LEAST_FLOPS), math.log(float(MOST)), _STEPS)
    with np.errstate(all="ignore"):
        first = _end(judge, loss, "low", log_C)
    if not math.isfinite(first):
        return ""
    return (
        f"; its {100 * judge.level:g}% forecasts, widened for what laws miss beyond their runs, "
        f"hold it from {first:.3g} FLOPs on"
    )
