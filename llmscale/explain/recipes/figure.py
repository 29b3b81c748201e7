"""The figure of a comparison: the laws of recipes through their runs, and below them the multiplier
of compute, with bands."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from numpy.typing import NDArray

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
from llmscale.explain.figures._runs import power_text
from llmscale.explain.figures._style import ALARM, DASHES, INK, LAW_COLOURS, MUTED, Look, style
from llmscale.explain.figures._text import literal, with_mathematics
from llmscale.explain.laws import Array
from llmscale.explain.recipes.comparison import RecipeComparison
from llmscale.explain.recipes.joined import RECIPE
from llmscale.explain.recipes.multiplier import Multiplier

WIDTH_INCHES = 5.2
_HEIGHT = 0.95
"""Of the width,"""
_LEGEND_ROW = 0.13
"""and so many inches for each row of the legend beyond the third."""
_BUDGETS = 160
_BEYOND = 10.0
"""The laws go so far beyond the runs, or as far as is asked for."""
_MOST, _LEAST = 8.0, 0.125
"""Of multipliers that are drawn,"""
_MOST_ASKED, _LEAST_ASKED = 1e4, 1e-4
"""and of those at today's scale and at others that were asked for."""
_LEAST_OF_BAND = 0.5
"""Of the lowest loss: bands may reach lower."""
_LONGEST = 20
"""Letters of a recipe's name."""
_APART = 0.011
"""Of the axis, between intervals at one budget."""
_FEW = 3
"""Recipes below each other in the legend; more stand in two columns."""
_COLOURS = (*LAW_COLOURS, ALARM, "#56B4E9")
_MARKERS = ("o", "s")
"""Of the first recipes, and of those that take the same colours again."""
_TICKS = (
    1,
    2,
    0.5,
    5,
    0.2,
    10,
    0.1,
    3,
    0.3,
    1.5,
    0.7,
    1.2,
    0.8,
    0.6,
    0.9,
    1.1,
    1.05,
    0.95,
    1.02,
    0.98,
)
"""Of multipliers, those first that are labelled if there is room."""
_TICK_GAP = 0.11
"""Of the axis, between labels."""
_BIT_LABEL = "Bits per byte"


def draw(found: RecipeComparison, width: float = WIDTH_INCHES, title: str | None = None) -> Drawing:
    """`width` in inches."""
    low = min(first for first, _ in found.joined.reaches.values())
    high = max(last for _, last in found.joined.reaches.values())
    high = max(high, found.today * _BEYOND, *found.scales)
    limits = padded(low, high, 0.03)
    log_C = np.linspace(math.log(limits[0]), math.log(limits[1]), _BUDGETS)
    with style():
        rows = math.ceil(len(found.names) / _columns(found))
        height = _HEIGHT * width + _LEGEND_ROW * max(rows - _FEW, 0)
        figure = Figure(figsize=(width, height))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1.0))
        _laws(above, found, log_C)
        _multipliers(below, found, log_C)
        log_axis(below.xaxis, limits, powers=True)
        below.set_xlabel(LABELS["flops"])
        for ax in (above, below):
            ax.axvline(found.today, color=MUTED, lw=0.7, ls=DASHES, zorder=1)
        _legend(figure, found)
        if title:
            figure.suptitle(with_mathematics(title))
    return Drawing(figure, n_runs=len(found.joined.frame), kind="recipes")


def _looks(found: RecipeComparison) -> list[Look]:
    """A colour and a marker for each recipe: ink for the baseline."""
    others = [{"color": colour, "marker": one} for one in _MARKERS for colour in _COLOURS]
    looks: list[Look] = [{"color": INK, "marker": "o"}, *others]
    return looks[: len(found.names)]


def _laws(ax: Axes, found: RecipeComparison, log_C: Array) -> None:
    """The runs of every recipe, and its law: dashed beyond the largest of them."""
    loss_BRX = found.frontiers.loss(log_C)
    low_RX, middle_RX, high_RX = np.quantile(loss_BRX, _tails(found), axis=0)
    frame, C = found.joined.frame, np.exp(log_C)
    for place, (name, look) in enumerate(zip(found.names, _looks(found), strict=True)):
        inside = found.joined.reaches[name][1] >= C
        _line(ax, C, (low_RX[place], middle_RX[place], high_RX[place]), inside, look["color"])
        runs = frame[frame[RECIPE] == name]
        ax.plot(runs["flops"], runs["loss"], ls="", ms=2.8, mew=0, alpha=0.8, zorder=4, **look)
    lowest = max(float(low_RX.min()), _LEAST_OF_BAND * float(middle_RX.min()))
    least = min(float(frame["loss"].min()), lowest)
    most = max(float(frame["loss"].max()), float(middle_RX[:, 0].max()))
    in_nats = found.metric == "loss"
    log_loss_axis(ax, padded(least, most, 0.06), most=6, perplexity=in_nats)
    ax.set_ylabel(LABELS["loss"] if in_nats else _BIT_LABEL)


