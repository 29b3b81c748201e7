"""The figure of a comparison: the laws of recipes through their runs, and below them the multiplier
of compute, with bands."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmscale.explain.figures import Drawing
from llmscale.explain.figures._axes import (
    LABELS,
    fixed_ticks,
    log_axis,
    log_loss_axis,
    padded,
    set_axis,
    spaced_ticks,
)
from llmscale.explain.figures._runs import legend_below, power_text
from llmscale.explain.figures._style import DASHES, LAW_COLOURS, MUTED, Look, ordered_colours, style
from llmscale.explain.figures._text import literal, with_mathematics
from llmscale.explain.laws import Array
from llmscale.explain.recipes.comparison import RecipeComparison
from llmscale.explain.recipes.joined import LADDER, RECIPE
from llmscale.explain.recipes.multiplier import possessive

WIDTH_INCHES = 4.6
_HEIGHT = 1.05
"""Of the width."""
_BUDGETS = 160
_BEYOND = 10.0
"""The laws go so far beyond the runs, or as far as is asked for."""
_MOST, _LEAST = 8.0, 0.125
"""Of multipliers that are drawn,"""
_MOST_TODAY, _LEAST_TODAY = 1e4, 1e-4
"""and of those at today's scale."""
_SHORT, _LONGEST = 16, 18
"""Letters of a recipe's name next to an axis, and in the legend."""
_NEAR_ONE = 0.15
"""Labels so near to that of 1 would lie on it."""
_BIT_LABEL = "Bits per byte"


def draw(found: RecipeComparison, width: float = WIDTH_INCHES, title: str | None = None) -> Drawing:
    """`width` in inches."""
    low = min(first for first, _ in found.joined.reaches.values())
    high = max(last for _, last in found.joined.reaches.values())
    high = max(high, found.today * _BEYOND, *found.scales)
    limits = padded(low, high, 0.03)
    log_C = np.linspace(math.log(limits[0]), math.log(limits[1]), _BUDGETS)
    with style():
        figure = Figure(figsize=(width, _HEIGHT * width))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1.0))
        _laws(above, found, log_C)
        _multipliers(below, found, log_C)
        log_axis(below.xaxis, limits, powers=True)
        below.set_xlabel(LABELS["flops"])
        for ax in (above, below):
            ax.axvline(found.today, color=MUTED, lw=0.7, ls=DASHES, zorder=1)
        legend_below(figure, _entries(found), 1)
        if title:
            figure.suptitle(with_mathematics(title))
    return Drawing(figure, n_runs=len(found.joined.frame), kind="recipes")


def _colours(found: RecipeComparison) -> list[object]:
    number = len(found.names)
    return list(LAW_COLOURS if number <= len(LAW_COLOURS) else ordered_colours(number))


def _laws(ax: Axes, found: RecipeComparison, log_C: Array) -> None:
    """The runs of every recipe, and its law: dashed beyond the largest of them."""
    loss_BRX = found.frontiers.loss(log_C)
    tail = 0.5 - 0.5 * found.level
    low_RX, middle_RX, high_RX = np.quantile(loss_BRX, [tail, 0.5, 1.0 - tail], axis=0)
    frame = found.joined.frame
    for place, (name, colour) in enumerate(zip(found.names, _colours(found), strict=False)):
        look: Look = {"color": colour, "zorder": 3}
        C, inside = np.exp(log_C), np.exp(log_C) <= found.joined.reaches[name][1]
        ax.fill_between(C, low_RX[place], high_RX[place], alpha=0.18, lw=0, **look)
        ax.plot(C[inside], middle_RX[place][inside], lw=1.1, **look)
        ax.plot(C[~inside], middle_RX[place][~inside], lw=1.1, ls=DASHES, **look)
        runs = frame[frame[RECIPE] == name]
        ax.plot(runs["flops"], runs["loss"], "o", ms=2.8, mew=0, alpha=0.8, **look)
    least = min(float(frame["loss"].min()), float(middle_RX.min()))
    most = max(float(frame["loss"].max()), float(middle_RX[:, 0].max()))
    in_nats = found.metric == "loss"
    log_loss_axis(ax, padded(least, most, 0.06), most=6, perplexity=in_nats)
    ax.set_ylabel(LABELS["loss"] if in_nats else _BIT_LABEL)


