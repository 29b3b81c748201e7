"""IsoFLOP profiles: loss against N at each compute budget with its optimum, and the power law
through the optima.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmscale.errors import InputError, counted
from llmscale.explain.allocation import Allocation, parametric
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import LABELS, log_axis, log_loss_axis, padded
from llmscale.explain.figures._optima import draw_optima
from llmscale.explain.figures._runs import (
    SIDE_BY_SIDE,
    ColourScale,
    Entry,
    colour_scale,
    draw_points,
    draw_scale,
    excluded,
    held_out,
    label,
    legend_below,
    loss_label,
    mark_excluded,
    marker_size,
    power_text,
    run_entries,
)
from llmscale.explain.figures._style import DASHES, DOT, INK, MUTED, Look, style
from llmscale.explain.fit import Fit
from llmscale.explain.laws import Array

DRAWS = "laws"
METHOD = "isoflop"

_GRID = 120
_ALONE = "#b5b5b5"


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """Runs in the colour of their budget, the parabola of each that has a lowest point, and a law
    in N and D, if any."""
    fit = next((one for one in evidence.fits if one.law.inputs == ("params", "tokens")), None)
    allocation = evidence.optima
    scale = colour_scale(allocation.budgets["flops"].to_numpy(dtype=float))
    held, beside = held_out(evidence), width >= SIDE_BY_SIDE
    with style():
        height = 0.36 * width + 1.3 if beside else 1.38 * width + 1.45
        figure = Figure(figsize=(width, height), layout="constrained")
        profiles, optima = figure.subplots(*((1, 2) if beside else (2, 1)))
        _draw_profiles(profiles, evidence, allocation, scale, fit, held)
        of_law = _of_law(fit)
        lines = draw_optima(optima, allocation, scale, other=of_law)
        draw_scale(
            figure,
            [profiles, optima] if beside else profiles,
            scale,
            LABELS["flops"],
            power_text,
            title,
            powers=True,
        )
        entries = run_entries(evidence, MUTED)
        assert allocation.membership is not None
        alone = int((allocation.membership < 0).sum())
        if alone:
            grey = Line2D([], [], color=_ALONE, **DOT)
            entries.append((grey, f"{counted(alone, 'run')} of no budget"))
        solid = Line2D([], [], color=MUTED, lw=1.2, marker="D", ms=4.2, mec=INK, mew=0.7)
        entries.append((solid, "parabola in ln N and its lowest point"))
        entries += _left_out(allocation)
        if fit is not None:
            dashed = Line2D([], [], color=MUTED, lw=0.9, ls=DASHES)
            entries.append((dashed, f"{fit.law.name} at the budget"))
        legend_below(figure, [*entries, *lines], 2 if beside else 1)
    n_excluded, n_held_out = len(evidence.table.excluded), int(held.sum())
    return Drawing(figure, len(evidence.table.frame), n_excluded, n_held_out)


def _left_out(allocation: Allocation) -> list[Entry]:
    """Legend: budgets that the power law leaves out, for either reason."""
    budgets = allocation.budgets
    downward = budgets["curvature"] <= 0
    entries: list[Entry] = []
    if (~budgets["used"].astype(bool) & ~downward).any():
        hollow = Line2D([], [], color=MUTED, lw=1.2, marker="D", ms=4.2, mfc="white", mec=MUTED)
        entries.append((hollow, "lowest at an end of the sizes: left out"))
    if number := int(downward.sum()):
        nothing = Line2D([], [], lw=0)
        entries.append((nothing, f"{counted(number, 'budget')} without a lowest point: left out"))
    return entries


def _of_law(fit: Fit | None) -> Allocation | None:
    """The law's own frontier, or None if it has none."""
    try:
        return None if fit is None else parametric.of_fit(fit)
    except InputError:
        return None


def _draw_profiles(
    ax: Axes,
    evidence: Evidence,
    allocation: Allocation,
    scale: ColourScale,
    fit: Fit | None,
    held: np.ndarray,
) -> None:
    frame, budgets = evidence.table.frame, allocation.budgets
    params, loss = frame["params"].to_numpy(dtype=float), frame["loss"].to_numpy(dtype=float)
    assert allocation.membership is not None
    size = marker_size(len(frame))
    curves = [loss]
    alone = allocation.membership < 0
    draw_points(ax, params[alone], loss[alone], held[alone], _ALONE, zorder=2, ms=size)
    for number, row in enumerate(budgets.itertuples()):
        colour, own = scale(float(row.flops)), allocation.membership == number
        draw_points(ax, params[own], loss[own], held[own], colour, ms=size)
        grid = np.geomspace(float(row.smallest), float(row.largest), _GRID)
        if row.curvature > 0:
            curve, lowest = _parabola(row, grid, params[own], loss[own])
            curves.append(curve)
            ax.plot(grid, curve, color=colour, lw=1.2, zorder=3, label="parabola")
            look: Look = {"mfc": colour, "mec": INK, "mew": 0.7, "label": "optimum"}
            if not row.used:
                look = {"mfc": "white", "mec": colour, "mew": 1.0, "label": "optimum left out"}
            ax.plot(*lowest, "D", ms=4.2, zorder=6, **look)
        if fit is not None:
            at_budget = fit.loss(params=grid, tokens=_tokens(grid, frame[own]))
            curves.append(at_budget)
            ax.plot(grid, at_budget, color=colour, lw=0.9, ls=DASHES, zorder=2.5, label="law")
    crosses = excluded(evidence, "params")["params"]
    values = np.concatenate(curves)
    bottom, top = padded(float(values.min()), float(values.max()), 0.04)
    if len(crosses):
        top *= (top / bottom) ** 0.08
        mark_excluded(ax, crosses)
    limits = padded(min([params.min(), *crosses]), max([params.max(), *crosses]), 0.04)
    log_axis(ax.xaxis, limits)
    ax.set_xlabel(label(evidence, "params"))
    log_loss_axis(ax, (bottom, top), perplexity=False)
    ax.set_ylabel(loss_label(evidence))


def _parabola(
    row: object, grid: Array, params: Array, loss: Array
) -> tuple[Array, tuple[float, float]]:
    """The budget's parabola over `grid`, and its lowest point there: an end if not bracketed."""
    if row.used:  # type: ignore[attr-defined]
        lowest, least = float(row.params), float(row.loss)  # type: ignore[attr-defined]
        return least + row.curvature * np.log(grid / lowest) ** 2, (lowest, least)  # type: ignore[attr-defined]
    curve = np.polynomial.Polynomial.fit(np.log(params), loss, 2)(np.log(grid))
    at = int(curve.argmin())
    return curve, (float(grid[at]), float(curve[at]))


def _tokens(grid: Array, runs: pd.DataFrame) -> Array:
    """D along a budget, between the runs' own: their FLOPs may be nominal, or more than 6ND."""
    by_size = runs.groupby("params")["tokens"].median()
    log_sizes, log_tokens = np.log(by_size.index.to_numpy(dtype=float)), np.log(by_size.to_numpy())
    return np.exp(np.interp(np.log(grid), log_sizes, log_tokens))
