"""Axes of a law's coefficients: linear, or logarithmic if an amplitude spans decades."""

import math

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from llmscale.explain.figures._axes import log_axis, padded, set_axis

_DECADES = 8.0
"""A positive coefficient whose range spans this factor is drawn on a logarithmic axis."""


def spans_decades(low: float, high: float) -> bool:
    return bool(low > 0 and math.isfinite(high) and high / low > _DECADES)


def coefficient_axis(
    axis: Axis, low: float, high: float, *, logarithmic: bool, ticks: int = 4
) -> tuple[float, float]:
    """Set scale, limits and at most about `ticks` labels around [low, high]; return the limits."""
    if logarithmic:
        limits = padded(low, high, 0.06)
        if limits[0] >= 1e-2 and limits[1] < 1e5:
            log_axis(axis, limits)
        else:
            set_axis(axis, "log", limits)
            _decades(axis, limits, ticks)
        return limits
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    limits = (low - room, high + room)
    set_axis(axis, "linear", limits)
    axis.set_major_locator(MaxNLocator(ticks, min_n_ticks=2))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return limits


def _decades(axis: Axis, limits: tuple[float, float], most: int) -> None:
    """A label at every power of ten, or at every second, third, ..."""
    first, last = math.ceil(math.log10(limits[0]) - 1e-9), math.floor(math.log10(limits[1]) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    powers = np.arange(first, last + 1, step)
    axis.set_major_locator(FixedLocator([10.0 ** int(power) for power in powers]))
    axis.set_major_formatter(FixedFormatter([rf"$10^{{{power}}}$" for power in powers]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
