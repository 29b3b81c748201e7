"""Residuals in % of the loss against N, D and C: what a law misses is a trend, what it cannot
explain is spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llmscale.errors import InputError
from llmscale.errors.printable import one_line
from llmscale.explain.estimation.levels import distinct, levels
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import log_axis, padded
from llmscale.explain.figures._legend import fitted_formula
from llmscale.explain.figures._names import place_names
from llmscale.explain.figures._runs import (
    SIDE_BY_SIDE,
    Entry,
    excluded,
    first_fit,
    held_out,
    label,
    legend_below,
    mark_excluded,
    marker_size,
    run_entries,
)
from llmscale.explain.figures._style import INK, LAW_COLOURS, MUTED, Look, style
from llmscale.explain.figures._text import literal
from llmscale.explain.fit import Fit
from llmscale.explain.laws import Array

DRAWS = "laws"
LAWS = 1

_OUTLIER = 5.0
"""A run this many times the noise away is named."""
_CLIPPED = 12.0
"""The axis ends at this many times the noise; runs beyond are triangles at its edge."""
_MOST_NAMED = 6
_MOST_BEYOND = 3
_EDGE = 0.955
"""Where triangles are, as a share of the axis."""
_LEAST_FOR_A_MEDIAN = 8
_MOST_LEVELS = 12
"""Up to here the median is taken at every value; beyond, over a sliding tenth of the runs."""
_MANY = 300


@dataclass(frozen=True)
class _Noise:
    """Spread of log residuals in %, and where it comes from."""

    percent: float
    text: str


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """A panel for each of N, D and C that differ between runs; the law is the first one fitted."""
    fit = first_fit(evidence, "residuals")
    if fit.law.plain:
        raise InputError(
            f"the figure shows residuals as shares of the loss, and {fit.law.name} is fitted to "
            "differences",
            "draw the law itself: --kind scaling",
        )
    frame = fit.table.frame
    residual = 100 * np.expm1(fit.residuals)
    held, noise = held_out(evidence), _noise(fit)
    columns = _columns(fit)
    limit = _limit(residual, noise)
    named = _outliers(residual, noise)
    away = np.argsort(-np.abs(residual), kind="stable")
    beyond = [_name(fit, row, residual) for row in away if abs(residual[row]) > limit]
    named = [row for row in named if abs(residual[row]) <= limit]
    beside = width >= SIDE_BY_SIDE
    with style():
        height = 0.3 * width + 0.75 if beside else 1.25 * len(columns) + 0.8
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = (1, len(columns)) if beside else (len(columns), 1)
        panels = list(figure.subplots(*grid, sharey=True, squeeze=False).flat)
        medians = False
        for ax, name in zip(panels, columns, strict=True):
            x = frame[name].to_numpy(dtype=float)
            medians |= _draw_panel(ax, x, residual, held, noise, limit)
            crosses = excluded(evidence, name)[name]
            mark_excluded(ax, crosses, 0.94)
            reach = padded(min([x.min(), *crosses]), max([x.max(), *crosses]), 0.04)
            log_axis(ax.xaxis, reach, powers=name == "flops")
            ax.set_xlabel(label(evidence, name))
            ax.set_ylim(-limit, limit)
            ax.yaxis.set_major_locator(MaxNLocator(5 if beside else 4, symmetric=True))
            ax.yaxis.set_major_formatter(FuncFormatter(_signed))
        for ax in panels[:: len(columns) if beside else 1]:
            ax.set_ylabel("Residual (% of loss)" if beside or len(columns) == 1 else "Residual (%)")
        if title:
            figure.suptitle(title)
        legend_below(
            figure, _entries(evidence, fit, noise, beyond, medians=medians), 2 if beside else 1
        )
        figure.draw_without_rendering()  # names need the final places
        for ax, name in zip(panels, columns, strict=True):
            inside = np.clip(residual, -_EDGE * limit, _EDGE * limit)
            at = np.column_stack([frame[name].to_numpy(dtype=float), inside])
            texts = [_run_id(fit, row) for row in named]
            place_names(ax, at[named], texts, avoid=at)
    n_excluded, n_held_out = len(evidence.table.excluded), int(held.sum())
    return Drawing(figure, len(frame), n_excluded, n_held_out)


def _columns(fit: Fit) -> list[str]:
    """The law's inputs and N, D and C, as far as known and not constant; at least one input."""
    names = list(dict.fromkeys(["params", "tokens", "flops", *fit.law.inputs]))
    found = []
    for name in names:
        if name not in fit.table.frame:
            continue
        values = fit.table.frame[name].to_numpy(dtype=float)
        if np.isfinite(values).all() and (values > 0).all() and levels(values).max() > 0:
            found.append(name)
    return found or [fit.law.inputs[0]]


