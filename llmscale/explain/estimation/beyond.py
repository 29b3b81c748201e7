"""Whether a law still says something a little beyond its runs: a loss, and one that falls."""

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import LETTERS, Array
from llmscale.quantity import format_count

TIMES_BEYOND = 10.0
"""Forecasts are asked for as far as each run with ten times its parameters and its tokens ..."""
_OF_ONE = 3.0
"""... or with this many times one of them, which leaves compute-optimal shapes sooner."""
_STEPS = 9
_ROUNDING = 1e-4
_RISE = 0.003
"""A loss that rises by a smaller share (of a plain law: by less) has about stopped to fall."""


def nonsense(fit: Fit) -> str | None:
    """What is wrong with the law up to ten times beyond each of its runs, at tokens a
    parameter that some run has, or None: no positive number, or in laws of only N, D or C a loss
    that rises."""
    law, names = fit.law, fit.law.inputs
    growing = [name for name in names if name in LETTERS]
    falls = set(names) <= set(LETTERS) and not law.rises
    ways = [[name] for name in growing]
    ways += [growing] if len(growing) > 1 else []
    for way in ways:
        at = _along(fit, way)
        with np.errstate(all="ignore"):
            loss_SR = np.asarray(law.loss(*at.values()), dtype=float)
        matters_SR = _at_known_ratios(fit, at)
        good_SR = np.isfinite(loss_SR) & (law.plain | (loss_SR > 0))
        if not good_SR[matters_SR].all():
            return f"its loss is no positive number within {TIMES_BEYOND:g} times the runs"
        with np.errstate(all="ignore"):
            level_SR = np.where(matters_SR, law.level_of(loss_SR), np.nan)
        rise_SR = np.nan_to_num(level_SR - np.fmin.accumulate(level_SR, axis=0))
        if falls and (rise_SR > _RISE).any():
            step, run = np.unravel_index(np.argmax(rise_SR), rise_SR.shape)
            letters = " and ".join(LETTERS[name] for name in way)
            where = ", ".join(
                f"{LETTERS[name]} = {format_count(values[step, run])}"
                for name, values in at.items()
            )
            return f"its loss rises with {letters} at {where}, within {TIMES_BEYOND:g} times a run"
    return None


def _along(fit: Fit, way: list[str]) -> dict[str, Array]:
    """The law's inputs (S, R) of every run with up to ten times of what `way` names."""
    alone = len(way) == 1 and {"params", "tokens"} <= set(fit.law.inputs)
    most = _OF_ONE if alone else TIMES_BEYOND
    factor_S1 = np.geomspace(1.0, most, _STEPS)[:, None]
    one_S1 = np.ones_like(factor_S1)
    inputs = zip(fit.law.inputs, fit.inputs, strict=True)
    return {name: values * (factor_S1 if name in way else one_S1) for name, values in inputs}


def _at_known_ratios(fit: Fit, at: dict[str, Array]) -> NDArray[np.bool_]:
    """Which points (S, R) have tokens a parameter within those of the runs."""
    if not {"params", "tokens"} <= set(at):
        return np.ones(next(iter(at.values())).shape, dtype=bool)
    ratio_SR = np.log(at["tokens"] / at["params"])
    low, high = ratio_SR[0].min() - _ROUNDING, ratio_SR[0].max() + _ROUNDING
    return np.asarray((ratio_SR >= low) & (ratio_SR <= high))
