"""Bootstrap pairs: how the coefficients of a law move together over the refits."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmscale.errors import InputError, counted
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._coefficients import coefficient_axis, spans_decades
from llmscale.explain.figures._legend import fitted_formula, symbol
from llmscale.explain.figures._runs import SIDE_BY_SIDE, Entry, first_fit, legend_below
from llmscale.explain.figures._style import INK, LAW_COLOURS, MUTED, Look, style
from llmscale.explain.fit import Fit
from llmscale.explain.laws import Array
from llmscale.notes.fitting import NO_INTERVAL

DRAWS = "laws"
LAWS = 1

_SHOWN = 0.99
_BEYOND = 0.6
"""An axis shows 99% of the refits, and this share of the interval beyond it: tails reach far."""
_TALLEST = 1.25
"""Inches of a cell, so that few coefficients in a wide figure do not make a poster."""
_BINS = 24
_MOST_POINTS = 1500


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """Scatter below the diagonal, each coefficient's own spread on it, rank correlations above it.
    Raises InputError if the first law has no bootstrap refits."""
    fit = first_fit(evidence, "pairs")
    refits = fit.replicates[np.isfinite(fit.replicates).all(axis=1)]
    if not len(refits):
        problem = (
            f"{fit.law.name} was fitted without bootstrap refits, and pairs are drawn from them"
        )
        why = next((note.message for note in fit.notes if note.code == NO_INTERVAL.code), None)
        if why is None:
            raise InputError(problem, "fit with some: --bootstrap 1000")
        raise InputError(f"{problem}: {why}", "measure more runs, or another law: --law power")
    values = fit.law.coefficients()
    free = [name not in fit.constraints.held for name in values]
    names = [name for name in values if name not in fit.constraints.held]
    best = np.array([values[name] for name in names], dtype=float)
    refits = refits[:, free]
    number = len(names)
    with style():
        layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
        figure = Figure(figsize=(width, min(0.92 * width, _TALLEST * number) + 0.75), layout=layout)
        panels = figure.subplots(number, number, squeeze=False)
        cell = width / number
        small = min(6.5, max(4.5, 10 * cell))
        places = [_Place(fit, name, refits[:, k], best[k]) for k, name in enumerate(names)]
        for row in range(number):
            for column in range(number):
                ax = panels[row, column]
                ax.grid(False)
                ax.tick_params(labelsize=small, pad=1.5, length=1.8)
                if column > row:
                    _correlation(ax, refits[:, row], refits[:, column], small)
                    continue
                places[column].set(ax, "x")
                if row == column:
                    _histogram(ax, places[row])
                else:
                    places[row].set(ax, "y")
                    _scatter(ax, places[column], places[row])
                below, beside = row == number - 1, column == 0 and row > 0
                labels: Look = {"labelbottom": below, "labelleft": beside, "labelrotation": 0}
                ax.tick_params(which="both", left=row != column, **labels)
                if below:
                    ax.tick_params(axis="x", labelrotation=45 if cell < 0.9 else 0)
                    ax.set_xlabel(symbol(names[column]))
                if beside:
                    ax.set_ylabel(symbol(names[row]))
        figure.align_labels()
        if title:
            figure.suptitle(title)
        legend_below(figure, _entries(fit, places), 2 if width >= SIDE_BY_SIDE else 1)
    return Drawing(
        figure,
        n_runs=fit.origin.rows,
        n_excluded=len(fit.origin.excluded),
        n_held_out=len(fit.holdout.runs) if fit.holdout else 0,
    )


class _Place:
    """Where one coefficient lies: its refits, best value, and axis."""

    def __init__(self, fit: Fit, name: str, values: Array, best: float) -> None:
        self.name, self.values, self.best = name, values, best
        self.interval = fit.intervals[name]
        amplitude = name not in (*fit.law.exponents, fit.law.floor)
        self.logarithmic = amplitude and spans_decades(*self.interval)
        tail = (1 - _SHOWN) / 2
        low, high = (float(end) for end in np.quantile(values, [tail, 1 - tail]))
        first, last = self.interval
        if self.logarithmic:
            room = (last / first) ** _BEYOND
            low, high = max(low, first / room), min(high, last * room)
        else:
            room = _BEYOND * (last - first)
            low, high = max(low, first - room), min(high, last + room)
        self.low, self.high = min(low, best), max(high, best)

    def set(self, ax: Axes, which: str) -> None:
        axis = ax.xaxis if which == "x" else ax.yaxis
        coefficient_axis(axis, self.low, self.high, logarithmic=self.logarithmic, ticks=2)

    @property
    def inside(self) -> np.ndarray:
        return np.asarray((self.values >= self.low) & (self.values <= self.high))


def _histogram(ax: Axes, place: _Place) -> None:
    values = place.values[place.inside]
    if place.high > place.low:
        spaced = np.geomspace if place.logarithmic else np.linspace
        bins = spaced(place.low, place.high, _BINS + 1).tolist()
        ax.hist(values, bins, color=LAW_COLOURS[0], alpha=0.55, label="refits")
    else:
        ax.axvline(place.low, color=LAW_COLOURS[0], lw=2.5, alpha=0.55, label="refits")
    for end in place.interval:
        ax.axvline(end, color=MUTED, lw=0.7, ls=(0, (2, 1.5)), label="interval")
    ax.axvline(place.best, color=LAW_COLOURS[1], lw=1.1, label="best")
    ax.set_yticks([])


def _scatter(ax: Axes, x: _Place, y: _Place) -> None:
    every = max(1, math.ceil(len(x.values) / _MOST_POINTS))
    look: Look = {"ms": 1.3, "mew": 0, "color": LAW_COLOURS[0], "alpha": 0.3, "rasterized": True}
    ax.plot(x.values[::every], y.values[::every], "o", label="refits", zorder=2, **look)
    ax.axvline(x.best, color=LAW_COLOURS[1], lw=0.7, zorder=3, label="best")
    ax.axhline(y.best, color=LAW_COLOURS[1], lw=0.7, zorder=3, label="best")


def _correlation(ax: Axes, one: Array, other: Array, size: float) -> None:
    """Spearman's rank correlation, which no choice of axes changes."""
    ax.set_axis_off()
    if np.ptp(one) > 0 and np.ptp(other) > 0:
        value = float(np.corrcoef(pd.Series(one).rank(), pd.Series(other).rank())[0, 1])
        text = f"{value:+.2f}".replace("-", "\u2212")
        middle: Look = {"ha": "center", "va": "center", "transform": ax.transAxes}
        colour = INK if abs(value) >= 0.5 else MUTED
        ax.text(0.5, 0.5, text, fontsize=size + 0.5, color=colour, **middle)


def _entries(fit: Fit, places: list[_Place]) -> list[Entry]:
    inside = np.all([place.inside for place in places], axis=0)
    beyond = f", {1 - inside.mean():.1%} beyond the axes" if not inside.all() else ""
    dots = Line2D([], [], marker="o", ls="", color=LAW_COLOURS[0], ms=3, mew=0, alpha=0.6)
    ends = Line2D([], [], color=MUTED, lw=0.7, ls=(0, (2, 1.5)))
    runs = counted(fit.origin.rows, "run")
    refits = Patch(color=LAW_COLOURS[0], alpha=0.3, lw=0), dots
    best = Line2D([], [], color=LAW_COLOURS[1], lw=1.1)
    return [
        (refits, f"{len(inside)} bootstrap refits to {runs}{beyond}"),
        (best, f"best fit of {fitted_formula(fit)}"),
        (ends, f"{100 * fit.level:g}% interval; numbers: rank correlation"),
    ]
