"""Contours of the fitted loss over N and D, with the runs, budgets of equal FLOPs, and the
compute-optimal frontier.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmscale.errors import InputError
from llmscale.explain.estimation.result import with_coefficients
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import LABELS, log_count_axis, padded
from llmscale.explain.figures._legend import number_with_interval, short_formula
from llmscale.explain.figures._runs import (
    SIDE_BY_SIDE,
    Entry,
    draw_bar,
    excluded,
    first_fit,
    held_out,
    label,
    legend_below,
    marker_size,
    power_text,
    run_entries,
)
from llmscale.explain.figures._style import CROSS, DOTS, INK, MUTED, Look, sequence, style
from llmscale.explain.fit import Fit
from llmscale.explain.laws import Array
from llmscale.runs.shape import TOKENS_PER_PARAM

DRAWS = "laws"

_GRID = 140
_DIAGONAL = "#b8b8b8"
_NAME_HEIGHT = 9.0
"""Typographic points."""


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """The first law in N and D; runs and contours share colours. Raises InputError without one."""
    fit = _fit_in_both(evidence)
    frame, held = fit.table.frame, held_out(evidence)
    params, tokens, loss = frame[["params", "tokens", "loss"]].to_numpy(dtype=float).T
    crosses = excluded(evidence, "params", "tokens")
    everywhere = pd.concat([frame[["params", "tokens"]], crosses])
    x, y = (padded(values.min(), values.max(), 0.07) for _, values in everywhere.items())
    norm = LogNorm(float(loss.min()), float(loss.max()))
    with style():
        shape = 0.55 if width >= SIDE_BY_SIDE else 0.86
        figure = Figure(figsize=(width, shape * width + 1.35), layout="constrained")
        ax = figure.subplots()
        ax.grid(False)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(*x)
        ax.set_ylim(*y)
        levels = _levels(float(loss.min()), float(loss.max()))
        _draw_contours(ax, fit, x, y, norm, levels)
        _draw_runs(ax, params, tokens, loss, held, norm)
        ax.plot(crosses["params"], crosses["tokens"], zorder=6, label="excluded", **CROSS)
        entries = run_entries(evidence, MUTED)
        text = f"loss of {fit.law.name}: {short_formula(fit.law.formula)}"
        entries.append((Line2D([], [], color=MUTED, lw=0.9), text))
        entries += _draw_frontier(ax, fit, x, y)
        budgets = _draw_budgets(ax, x, y)
        entries.append((Line2D([], [], color=_DIAGONAL, lw=0.6), "equal compute C = 6ND (FLOPs)"))
        ratio = np.array(x) * TOKENS_PER_PARAM
        if ratio[1] > y[0] and ratio[0] < y[1]:
            name = "20 tokens a parameter"
            look: Look = {"color": INK, "lw": 0.9, "ls": DOTS}
            ax.plot(x, ratio, zorder=3.5, label=name, **look)
            entries.append((Line2D([], [], **look), name))
        log_count_axis(ax.xaxis, x)
        log_count_axis(ax.yaxis, y)
        ax.set_xlabel(label(evidence, "params"))
        ax.set_ylabel(label(evidence, "tokens"))
        if title:
            figure.suptitle(title)
        draw_bar(figure, ax, norm, LABELS["loss"], ticks=_inside(levels, loss)[::2])
        legend_below(figure, entries, 2 if width >= SIDE_BY_SIDE else 1)
        figure.draw_without_rendering()  # the names of budgets follow the slope of their lines
        _name_budgets(ax, budgets, x, y)
    n_excluded, n_held_out = len(evidence.table.excluded), int(held.sum())
    return Drawing(figure, len(frame), n_excluded, n_held_out)


def _fit_in_both(evidence: Evidence) -> Fit:
    fit = next((one for one in evidence.fits if one.law.inputs == ("params", "tokens")), None)
    if fit is None:
        one = first_fit(evidence, "contour")
        raise InputError(
            f"contours need a law in N and D, and {one.law.name} takes {', '.join(one.law.inputs)}",
            law_in_both(one.table.frame),
        )
    return fit


def _levels(low: float, high: float) -> list[float]:
    """Round losses, about eight within the runs' own and two beyond on either side."""
    rough = max(high - low, 1e-3 * high) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power * round_step for round_step in (1, 2, 2.5, 5, 10)]
    step = next(step for step in steps if step >= rough * 0.999)
    first, last = math.floor(low / step) - 2, math.ceil(high / step) + 2
    return [float(f"{k * step:.8g}") for k in range(max(first, 1), last + 1)]


def _inside(levels: list[float], values: Array) -> list[float]:
    return [level for level in levels if values.min() < level < values.max()]


