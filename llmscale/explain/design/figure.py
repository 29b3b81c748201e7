"""The figure of the next runs: where they lie in N and D beside the runs there are and the target,
and what the interval of the forecast is expected to become."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmscale.explain.design.proposal import NextRuns
from llmscale.explain.figures import Drawing
from llmscale.explain.figures._axes import LABELS, fixed_ticks, log_axis, padded, spaced_ticks
from llmscale.explain.figures._runs import legend_below, power_text
from llmscale.explain.figures._style import ALARM, DASHES, LAW_COLOURS, MUTED, style

WIDTH_INCHES = 6.2
_HEIGHT = 0.5
"""Of the width."""
_NEW = LAW_COLOURS[1]
_POINTS = 100


def draw(found: NextRuns, width: float = WIDTH_INCHES) -> Drawing:
    """`width` in inches."""
    assert found.forecast.fit is not None
    runs = found.forecast.fit.table
    with style():
        figure = Figure(figsize=(width, _HEIGHT * width))
        plane, interval = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
        _draw_plane(plane, found)
        _draw_intervals(interval, found)
        legend_below(figure, _entries(), 2)
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
    for budget in ((6.0 * N * D).max(), 6.0 * target[0] * target[1]):
        along = np.geomspace(*x, 2)
        ax.plot(along, budget / 6.0 / along, color=MUTED, lw=0.6, ls=DASHES, zorder=1)
        _name_budget(ax, budget, x, y)
    ax.plot(N, D, "o", color=MUTED, ms=2.6, mew=0, alpha=0.7, zorder=3)
    ax.plot(new_N, new_D, "o", color=_NEW, ms=6.5, mew=0, zorder=4)
    for place, at in _places(found):
        ax.annotate(place, at, ha="center", va="center", fontsize=5.5, zorder=5)
    ax.plot(*target, "*", color=ALARM, ms=9, mew=0, zorder=4)
    log_axis(ax.xaxis, x)
    log_axis(ax.yaxis, y)
    ax.set_xlabel(LABELS[fit.origin.count])
    ax.set_ylabel(LABELS["tokens"])


def _places(found: NextRuns) -> list[tuple[str, tuple[float, float]]]:
    """Which runs lie at each point, as `1` or `1, 4`."""
    at: dict[tuple[float, float], list[str]] = {}
    for place, run in enumerate(found.runs, 1):
        at.setdefault((run.params, run.tokens), []).append(str(place))
    return [(",".join(places), point) for point, places in at.items()]


def _name_budget(ax: Axes, budget: float, x: tuple[float, float], y: tuple[float, float]) -> None:
    """The FLOPs of a line of equal budget, at its upper end."""
    left = max(x[0], budget / 6.0 / y[1])
    high = budget / 6.0 / left
    if not y[0] <= high <= y[1] * 1.01:
        return
    ax.annotate(
        power_text(budget), (left, high), (-2, -3), textcoords="offset points",
        ha="right" if left > 1.5 * x[0] else "left", va="top", fontsize=6, color=MUTED,
    )  # fmt: skip


def _draw_intervals(ax: Axes, found: NextRuns) -> None:
    """The interval as things stand, and after each run and those before it, against FLOPs spent."""
    rows = [(0.0, *found.before), *((run.flops, run.low, run.high) for run in found.runs)]
    spent = np.cumsum([flops for flops, _, _ in rows])
    for place, (_, low, high) in enumerate(rows):
        colour = MUTED if place == 0 else _NEW
        ax.plot([place, place], [low, high], color=colour, lw=4.5, solid_capstyle="butt", zorder=3)
    ax.axhline(found.loss, color=LAW_COLOURS[0], lw=0.8, zorder=2)
    labels = ["now", *(f"{place}" for place in range(1, len(rows)))]
    costs = ["", *(f"{100 * one / found.budget:.2g}%" for one in spent[1:])]
    ax.set_xticks(range(len(rows)), [f"{a}\n{b}" for a, b in zip(labels, costs, strict=True)])
    ax.set_xlim(-0.6, len(rows) - 0.4)
    low = min(row[1] for row in rows)
    high = max(row[2] for row in rows)
    margin = 0.08 * (high - low)
    ax.set_ylim(low - margin, high + margin)
    fixed_ticks(ax.yaxis, spaced_ticks(low - margin, high + margin, place=lambda loss: loss))
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("After run, with this share of the budget")
    ax.set_ylabel(f"{100 * found.forecast.level:g}% interval of the loss at the target")


def _entries() -> list[tuple[Line2D, str]]:
    marks = [
        ({"marker": "o", "ls": "", "color": MUTED, "ms": 2.6, "mew": 0}, "runs there are"),
        ({"marker": "o", "ls": "", "color": _NEW, "ms": 6.5, "mew": 0}, "runs to make"),
        ({"marker": "*", "ls": "", "color": ALARM, "ms": 8, "mew": 0}, "target of the forecast"),
        ({"color": LAW_COLOURS[0], "lw": 1.0}, "best split by the law; its loss at the target"),
    ]
    return [(Line2D([], [], **look), text) for look, text in marks]  # type: ignore[arg-type]
