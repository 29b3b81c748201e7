"""The loss of a law over N and D, and what its interval is made of, on a grid.

The interval of a forecast has a bend in it wherever runs end (see forecast/widths.py), across which
no interpolation is right. So the grid holds the plain interval, which is smooth, and next to it
stands by what the page widens that."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.forecast import misfit_scale, off_the_optimum
from llmscale.explain.forecast.widths import NEAR_WEIGHT, multipliers, public_needs
from llmscale.explain.laws import Array

_STEP = math.log(10.0) / 8.0
"""Of ln N and ln D. Cubics through points so far apart are within 1e-5 of a power law."""
_HORIZONS = 400
"""Between so many distances beyond the runs m is a straight line."""
_DIGITS = 8

Ends = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Values of ln N or ln D at equal steps."""

    first: float
    count: int

    @property
    def counts(self) -> Array:
        """N or D at the points of the axis."""
        return np.asarray(np.exp(self.first + _STEP * np.arange(self.count)))

    def to_json(self) -> dict[str, float]:
        return {"first": self.first, "step": _STEP, "count": self.count}


def axis_over(ends: Ends) -> Axis:
    """An axis over counts from one end to the other, with points to interpolate from beyond."""
    low, high = map(math.log, ends)
    return Axis(low - _STEP, math.ceil((high - low) / _STEP) + 4)


def loss_grid(
    fit: Fit, params: Ends, tokens: Ends, *, level: float, check: Tested | None
) -> dict[str, Any]:
    """The levels of the loss (ln L, or of a plain law L) over N and D, row by row of N, how far
    below and above them the plain interval of a new run ends, and by what that is widened. `check`
    as in `forecast`."""
    axes = {"params": axis_over(params), "tokens": axis_over(tokens)}
    N, D = np.meshgrid(axes["params"].counts, axes["tokens"].counts, indexing="ij")
    with np.errstate(all="ignore"):
        middle = np.asarray(fit.law.level_of(fit.loss(params=N, tokens=D)), dtype=float)
        low, high = fit.band(single_run=True, level=level, params=N, tokens=D)
        below, above = middle - fit.law.level_of(low), fit.law.level_of(high) - middle
        off = off_the_optimum(fit, {"params": N, "tokens": D}, N.shape)
    furthest = fit.reach.beyond(fit.law.inputs, [N, D]).max(initial=0.0)
    return {
        **{name: axis.to_json() for name, axis in axes.items()},
        "plain": bool(fit.law.plain),
        "level": numbers(middle),
        "below": numbers(below) if len(fit.replicates) else None,
        "above": numbers(above) if len(fit.replicates) else None,
        "off": numbers(off) if off.any() else None,
        "widening": _widening(fit, float(furthest), level, check),
    }


def numbers(values: Array) -> list[float | None]:
    """Numbers for JSON, None for one that is not finite."""
    return [float(f"{one:.{_DIGITS}g}") if math.isfinite(one) else None for one in values.ravel()]


def _widening(fit: Fit, furthest: float, level: float, check: Tested | None) -> dict[str, Any]:
    """What forecast/widths.py widens by: s, the reach of the runs, and m at distances h."""
    public = public_needs(fit.law)
    own = check.needs if check else None
    # Each distance by itself: of many at once `multipliers` takes some and draws lines between.
    h_X = np.linspace(0.0, furthest, _HORIZONS)
    found = [multipliers(public, own, np.array([h]), level) for h in h_X]
    return {
        "scale": misfit_scale(fit) if len(fit.replicates) else None,
        "near": NEAR_WEIGHT,
        "most": public.most if math.isfinite(public.most) else None,
        "ranges": {name: list(ends) for name, ends in fit.reach.ranges.items()},
        "largest": fit.reach.largest,
        "furthest": furthest,
        "below": numbers(np.array([below[0] for below, _ in found])),
        "above": numbers(np.array([above[0] for _, above in found])),
    }