def _draw_contours(
    ax: Axes,
    fit: Fit,
    x: tuple[float, float],
    y: tuple[float, float],
    norm: LogNorm,
    levels: list[float],
) -> None:
    """Colours of levels beyond the runs' own losses are those of the ends."""
    N, D = np.meshgrid(np.geomspace(*x, _GRID), np.geomspace(*y, _GRID))
    surface = fit.loss(params=N, tokens=D)
    inside = _inside(levels, surface)
    if inside:
        lines = ax.contour(
            N, D, surface, levels=inside, cmap=sequence(), norm=norm, linewidths=0.9, zorder=2
        )
        ax.clabel(lines, fmt="%g", fontsize=6, inline_spacing=3)


def _draw_runs(
    ax: Axes, params: Array, tokens: Array, loss: Array, held: np.ndarray, norm: LogNorm
) -> None:
    colours = sequence()(norm(loss))
    size = marker_size(len(loss)) ** 2
    filled: Look = {"c": colours[~held], "edgecolors": "white", "linewidths": 0.35, "zorder": 4}
    hollow: Look = {"c": "white", "edgecolors": colours[held], "linewidths": 0.9, "zorder": 4.2}
    for mask, name, look in ((~held, "runs", filled), (held, "held out", hollow)):
        look |= {"s": size, "rasterized": len(loss) > 500}
        ax.scatter(params[mask], tokens[mask], label=name, **look)


def _draw_frontier(
    ax: Axes, fit: Fit, x: tuple[float, float], y: tuple[float, float]
) -> list[Entry]:
    """N*(C), D*(C) with the interval of N* at each C, as far as the axes reach."""
    flops = np.geomspace(6 * x[0] * y[0], 6 * x[1] * y[1], _GRID)
    best = fit.law.optimal(flops)
    assert best is not None
    params, tokens = np.asarray(best[0]), np.asarray(best[1])
    ax.plot(params, tokens, color=INK, lw=1.7, zorder=5, label="frontier")
    line = Line2D([], [], color=INK, lw=1.7)
    exponents, text = fit.compute_optimal, "compute-optimal N*(C), D*(C)"
    if exponents is not None:
        a = number_with_interval(exponents["a"], exponents["intervals"].get("a"))
        text = f"compute-optimal $N^* \\propto C^a$, a = {a}"
    if not len(fit.replicates):
        return [(line, text)]
    refits = with_coefficients(fit.law, fit.replicates).optimal(flops)
    assert refits is not None
    tail = (1 - fit.level) / 2
    low, high = np.nanquantile(np.asarray(refits[0]), [tail, 1 - tail], axis=0)
    edge_N = np.concatenate([low, high[::-1]])
    edge_D = np.concatenate([flops / low, (flops / high)[::-1]]) / 6
    look: Look = {"color": INK, "alpha": 0.16, "lw": 0}
    ax.fill(edge_N, edge_D, zorder=3, label="interval", **look)
    return [((Patch(**look), line), text)]


def _draw_budgets(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> list[float]:
    """Diagonals at powers of ten FLOPs, at most seven; returns them."""
    first, last = math.ceil(math.log10(6 * x[0] * y[0])), math.floor(math.log10(6 * x[1] * y[1]))
    step = max(1, math.ceil((last - first + 1) / 7))
    budgets = [10.0**power for power in range(first, last + 1, step)]
    for flops in budgets:
        ax.plot(x, flops / (6 * np.array(x)), color=_DIAGONAL, lw=0.6, zorder=1, label="budget")
    return budgets


def _name_budgets(
    ax: Axes, budgets: list[float], x: tuple[float, float], y: tuple[float, float]
) -> None:
    """FLOPs along the upper end of each diagonal: names of contours lie at the other end."""
    wide, high = ax.bbox.width / math.log(x[1] / x[0]), ax.bbox.height / math.log(y[1] / y[0])
    dpi = ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    pixels = math.hypot(wide, high)  # along a diagonal, for a factor of e
    for flops in budgets:
        start, end = max(x[0], flops / (6 * y[1])), min(x[1], flops / (6 * y[0]))
        if math.log(end / start) * pixels < 0.2 * ax.bbox.width:
            continue
        # Above the line, a name that begins at the upper edge would stick out: it begins lower by
        # its height.
        points = 4.0 if start == x[0] else 4.0 + _NAME_HEIGHT * pixels / high
        at = start * math.exp(points * dpi / 72 / pixels)
        slope = -math.degrees(math.atan2(high, wide))
        place: Look = {"ha": "left", "va": "bottom", "rotation": slope, "rotation_mode": "anchor"}
        look: Look = {"fontsize": 5.5, "color": MUTED, "zorder": 1.5, "label": "budget"}
        text = ax.text(at, flops / (6 * at), power_text(flops), **place, **look)
        text.set_in_layout(False)