def _noise(fit: Fit) -> _Noise:
    """The spread of runs that differ only in seed, if any, else that of the residuals.

    Runs of nearly one size are no repeats: those of a digitised table may be anything."""
    residual = fit.residuals
    point = distinct([np.unique(one, return_inverse=True)[1].reshape(-1) for one in fit.inputs])
    counts = np.bincount(point)
    means = np.bincount(point, weights=residual) / counts
    free = len(residual) - len(counts)
    if free >= 3 and not fit.table.frame["run_id"].duplicated().any():
        spread = float(np.sqrt(((residual - means[point]) ** 2).sum() / free))
        if spread > 0:
            return _Noise(100 * spread, "between repeated runs")
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    return _Noise(100 * spread, "of the residuals (robust s.d.)")


def _outliers(residual: Array, noise: _Noise) -> list[int]:
    """Rows of the runs furthest from the law, in units of the residuals' own spread."""
    own = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    if not max(own, noise.percent) > 0:
        return []
    order = np.argsort(-np.abs(residual), kind="stable")[:_MOST_NAMED]
    return [int(row) for row in order if abs(residual[row]) > _OUTLIER * max(own, noise.percent)]


def _limit(residual: Array, noise: _Noise) -> float:
    """Half the height of the axis in %: all runs, unless a few would squeeze the rest."""
    largest = float(np.abs(residual).max())
    middle = float(np.quantile(np.abs(residual), 0.95))
    wide = max(_CLIPPED * noise.percent, 2 * middle)
    limit = 1.12 * (largest if largest <= wide else wide)
    return limit if limit > 0 else 0.1


def _draw_panel(
    ax: Axes, x: Array, residual: Array, held: np.ndarray, noise: _Noise, limit: float
) -> bool:
    """Draw a panel; return whether it has a line of medians."""
    band: Look = {"color": LAW_COLOURS[0], "alpha": 0.13, "lw": 0, "zorder": 1}
    ax.axhspan(-noise.percent, noise.percent, label="noise", **band)
    ax.axhline(0, color=MUTED, lw=0.7, zorder=2)
    inside = np.abs(residual) <= limit
    many = len(x) > _MANY
    look: Look = {"color": INK, "ms": marker_size(len(x)), "rasterized": many}
    own, out = inside & ~held, inside & held
    alpha = 0.35 if many else 0.75
    ax.plot(x[own], residual[own], "o", mew=0, alpha=alpha, zorder=3, label="runs", **look)
    ax.plot(x[out], residual[out], "o", mew=0.8, mfc="white", zorder=4, label="held out", **look)
    for sign, marker in ((1, "^"), (-1, "v")):
        beyond = ~inside & (np.sign(residual) == sign)
        y = np.full(int(beyond.sum()), _EDGE * sign * limit)
        ax.plot(x[beyond], y, marker, ms=4, mew=0, color=INK, zorder=4, label="beyond")
    if len(x) < _LEAST_FOR_A_MEDIAN:
        return False
    ax.plot(*_running_median(x, residual), color=LAW_COLOURS[1], lw=1.5, zorder=5, label="median")
    return True


def _running_median(x: Array, residual: Array) -> tuple[Array, Array]:
    """Median residual at every level of x, or, if many, over a sliding tenth of the runs."""
    level = levels(x)
    number = int(level.max()) + 1
    if number <= _MOST_LEVELS:
        groups = [np.flatnonzero(level == one) for one in range(number)]
    else:
        order = np.argsort(x, kind="stable")
        window = max(7, len(x) // 10)
        starts = np.unique(np.linspace(0, max(0, len(x) - window), 60).astype(int))
        groups = [order[start : start + window] for start in starts]
    at = np.array([float(np.exp(np.log(x[rows]).mean())) for rows in groups])
    return at, np.array([float(np.median(residual[rows])) for rows in groups])


def _run_id(fit: Fit, row: int) -> str:
    run_id = one_line(fit.table.frame["run_id"].iloc[row])
    return literal(run_id if len(run_id) <= 16 else f"{run_id[:15]}…")


def _name(fit: Fit, row: int, residual: Array) -> str:
    return f"{_run_id(fit, row)} {_signed(round(float(residual[row]), 1), 0)}%"


def _signed(value: float, _: float) -> str:
    """With a sign that can be seen at this size."""
    return f"{value:+g}".replace("-", "\u2212") if round(value, 9) else "0"


def _entries(
    evidence: Evidence, fit: Fit, noise: _Noise, beyond: list[str], *, medians: bool
) -> Sequence[Entry]:
    entries = run_entries(evidence)
    band = Patch(color=LAW_COLOURS[0], alpha=0.2, lw=0)
    entries.append((band, f"±{noise.percent:.2g}%: spread {noise.text}"))
    if medians:
        entries.append((Line2D([], [], color=LAW_COLOURS[1], lw=1.5), "running median"))
    if beyond:
        triangle = Line2D([], [], marker="^", ls="", color=INK, ms=4, mew=0)
        more = f" and {len(beyond) - _MOST_BEYOND} more" if len(beyond) > _MOST_BEYOND else ""
        entries.append((triangle, f"beyond the axis: {', '.join(beyond[:_MOST_BEYOND])}{more}"))
    zero = Line2D([], [], color=MUTED, lw=0.7)
    entries.append((zero, f"{fit.law.name}: {fitted_formula(fit)}"))
    return entries
