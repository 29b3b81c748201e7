"""Contours of the fitted loss over N and D, with the runs, budgets of equal FLOPs, and the
compute-optimal frontier.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmscale.errors import InputError
from llmscale.explain.estimation.result import with_coefficients
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import decades, log_count_axis, padded
from llmscale.explain.figures._legend import fitted_formula, number_with_interval
from llmscale.explain.figures._runs import (
    SIDE_BY_SIDE,
    Entry,
    draw_bar,
    excluded,
    first_fit,
    held_out,
    label,
    legend_below,
    loss_label,
    marker_size,
    muted_line,
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
_NAME_HEIGHT, _NAME_LENGTH, _LEAST_CONTOUR, _CLEAR = 9.0, 21.0, 30.0, 13.0
"""Typographic points: of a budget's name, of a contour that has one, and around its middle."""
_LEAST_DIAGONAL = 0.2
"""Of the width of the axes."""
_RATIO = "20 tokens a parameter"
_CROSSING = ("frontier", _RATIO)
"""Lines that a name of a contour keeps clear of."""


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
        lines = _draw_contours(ax, fit, x, y, norm, levels)
        _draw_runs(ax, params, tokens, loss, held, norm)
        ax.plot(crosses["params"], crosses["tokens"], zorder=6, label="excluded", **CROSS)
        entries = run_entries(evidence, MUTED)
        text = f"loss of {fit.law.name}: {fitted_formula(fit)}"
        entries.append((Line2D([], [], color=MUTED, lw=0.9), text))
        entries += _draw_frontier(ax, fit, x, y)
        budgets = _draw_budgets(ax, x, y)
        if budgets:
            diagonal = Line2D([], [], color=_DIAGONAL, lw=0.6)
            entries.append((diagonal, "equal compute C = 6ND (FLOPs)"))
        ratio = np.array(x) * TOKENS_PER_PARAM
        if ratio[1] > y[0] and ratio[0] < y[1]:
            look: Look = {"color": INK, "lw": 0.9, "ls": DOTS}
            many = np.geomspace(*x, _GRID)
            ax.plot(many, many * TOKENS_PER_PARAM, zorder=3.5, label=_RATIO, **look)
            entries.append((Line2D([], [], **look), _RATIO))
        log_count_axis(ax.xaxis, x)
        log_count_axis(ax.yaxis, y)
        ax.set_xlabel(label(evidence, "params"))
        ax.set_ylabel(label(evidence, "tokens"))
        if title:
            figure.suptitle(title)
        draw_bar(figure, ax, norm, loss_label(evidence), ticks=_inside(levels, loss)[::2])
        legend_below(figure, entries, 2 if width >= SIDE_BY_SIDE else 1)
        figure.draw_without_rendering()  # names lie on their lines, clear of runs, in the layout
        marks = ax.transData.transform(everywhere.to_numpy(dtype=float))
        names = _name_budgets(ax, budgets, x, y, np.concatenate([marks, *_pixels_of(ax, lines)]))
        _name_contours(ax, lines, np.concatenate([marks, *names]))
    n_excluded, n_held_out = len(evidence.table.excluded), int(held.sum())
    return Drawing(figure, len(frame), n_excluded, n_held_out)


def _fit_in_both(evidence: Evidence) -> Fit:
    fit = next((one for one in evidence.fits if one.law.inputs == ("params", "tokens")), None)
    if fit is None:
        one = first_fit(evidence, "contour")
        raise InputError(
            f"contours need a law in N and D, and {one.law.name} takes {', '.join(one.law.inputs)}",
            law_in_both(one.table),
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
) -> QuadContourSet | None:
    """Colours of levels beyond the runs' own losses are those of the ends."""
    N, D = np.meshgrid(np.geomspace(*x, _GRID), np.geomspace(*y, _GRID))
    surface = fit.loss(params=N, tokens=D)
    inside = _inside(levels, surface)
    if not inside:
        return None
    return ax.contour(
        N, D, surface, levels=inside, cmap=sequence(), norm=norm, linewidths=0.9, zorder=2
    )


def _pixels_of(ax: Axes, lines: QuadContourSet | None) -> list[Array]:
    """The pixels of every contour."""
    paths = [] if lines is None else lines.get_paths()
    vertices = [np.asarray(path.vertices, float) for path in paths]
    return [ax.transData.transform(points) for points in vertices if len(points)]


