"""The panel of optimal size against compute: optima with intervals and the power laws."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmscale.explain.allocation import Allocation, Frontier
from llmscale.explain.allocation._allocation import interval
from llmscale.explain.figures._axes import LABELS, log_axis, padded
from llmscale.explain.figures._legend import number_with_interval
from llmscale.explain.figures._runs import ColourScale, Entry
from llmscale.explain.figures._style import DASHES, INK, LAW_COLOURS, MUTED, OPEN_DOT, Look
from llmscale.explain.laws import Array

_GRID = 80


def draw_optima(
    ax: Axes,
    allocation: Allocation,
    scale: ColourScale | None,
    *,
    by: str = "flops",
    other: Allocation | None = None,
    label: str = "Optimal parameters N*",
) -> list[Entry]:
    """Draw N*(C) in log axes and return the legend's entries.
    Markers take the colour of their budget's `by`; those the power law leaves out are hollow.
    `other` is another method's frontier, drawn dashed."""
    budgets = allocation.budgets
    known = budgets[np.isfinite(budgets["params"])]
    for row in known.itertuples():
        colour = scale(getattr(row, by)) if scale else INK
        ends = np.array([[row.params - row.low], [row.high - row.params]])
        at = row.flops, row.params
        if row.used and np.isfinite(ends).all():
            look: Look = {"fmt": "none", "ecolor": colour, "elinewidth": 0.9, "zorder": 4}
            ax.errorbar(*at, yerr=np.maximum(ends, 0), **look)
        face, name = (colour, "optimum") if row.used else ("white", "optimum left out")
        ax.plot(*at, **(OPEN_DOT | {"mfc": face, "mec": colour}), zorder=5, label=name)
    x = padded(float(known["flops"].min()), float(known["flops"].max()), 0.06)
    grid = np.geomspace(*x, _GRID)
    shown = [known["params"].to_numpy(dtype=float), allocation.frontier.params(grid)]
    entries = [_draw_frontier(ax, allocation, grid, LAW_COLOURS[0], "solid")]
    if other is not None:
        entries.append(_draw_frontier(ax, other, grid, LAW_COLOURS[1], DASHES))
        shown.append(other.frontier.params(grid))
    if not known["used"].astype(bool).all():
        hollow = Line2D([], [], mec=MUTED, **OPEN_DOT)
        entries.append((hollow, "optimum not bracketed: left out"))
    y = padded(min(float(one.min()) for one in shown), max(float(one.max()) for one in shown), 0.08)
    log_axis(ax.xaxis, x, powers=True)
    log_axis(ax.yaxis, y)
    ax.set_xlabel(LABELS["flops"])
    ax.set_ylabel(label)
    return entries


def _draw_frontier(ax: Axes, allocation: Allocation, grid: Array, colour: str, line: Any) -> Entry:
    """A power law with its band; returns its line of the legend."""
    look: Look = {"color": colour, "ls": line, "lw": 1.3}
    ax.plot(grid, allocation.frontier.params(grid), zorder=3, label=allocation.method, **look)
    handle = Line2D([], [], **look)
    name = allocation.law.name if allocation.law else allocation.method
    a = number_with_interval(allocation.a, allocation.intervals.get("a"))
    text = f"{name}: $N^* \\propto C^a$, a = {a}"
    if not len(allocation.refits):
        return handle, text
    a_BG, log_params_BG = allocation.refits[:, :1], allocation.refits[:, 1:]
    refits = Frontier(a_BG, log_params_BG, allocation.frontier.flops_factor)
    ends = np.array([interval(column, allocation.level) for column in refits.params(grid[None]).T])
    ax.fill_between(grid, *ends.T, color=colour, alpha=0.18, lw=0, zorder=2, label="band")
    return (Patch(color=colour, alpha=0.2, lw=0), handle), text
