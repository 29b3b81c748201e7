"""The loss of a law over N and D on a grid, and what its interval is made of.

The interval of a forecast has a bend in it wherever runs end (see forecast/widths.py), across which
no interpolation is right, and its ends are quantiles of refits, which have one wherever another
refit is the next. So the page is told of the refits themselves, which are smooth, and next to it
stands by what it widens their interval."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.forecast import off_the_optimum
from llmscale.explain.laws import Array
from llmscale.explain.page.refits import refits_over
from llmscale.explain.page.widening import numbers, widening

_STEP = math.log(10.0) / 8.0
"""Of ln N and ln D. Cubics through points so far apart are within 1e-5 of a power law."""
_STEP_OF_REFITS = math.log(10.0) / 4.0
"""How far refits are from the law needs fewer."""

Ends = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Values of ln N or ln D at equal steps."""

    first: float
    count: int
    step: float

    @property
    def counts(self) -> Array:
        """N or D at the points of the axis."""
        return np.asarray(np.exp(self.first + self.step * np.arange(self.count)))

    def to_json(self) -> dict[str, float]:
        return {"first": self.first, "step": self.step, "count": self.count}


def axis_over(ends: Ends, step: float = _STEP) -> Axis:
    """An axis over counts from one end to the other, with points to interpolate from beyond."""
    low, high = map(math.log, ends)
    return Axis(low - step, math.ceil((high - low) / step) + 4, step)


def loss_grid(
    fit: Fit, params: Ends, tokens: Ends, *, level: float, check: Tested | None
) -> dict[str, Any]:
    """The levels of the loss (ln L, or of a plain law L) over N and D, row by row of N, the refits
    of the law over the same N and D, and by what an interval is widened. `check` as in
    `forecast`."""
    axes = {"params": axis_over(params), "tokens": axis_over(tokens)}
    N, D = _over(axes)
    with np.errstate(all="ignore"):
        middle = np.asarray(fit.law.level_of(fit.loss(params=N, tokens=D)), dtype=float)
        off = off_the_optimum(fit, {"params": N, "tokens": D}, N.shape)
    furthest = fit.reach.beyond(fit.law.inputs, [N, D]).max(initial=0.0)
    return {
        **{name: axis.to_json() for name, axis in axes.items()},
        "plain": bool(fit.law.plain),
        "level": numbers(middle),
        "refits": _refits(fit, params, tokens),
        "off": numbers(off) if off.any() else None,
        "widening": widening(fit, float(furthest), level, check),
    }


def _refits(fit: Fit, params: Ends, tokens: Ends) -> dict[str, Any] | None:
    """How far the refits are from the law, on a grid of their own; None if there are none."""
    if not len(fit.replicates):
        return None
    axes = {
        "params": axis_over(params, _STEP_OF_REFITS),
        "tokens": axis_over(tokens, _STEP_OF_REFITS),
    }
    N, D = _over(axes)
    told = refits_over(fit, N.ravel(), D.ravel())
    if told is None:
        return None
    return {**{name: axis.to_json() for name, axis in axes.items()}, **told}


def _over(axes: dict[str, Axis]) -> tuple[Array, Array]:
    """N and D at all points of two axes, row by row of N."""
    N, D = np.meshgrid(axes["params"].counts, axes["tokens"].counts, indexing="ij")
    return N, D
