"""By what the page widens the interval of a new run beyond the runs, as forecast/widths.py does."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.forecast import misfit_scale
from llmscale.explain.forecast.widths import NEAR_WEIGHT, growth, multipliers, public_needs
from llmscale.explain.laws import Array

_HORIZONS = 200
"""Distances beyond the runs at which m is told at the least."""
_OFF = 2e-5
"""By how much of ln L a straight line of m between two distances may be off."""
_LEAST_STEP = 1e-4
"""Between distances: m nearly jumps if another held-out run comes to be the one that decides."""
_DIGITS = 8

Row = tuple[float, float, float]
"""h, and m below and above."""


def widening(fit: Fit, furthest: float, level: float, check: Tested | None) -> dict[str, Any]:
    """What forecast/widths.py widens by: s, the reach of the runs, and m at distances h up to the
    furthest."""
    public = public_needs(fit.law)
    own = check.needs if check else None
    scale = misfit_scale(fit)

    def widest(h: float) -> Row:
        """m at one distance: of many at once `multipliers` takes some and draws lines between."""
        below, above = multipliers(public, own, np.array([h]), level)
        return h, float(below[0]), float(above[0])

    rows = np.array(_bends(list(map(widest, np.linspace(0.0, furthest, _HORIZONS))), widest, scale))
    return {
        "scale": scale if len(fit.replicates) else None,
        "near": NEAR_WEIGHT,
        "most": public.most if math.isfinite(public.most) else None,
        "ranges": {name: list(ends) for name, ends in fit.reach.ranges.items()},
        "largest": fit.reach.largest,
        "tail": 0.5 * (1.0 - level),
        "at": numbers(rows[:, 0]),
        "below": numbers(rows[:, 1]),
        "above": numbers(rows[:, 2]),
    }


def _bends(rows: list[Row], widest: Callable[[float], Row], scale: float) -> list[Row]:
    """The rows with others between them wherever m is no straight line."""
    pieces = list(itertools.pairwise(rows))
    while pieces:
        left, right = pieces.pop()
        middle = widest(0.5 * (left[0] + right[0]))
        allowed = _OFF / max(scale * float(growth(np.asarray(middle[0]))), 1e-300)
        off = max(abs(middle[side] - 0.5 * (left[side] + right[side])) for side in (1, 2))
        if off > allowed and right[0] - left[0] > _LEAST_STEP:
            rows.append(middle)
            pieces += [(left, middle), (middle, right)]
    return sorted(rows)


def numbers(values: Array) -> list[float | None]:
    """Numbers for JSON, None for one that is not finite."""
    return [float(f"{one:.{_DIGITS}g}") if math.isfinite(one) else None for one in values.ravel()]
