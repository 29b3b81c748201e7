"""The figure of the next runs: where they lie in N and D beside the runs there are and the target,
and what the interval of the forecast is expected to become."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmscale.explain import digits
from llmscale.explain.design.proposal import NextRuns
from llmscale.explain.figures import Drawing, Evidence
from llmscale.explain.figures._axes import LABELS, fixed_ticks, log_axis, padded, spaced_ticks
from llmscale.explain.figures._runs import label, legend_below, loss_label, power_text
from llmscale.explain.figures._style import ALARM, DASHES, LAW_COLOURS, MUTED, style
from llmscale.explain.laws import Array

WIDTH_INCHES = 6.2
_HEIGHT = 0.5
"""Of the width."""
_NEW = LAW_COLOURS[1]
_MARK = 7.0
_POINTS = 100
_MARGINS = (0.14, 0.06)
"""Of each axis, next to whose ends no budget is named."""
_APART = 0.08
"""Of the axes, how far the name of a budget is from every point, at least; else it is left out."""
_LABELS = 6
"""Runs that there is room to label."""


def draw(found: NextRuns, width: float = WIDTH_INCHES) -> Drawing:
    """`width` in inches."""
    assert found.forecast.fit is not None
    runs = found.forecast.fit.table
    with style():
        figure = Figure(figsize=(width, _HEIGHT * width))
        plane, interval = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
        _draw_plane(plane, found)
        _draw_intervals(interval, found)
        legend_below(figure, list(_entries(found)), 2)
    return Drawing(figure, n_runs=runs.runs, kind="next")


def _draw_plane(ax: Axes, found: NextRuns) -> None:
    fit = found.forecast.fit
    assert fit is not None
    N, D = (fit.table.frame[name].to_numpy(dtype=float) for name in ("params", "tokens"))
    target = float(found.forecast.params), float(found.forecast.tokens)
    new_N = np.array([run.params for run in found.runs])
    new_D = np.array([run.tokens for run in found.runs])
    x = padded(min(N.min(), *new_N, target[0]), max(N.max(), *new_N, target[0]), 0.06)
    y = padded(min(D.min(), *new_D, target[1]), max(D.max(), *new_D, target[1]), 0.06)
    budgets = np.geomspace(6 * x[0] * y[0], 6 * x[1] * y[1], _POINTS)
    best = fit.law.optimal(budgets)
    if best is not None:
        ax.plot(best[0], best[1], color=LAW_COLOURS[0], lw=1.0, zorder=2)
    ax.plot(N, D, "o", color=MUTED, ms=2.6, mew=0, alpha=0.7, zorder=3)
    ax.plot(new_N, new_D, "o", color=_NEW, ms=_MARK, mew=0, zorder=4)
    for place, at in _places(found):
        is_short = len(place) <= 2
        ax.annotate(
            place, at, (0, -0.3) if is_short else (4, 4), textcoords="offset points", zorder=6,
            ha="center" if is_short else "left", va="center_baseline", fontsize=5.5,
        )  # fmt: skip
    ax.plot(*target, "*", color=ALARM, ms=9, mew=0, zorder=5)
    log_axis(ax.xaxis, x)
    log_axis(ax.yaxis, y)
    points = np.log([[*N, *new_N, target[0]], [*D, *new_D, target[1]]])
    if best is not None:
        points = np.hstack([points, np.log(best)])
    _draw_budget(ax, found.target_flops, np.log(x), np.log(y))  # which the legend names
    _draw_budget(ax, _largest(found), np.log(x), np.log(y), points)
    ax.set_xlabel(label(Evidence(fit.table), "params"))
    ax.set_ylabel(LABELS["tokens"])


def _largest(found: NextRuns) -> float:
    """FLOPs of the largest run there is, as 6ND."""
    assert found.forecast.fit is not None
    frame = found.forecast.fit.table.frame
    return float((6.0 * frame["params"] * frame["tokens"]).max())


def _places(found: NextRuns) -> list[tuple[str, tuple[float, float]]]:
    """Which runs lie at each point, as `1` or `1, 4`."""
    at: dict[tuple[float, float], list[str]] = {}
    for place, run in enumerate(found.runs, 1):
        at.setdefault((run.params, run.tokens), []).append(str(place))
    return [(",".join(places), point) for point, places in at.items()]


def _draw_budget(ax: Axes, budget: float, x: Array, y: Array, points: Array | None = None) -> None:
    """A line of equal budget, with its FLOPs on it as far from the `points` (2, K) as can be, if
    there are any; `x` and `y` are the limits of the axes, and all of them logarithms."""
    low, high = max(x[0], np.log(budget / 6.0) - y[1]), min(x[1], np.log(budget / 6.0) - y[0])
    if low >= high:
        return
    along = np.linspace(low, high, _POINTS)
    line = np.stack([along, np.log(budget / 6.0) - along])
    ax.plot(*np.exp(line), color=MUTED, lw=0.6, ls=DASHES, zorder=1)
    if points is None:
        return
    size = np.array([x[1] - x[0], y[1] - y[0]])[:, None]
    inside = (line - np.array([x[0], y[0]])[:, None]) / size
    margin = np.array(_MARGINS)[:, None]
    room = np.all((inside > margin) & (inside < 1.0 - margin), axis=0)
    apart = (line[:, :, None] - points[:, None, :]) / size[:, :, None]
    distance = np.where(room, np.hypot(*apart).min(axis=1), 0.0)
    if distance.max() < _APART:
        return
    at = np.exp(line[:, int(np.argmax(distance))])
    ax.annotate(
        f"{power_text(budget)} FLOPs", (at[0], at[1]), ha="center", va="center", fontsize=6,
        color=MUTED, zorder=2, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )  # fmt: skip


def _draw_intervals(ax: Axes, found: NextRuns) -> None:
    """The interval as things stand, and after each run and those before it, against FLOPs spent."""
    fit = found.forecast.fit
    assert fit is not None
    rows = [(0.0, *found.before), *((run.flops, run.low, run.high) for run in found.runs)]
    spent = np.cumsum([flops for flops, _, _ in rows])
    for place, (_, low, high) in enumerate(rows):
        colour = MUTED if place == 0 else _NEW
        ax.plot([place, place], [low, high], color=colour, lw=4.5, solid_capstyle="butt", zorder=3)
    ax.axhline(found.loss, color=LAW_COLOURS[0], lw=0.8, zorder=2)
    ax.axhspan(*found.before, color=MUTED, alpha=0.12, lw=0, zorder=0)
    ax.set_xticks(*_ticks(spent, found.budget))
    ax.set_xlim(-0.6, len(rows) - 0.4)
    low = min(row[1] for row in rows)
    high = max(row[2] for row in rows)
    margin = 0.08 * (high - low)
    ax.set_ylim(low - margin, high + margin)
    fixed_ticks(ax.yaxis, spaced_ticks(low - margin, high + margin, place=lambda loss: loss))
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("After run; share of the budget spent" if found.runs else "No run is proposed")
    level = f"{100 * found.forecast.level:g}% interval"
    ax.set_ylabel(f"{loss_label(Evidence(fit.table))} at the target,\n{level}")


def _ticks(spent: Array, budget: float) -> tuple[list[int], list[str]]:
    """Which runs are labelled, not more than there is room for and the last one, and how."""
    last = len(spent) - 1
    step = -(-last // _LABELS) if last else 1
    places = [0, *sorted(range(last, 0, -step))]
    labels = ["now", *(f"{one}\n{digits.share(spent[one] / budget)}" for one in places[1:])]
    return places, labels


def _entries(found: NextRuns) -> Iterator[tuple[Line2D, str]]:
    def mark(**look: Any) -> Line2D:
        return Line2D([], [], **look)

    yield mark(marker="o", ls="", color=MUTED, ms=2.6, mew=0), "runs there are"
    if found.runs:
        yield mark(marker="o", ls="", color=_NEW, ms=_MARK, mew=0), "runs to make"
    yield (
        mark(marker="*", ls="", color=ALARM, ms=8, mew=0),
        f"target: {power_text(found.target_flops)} FLOPs",
    )
    text = "the law: best split of a budget, and its forecast"
    yield mark(color=LAW_COLOURS[0], lw=1.0), text