def _multipliers(ax: Axes, found: RecipeComparison, log_C: Array) -> None:
    """The multiplier of each recipe but the baseline, with its band and where its law crosses."""
    tail = 0.5 - 0.5 * found.level
    lows, highs, shown = [1.0], [1.0], [1.0]
    colours = _colours(found)
    for place in range(1, len(found.names)):
        drawn = np.sort(found.frontiers.log_multiplier(place, 0, log_C), axis=0)
        places = np.round(np.array([tail, 0.5, 1.0 - tail]) * (len(drawn) - 1)).astype(int)
        low, middle, high = np.clip(np.exp(drawn[places]), 1e-6, 1e6)
        look: Look = {"color": colours[place], "zorder": 3}
        C, inside = np.exp(log_C), np.exp(log_C) <= found.today
        ax.fill_between(C, low, high, alpha=0.18, lw=0, **look)
        ax.plot(C[inside], middle[inside], lw=1.1, **look)
        ax.plot(C[~inside], middle[~inside], lw=1.1, ls=DASHES, **look)
        lows.append(float(low.min()))
        highs.append(float(high.max()))
        one = next(one for one in found.at() if one.recipe == found.names[place])
        if math.isfinite(one.value):
            ends = [[one.value - one.low], [min(one.high, 1e6) - one.value]]
            ax.errorbar([one.flops], [one.value], ends, fmt="o", ms=3.2, lw=0.9, **look)
            shown += [max(one.low, _LEAST_TODAY), min(one.high, _MOST_TODAY)]
    for crossing, colour in zip(found.crossings, colours[1:], strict=False):
        if crossing.claimed_at_all:
            mark: Look = {"color": colour, "mfc": "white", "ms": 4.0, "zorder": 4}
            ax.plot([crossing.low, crossing.high], [1.0, 1.0], lw=1.6, **mark)
            ax.plot([crossing.flops], [1.0], "D", **mark)
    ax.axhline(1.0, color=MUTED, lw=0.8, zorder=1)
    low_end = min(max(min(lows), _LEAST), *shown)
    limits = padded(low_end, max(min(max(highs), _MOST), *shown), 0.06)
    set_axis(ax.yaxis, "log", limits)
    others = [tick for tick in spaced_ticks(*limits, most=6) if abs(math.log(tick)) > _NEAR_ONE]
    fixed_ticks(ax.yaxis, sorted([*others, 1.0]))
    whose = "the baseline's"
    if len(found.baseline) <= _SHORT:
        whose = literal(possessive(found.baseline))
    ax.set_ylabel(f"Compute for {whose} loss")


def _entries(found: RecipeComparison) -> list[tuple[Line2D, str]]:
    entries = []
    today, baseline = power_text(found.today), possessive(_name(found.baseline))
    for place, (name, colour) in enumerate(zip(found.names, _colours(found), strict=False)):
        look: Look = {"color": colour, "marker": "o", "ms": 2.8, "mew": 0, "lw": 1.1}
        text = f"{_name(name)}, the baseline"
        if place:
            one = next(one for one in found.at() if one.recipe == name)
            text = f"{_name(name)}: {one.shown} of {baseline} compute at {today} FLOPs"
        entries.append((Line2D([], [], **look), text))
    if any(one.claimed_at_all for one in found.crossings):
        look = {"color": MUTED, "mfc": "white", "marker": "D", "ms": 4.0, "lw": 1.6}
        entries.append((Line2D([], [], **look), "where the laws cross"))
    line = Line2D([], [], color=MUTED, lw=0.7, ls=DASHES)
    split = "" if found.joined.law == LADDER else "; laws: at the best split"
    level = f"bands: {100 * found.level:g}%{split}"
    entries.append((line, f"the largest compute that all have; {level}"))
    return entries


def _name(name: str) -> str:
    """The name of a recipe; of a long one its beginning and its end."""
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[len(name) - _LONGEST // 2 + 1 :]}"
    return literal(name)
