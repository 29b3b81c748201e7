"""Which runs share a compute budget: equal FLOPs, or clusters if FLOPs were measured."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, counted
from llmscale.explain.estimation.levels import levels
from llmscale.explain.laws import Array

LEAST_SIZES = 3
"""A parabola has three coefficients."""
_TOLERANCES = (0.03, 0.1, 0.2, 0.3)
"""Largest over smallest FLOPs of a budget, less one; the first that groups enough is taken."""
_ENOUGH = 0.8
_LEAST = 0.5
_SHARE = 1 / 3
"""Beyond 3% a budget needs this share of the runs of the fullest: chance may put 4 together."""


def group(frame: pd.DataFrame) -> NDArray[np.int_]:
    """The index of each run's budget, smallest first; -1 for no budget with two other sizes.
    Raises InputError if under half of the runs, or fewer than two budgets, come together."""
    log_flops = np.log(frame["flops"].to_numpy())
    size = levels(frame["params"].to_numpy())
    best = np.full(len(frame), -1)
    for tolerance in _TOLERANCES:
        share = 0.0 if tolerance == _TOLERANCES[0] else _SHARE
        index = _cluster(log_flops, size, np.log1p(tolerance), share)
        if (index >= 0).sum() > (best >= 0).sum():
            best = index
        if (best >= 0).mean() >= _ENOUGH and best.max() >= 1:
            break
    grouped, number = int((best >= 0).sum()), int(best.max()) + 1
    if grouped < _LEAST * len(frame) or number < 2:
        raise InputError(
            f"isoflop needs runs in groups of equal FLOPs: of {len(frame)} runs {grouped} fall "
            f"into {counted(number, 'budget')} of at least {LEAST_SIZES} sizes whose FLOPs are "
            f"within {100 * _TOLERANCES[-1]:.0f}% of each other",
            "train 5 sizes or more at each of 3 budgets or more, from a third to three times the "
            "expected optimum; or, for any N and D: llmscale fit TABLE --method parametric",
        )
    return best


def _cluster(
    log_flops: Array, size: NDArray[np.int_], width: float, share: float
) -> NDArray[np.int_]:
    """Windows of that width, fullest first, apart, each with enough sizes; numbered by FLOPs."""
    free = np.ones(len(log_flops), dtype=bool)
    found: list[NDArray[np.int_]] = []
    while (chosen := _fullest(log_flops, size, free, width)) is not None:
        if found and len(chosen) < share * len(found[0]):
            break
        found.append(chosen)
        free[chosen] = False
    index = np.full(len(log_flops), -1)
    found.sort(key=lambda rows: float(np.median(log_flops[rows])))
    for number, chosen in enumerate(found):
        index[chosen] = number
    return index


def _fullest(
    log_flops: Array, size: NDArray[np.int_], free: NDArray[np.bool_], width: float
) -> NDArray[np.int_] | None:
    """The free runs of the fullest window that has enough sizes and no taken run inside."""
    rows = np.flatnonzero(free)
    rows = rows[np.argsort(log_flops[rows], kind="stable")]
    x, taken = log_flops[rows], np.sort(np.append(log_flops[~free], np.inf))
    # A hair of slack keeps together equal FLOPs that were computed in different ways.
    reach = np.minimum(x + width + 1e-9, taken[np.searchsorted(taken, x, side="right")])
    counts = np.searchsorted(x, reach, side="right") - np.arange(len(x))
    for start in np.argsort(-counts, kind="stable"):
        chosen = rows[start : start + counts[start]]
        if len(chosen) < LEAST_SIZES:
            return None
        if len(np.unique(size[chosen])) >= LEAST_SIZES:
            return np.asarray(chosen)
    return None
