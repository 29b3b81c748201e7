"""Profile likelihoods: what it costs the objective to move one coefficient while all others
follow.
"""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmscale.errors import InputError, counted
from llmscale.explain.estimation.advice import more_budgets
from llmscale.explain.estimation.profile import Profile, profiles
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._coefficients import coefficient_axis, spans_decades
from llmscale.explain.figures._legend import fitted_formula, symbol
from llmscale.explain.figures._runs import (
    SIDE_BY_SIDE,
    Entry,
    first_fit,
    held_out,
    legend_below,
)
from llmscale.explain.figures._style import (
    ALARM,
    DOT,
    INK,
    LAW_COLOURS,
    MUTED,
    SHORT_DASHES,
    Look,
    style,
)
from llmscale.explain.fit import Fit

DRAWS = "laws"
LAWS = 1

_EXACT = 1e-9
_ABOVE = 2.2
"""The cost axis ends at this many times the threshold."""
_BAR = -0.09
"""Where the bootstrap's interval lies, as a share of the cost axis below zero."""


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """A panel for each coefficient of the first law: cost, threshold, and both intervals."""
    fit = first_fit(evidence, "profile")
    if np.abs(fit.residuals).max() < _EXACT:
        raise InputError(
            f"{fit.law.name} meets the {counted(len(fit.table.frame), 'run')} exactly, so that no "
            "profile has a width",
            f"measure more runs: {more_budgets(fit.table.frame)}",
        )
    found = profiles(fit)
    columns = min(len(found), (3 if len(found) > 4 else 4) if width >= SIDE_BY_SIDE else 2)
    rows = math.ceil(len(found) / columns)
    with style():
        height = rows * (0.62 * width / columns + 0.42) + 0.85
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
        for index, (ax, one) in enumerate(zip(panels, found, strict=False)):
            _draw_profile(ax, fit, one)
            if index % columns == 0:
                ax.set_ylabel("Cost 2Δ/λ")
            ax.tick_params(labelleft=index % columns == 0)
        for ax in panels[len(found) :]:
            figure.delaxes(ax)
        if title:
            figure.suptitle(title)
        legend_below(figure, _entries(fit, found), 2 if width >= SIDE_BY_SIDE else 1)
    n_excluded, n_held_out = len(evidence.table.excluded), int(held_out(evidence).sum())
    return Drawing(figure, len(fit.table.frame), n_excluded, n_held_out)


def _draw_profile(ax: Axes, fit: Fit, one: Profile) -> None:
    best = float(fit.law.coefficients()[one.name])
    top = _ABOVE * one.threshold
    near = one.values[one.cost <= top]
    ends = [*near, *filter(math.isfinite, (one.low, one.high))]
    low, high = float(min(ends)), float(max(ends))
    bar = fit.intervals.get(one.name)
    if bar is not None and all(map(math.isfinite, bar)):
        low, high = min(low, bar[0]), max(high, bar[1])
    if high <= low:
        low, high = best - 0.5 * abs(best or 1), best + 0.5 * abs(best or 1)
    amplitude = one.name not in (*fit.law.exponents, fit.law.floor)
    logarithmic = amplitude and spans_decades(low, high)
    limits = coefficient_axis(ax.xaxis, low, high, logarithmic=logarithmic)
    left = one.low if math.isfinite(one.low) else limits[0]
    right = one.high if math.isfinite(one.high) else limits[1]
    ax.axhline(one.threshold, color=MUTED, lw=0.8, ls=SHORT_DASHES, zorder=2, label="threshold")
    if one.settled:
        shade: Look = {"color": LAW_COLOURS[0], "alpha": 0.13, "lw": 0, "zorder": 1}
        ax.axvspan(max(left, limits[0]), min(right, limits[1]), **shade)
        ax.plot(one.values, one.cost, color=LAW_COLOURS[0], lw=1.4, zorder=4, label="profile")
    ax.plot([best], [0], "o", ms=4.2, mew=0, color=INK, zorder=6, clip_on=False, label="best")
    if bar is not None:
        look: Look = {"color": LAW_COLOURS[1], "lw": 1.8, "ms": 4, "mew": 1.2, "zorder": 5}
        ax.plot(bar, [_BAR * top] * 2, "|-", label="bootstrap", **look)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 1e3) if top / step < 7)
    ax.set_yticks(np.arange(0, top, step))
    ax.set_ylim(2.1 * _BAR * top, top)
    ax.set_xlabel(symbol(one.name))
    if not one.settled:
        # Its points cost too much: the curve would show an interval that is too narrow.
        said = [(0.5, "center", "did not settle")]
    else:
        open_below = not math.isfinite(one.low) or one.low <= one.values[0]
        said = [(0.03, "left", "← open")] if open_below else []
        said += [] if math.isfinite(one.high) else [(0.97, "right", "open →")]
    for place, side, text in said:
        look = {"va": "top", "fontsize": 6, "color": ALARM, "label": "open end"}
        ax.text(place, 0.97, text, transform=ax.transAxes, ha=side, **look)


def _entries(fit: Fit, found: tuple[Profile, ...]) -> list[Entry]:
    line = Line2D([], [], color=LAW_COLOURS[0], lw=1.4)
    band = Patch(color=LAW_COLOURS[0], alpha=0.2, lw=0)
    threshold = Line2D([], [], color=MUTED, lw=0.8, ls=SHORT_DASHES)
    runs = counted(len(fit.table.frame), "run")
    entries: list[Entry] = [
        (line, f"{fit.law.name}: {fitted_formula(fit)}, {runs}"),
        (Line2D([], [], color=INK, **DOT), "best fit"),
        (
            (band, threshold),
            f"{100 * fit.level:g}% interval: cost below {found[0].threshold:.2f}",
        ),
    ]
    if fit.intervals:
        bar = Line2D([], [], color=LAW_COLOURS[1], lw=1.8)
        entries.append(
            (bar, f"{100 * fit.level:g}% interval by bootstrap ({len(fit.replicates)} refits)")
        )
    return entries