def _multipliers(ax: Axes, found: RecipeComparison, log_C: Array) -> None:
    """The multiplier of each recipe but the baseline, with its band and where its law crosses."""
    ends, shown = [1.0], [1.0]
    looks, C = dict(zip(found.names, _looks(found), strict=True)), np.exp(log_C)
    for place, name in enumerate(found.names[1:], start=1):
        drawn = np.sort(found.frontiers.log_multiplier(place, 0, log_C), axis=0)
        places = np.round(np.array(_tails(found)) * (len(drawn) - 1)).astype(int)
        low, middle, high = np.clip(np.exp(drawn[places]), 1e-6, 1e6)
        _line(ax, C, (low, middle, high), found.today >= C, looks[name]["color"])
        ends += [float(low.min()), float(high.max())]
    length = math.log(C[-1] / C[0])
    for flops in found.scales:
        shown += _bars(ax, found.at(flops), looks, length)
    for crossing in found.crossings:
        if crossing.claimed_at_all:
            mark: Look = {"color": looks[crossing.recipe]["color"], "mfc": "white", "zorder": 6}
            ax.plot([crossing.low, crossing.high], [1.0, 1.0], lw=1.6, **mark)
            ax.plot([crossing.flops], [1.0], "D", ms=4.0, **mark)
    ax.axhline(1.0, color=INK, lw=1.0, zorder=2)
    low_end, high_end = max(min(ends), _LEAST), min(max(ends), _MOST)
    limits = padded(min(low_end, *shown), max(high_end, *shown), 0.06)
    set_axis(ax.yaxis, "log", limits)
    fixed_ticks(ax.yaxis, _ticks(*limits))
    ax.set_ylabel("Compute multiplier")


def _bars(
    ax: Axes, found: Sequence[Multiplier], looks: Mapping[str, Look], length: float
) -> list[float]:
    """The multipliers at one budget with their intervals, side by side, and where these end."""
    shown = []
    for place, one in enumerate(found):
        if math.isfinite(one.value):
            aside = math.exp(_APART * length * (place - 0.5 * (len(found) - 1)))
            bars = [[one.value - one.low], [min(one.high, 1e6) - one.value]]
            look: Look = {"ls": "", "ms": 3.4, "lw": 1.1, "zorder": 5, **looks[one.recipe]}
            ax.errorbar([aside * one.flops], [one.value], bars, elinewidth=1.1, **look)
            shown += [max(one.low, _LEAST_ASKED), min(one.high, _MOST_ASKED)]
    return shown


def _line(
    ax: Axes, C: Array, band: tuple[Array, Array, Array], inside: NDArray[np.bool_], colour: str
) -> None:
    """The middle of a band, dashed beyond the runs."""
    low, middle, high = band
    ax.fill_between(C, low, high, alpha=0.15, lw=0, color=colour, zorder=3)
    ax.plot(C[inside], middle[inside], lw=1.1, color=colour, zorder=3)
    ax.plot(C[~inside], middle[~inside], lw=1.1, ls=DASHES, color=colour, zorder=3)


def _tails(found: RecipeComparison) -> list[float]:
    return [0.5 - 0.5 * found.level, 0.5, 0.5 + 0.5 * found.level]


def _ticks(low: float, high: float) -> list[float]:
    """Round multipliers, 1 first, as many as have room."""
    if high / low > _MOST / _LEAST:
        return sorted({1.0, *spaced_ticks(low, high)})
    chosen: list[float] = []
    for tick in _TICKS:
        far = all(abs(math.log(tick / one)) > _TICK_GAP * math.log(high / low) for one in chosen)
        if far and low <= tick <= high:
            chosen.append(float(tick))
    return sorted(chosen)


def _columns(found: RecipeComparison) -> int:
    return 1 if len(found.names) <= _FEW else 2


def _legend(figure: Figure, found: RecipeComparison) -> None:
    """The multipliers at the largest compute that all have, best first, below the axes."""
    handles, texts = zip(*_entries(found), strict=True)
    legend: Legend = figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=_columns(found),
        title=f"Compute for the loss of {_name(found.baseline)} at {power_text(found.today)} "
        f"FLOPs (dashed line), {100 * found.level:g}% intervals",
    )
    legend.get_title().set_multialignment("center")


def _entries(found: RecipeComparison) -> list[tuple[Line2D, str]]:
    looks = dict(zip(found.names, _looks(found), strict=True))
    multipliers = {name: shown for name, shown, *_ in found.rows(found.today)}
    entries = []
    for name, shown in multipliers.items():
        line = Line2D([], [], ms=2.8, mew=0, lw=1.1, **looks[name])
        what = "1, the baseline" if name == found.baseline else shown
        entries.append((line, f"{_name(name)}: {what}"))
    if any(one.claimed_at_all for one in found.crossings):
        mark: Look = {"color": MUTED, "mfc": "white", "marker": "D", "ms": 4.0, "lw": 1.6}
        entries.append((Line2D([], [], **mark), "where the laws cross"))
    return entries


def _name(name: str) -> str:
    """The name of a recipe; of a long one its beginning and its end."""
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[len(name) - _LONGEST // 2 + 1 :]}"
    return literal(name)