def _name_contours(ax: Axes, lines: QuadContourSet | None, taken: Array) -> None:
    """The loss on each contour if it is long enough, where it is farthest from runs, other lines,
    names and edges. `taken` are pixels of what else is there."""
    points = _pixels_per_point(ax)
    crossing = [line.get_xydata() for line in ax.lines if line.get_label() in _CROSSING]
    taken = np.concatenate([taken, *(ax.transData.transform(line) for line in crossing)])
    (left, bottom), (right, top) = ax.bbox.get_points()
    places = []
    for at in _pixels_of(ax, lines):
        if np.hypot(*np.diff(at, axis=0).T).sum() < _LEAST_CONTOUR * points:
            continue
        edges = at - [left, bottom], [right, top] - at
        clear = np.minimum(np.min(edges, axis=(0, 2)), _distance(at, taken))
        # Of places that are clear, the one nearest to three quarters of the way.
        off = np.abs(np.linspace(-0.75, 0.25, len(at)))
        best = at[(np.minimum(clear, _CLEAR * points) - 0.01 * off * points).argmax()]
        places.append(tuple(ax.transData.inverted().transform(best)))
        taken = np.concatenate([taken, best[None]])
    if lines is not None and places:
        ax.clabel(lines, fmt="%g", fontsize=6, inline_spacing=3, manual=places)


def _distance(at: Array, taken: Array) -> Array:
    """Of each place to the nearest that is taken."""
    return np.asarray(np.hypot(*(at[:, None] - taken).T).min(axis=0))


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
    """N*(C), D*(C) with the interval of N* at each C, as far as the axes reach; a line of the
    legend says so if they do not reach it."""
    flops = np.geomspace(6 * x[0] * y[0], 6 * x[1] * y[1], _GRID)
    best = fit.law.optimal(flops)
    assert best is not None
    params, tokens = np.asarray(best[0]), np.asarray(best[1])
    is_inside = (x[0] < params) & (params < x[1]) & (y[0] < tokens) & (tokens < y[1])
    if not is_inside.any():
        return [muted_line("compute-optimal N*(C), D*(C): beyond these axes")]
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
    """Diagonals at powers of ten FLOPs, of a narrow range also at 3 or 2 and 5 of them, at most
    seven and none too short for its name; returns them."""
    low, high = 6 * x[0] * y[0], 6 * x[1] * y[1]
    budgets: list[float] = []
    for mantissas in ((1,), (1, 3), (1, 2, 5)):
        rounded = decades(low, high, mantissas)
        budgets = [flops for flops in rounded if _share(flops, x, y) >= _LEAST_DIAGONAL]
        if len(budgets) > 1:
            break
    budgets = budgets[:: max(1, math.ceil(len(budgets) / 7))]
    for flops in budgets:
        ax.plot(x, flops / (6 * np.array(x)), color=_DIAGONAL, lw=0.6, zorder=1, label="budget")
    return budgets


def _ends(flops: float, x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:
    """The N at which a diagonal enters and leaves the axes."""
    return max(x[0], flops / (6 * y[1])), min(x[1], flops / (6 * y[0]))


def _share(flops: float, x: tuple[float, float], y: tuple[float, float]) -> float:
    """How much of the width of the axes a diagonal crosses."""
    start, end = _ends(flops, x, y)
    return math.log(end / start) / math.log(x[1] / x[0])


def _name_budgets(
    ax: Axes, budgets: list[float], x: tuple[float, float], y: tuple[float, float], taken: Array
) -> list[Array]:
    """FLOPs above each diagonal, near its upper end, where no contour or run is; returns the middle
    of each name, in pixels. `taken` are pixels of contours and runs."""
    wide, high = ax.bbox.width / math.log(x[1] / x[0]), ax.bbox.height / math.log(y[1] / y[0])
    scale = _pixels_per_point(ax)
    pixels = math.hypot(wide, high)  # along a diagonal, for a factor of e
    along, above = np.array([wide, -high]) / pixels, np.array([high, wide]) / pixels
    middle = scale * (_NAME_LENGTH / 2 * along + _NAME_HEIGHT / 2 * above)
    found = []
    for flops in budgets:
        start, end = _ends(flops, x, y)
        # Above the line, a name that begins at the upper edge would stick out: it begins lower by
        # its height.
        first = 4.0 if start == x[0] else 4.0 + _NAME_HEIGHT * pixels / high
        last = math.log(end / start) * pixels / scale - _NAME_LENGTH - 4.0
        steps = np.arange(first, max(last, first + 1), 3.0) * scale
        corner = ax.transData.transform((start, flops / (6 * start)))
        clear = _distance(corner + steps[:, None] * along + middle, taken)
        step = steps[np.minimum(clear, _NAME_LENGTH / 2 * scale).argmax()]
        at = start * math.exp(step / pixels)
        slope = -math.degrees(math.atan2(high, wide))
        place: Look = {"ha": "left", "va": "bottom", "rotation": slope, "rotation_mode": "anchor"}
        look: Look = {"fontsize": 5.5, "color": MUTED, "zorder": 1.5, "label": "budget"}
        text = ax.text(at, flops / (6 * at), power_text(flops), **place, **look)
        text.set_in_layout(False)
        found.append((corner + step * along + middle)[None])
    return found


def _pixels_per_point(ax: Axes) -> float:
    return float(ax.get_figure(root=True).dpi) / 72  # type: ignore[union-attr]
