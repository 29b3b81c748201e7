"""Loss curves by training tokens and by training compute, one colour a size."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from llmscale.errors import InputError
from llmscale.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.figures._axes import LABELS, log_count_axis, log_loss_axis, padded
from llmscale.figures._style import ALARM, INK, Colour, ordered_colours, sequence, style
from llmscale.quantity import format_count

DRAWS = "curves"

SMOOTHED_SHARE = 0.02
"""Training loss is averaged over the steps around each that make up this share of the run."""
_MOST_POINTS = 300
_MOST_LEGEND_SIZES = 12
_SHOWN_TOKENS = 0.004


@dataclass(frozen=True)
class _Curve:
    """One run: the rows of its curve, its size and whether it diverged."""

    params: float
    diverged: bool
    rows: DataFrame


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """Evaluated loss as marked lines, smoothed training loss lightly behind, diverged runs ending in a cross."""
    curves = _curves(evidence)
    sizes = sorted({curve.params for curve in curves})
    colours = dict(zip(sizes, ordered_colours(len(sizes)), strict=True))
    low, high = _loss_limits(curves)
    with style():
        figure = Figure(figsize=(width, 0.42 * width + 1.3), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for ax, x in zip(panels, ("tokens", "flops"), strict=True):
            for curve in curves:
                _draw_curve(ax, x, curve, colours[curve.params], high, crowded=len(curves) > 3 * len(sizes))
            limits = _x_limits(curves, x)
            ax.set_xscale("log")
            ax.set_xlim(*limits)
            log_count_axis(ax.xaxis, limits, powers=x == "flops")
            ax.set_xlabel(LABELS[x].removesuffix(" D").replace(" C", ""))
        log_loss_axis(panels[0], (low, high), perplexity=False)
        panels[0].set_ylabel(LABELS["loss"])
        if title:
            figure.suptitle(title)
        _legend(figure, panels, sizes, colours, curves)
    return Drawing(figure, n_runs=len(curves), n_excluded=sum(curve.diverged for curve in curves))


def _curves(evidence: Evidence) -> list[_Curve]:
    if evidence.curves is None or evidence.runs is None or evidence.curves.empty:
        raise InputError(
            "there are no loss curves to draw: a table of runs alone has none",
            "give the folder of a sweep, as in: llmscale plot results/NAME --kind curves",
        )
    count = evidence.table.count
    runs = evidence.runs.drop_duplicates("run_id").set_index("run_id")
    by_run = evidence.curves.sort_values("step").groupby("run_id", sort=True)
    curves = [
        _Curve(float(runs.at[run_id, count]), runs.at[run_id, "status"] == "diverged", rows)
        for run_id, rows in by_run
        if run_id in runs.index
    ]
    return sorted(curves, key=lambda curve: curve.params)


def _draw_curve(ax: Axes, x: str, curve: _Curve, colour: Colour, ceiling: float, *, crowded: bool) -> None:
    rows = curve.rows[curve.rows[x] > 0]
    trained = rows[np.isfinite(rows["train_loss"].astype(float))]
    window = max(3, round(SMOOTHED_SHARE * len(trained)))
    smooth = trained["train_loss"].astype(float).rolling(window, center=True, min_periods=1).mean()
    shown = _log_spaced(trained[x].to_numpy(float))
    faint = 0.12 if crowded else 0.3
    ax.plot(trained[x].to_numpy(float)[shown], smooth.to_numpy()[shown], color=colour, alpha=faint, lw=0.8, zorder=2)
    evaluated = rows[np.isfinite(rows["loss"].astype(float))]
    marker = "" if crowded or len(evaluated) > 25 else "o"
    strong = 0.5 if crowded else 1.0
    ax.plot(evaluated[x], evaluated["loss"], color=colour, alpha=strong, lw=1.1, marker=marker, ms=2.2, zorder=3)
    if curve.diverged and len(rows):
        last = trained.index[-1] if len(trained) else rows.index[-1]
        height = min(smooth.iloc[-1], ceiling) if len(trained) else ceiling
        ax.plot(rows.at[last, x], height, "x", color=ALARM, ms=4.5, mew=1.3, clip_on=False, zorder=5)


def _legend(
    figure: Figure,
    panels: list[Axes],
    sizes: list[float],
    colours: dict[float, Colour],
    curves: list[_Curve],
) -> None:
    lines = [
        Line2D([], [], color=INK, lw=1.1, marker="o", ms=2.2, label="validation"),
        Line2D([], [], color=INK, alpha=0.3, lw=0.8, label=f"training, smoothed over {SMOOTHED_SHARE:.0%} of the run"),
    ]
    if any(curve.diverged for curve in curves):
        lines.append(Line2D([], [], color=ALARM, marker="x", ms=4.5, mew=1.3, ls="", label="diverged"))
    if len(sizes) <= _MOST_LEGEND_SIZES:
        lines += [Line2D([], [], color=colours[size], lw=2.2, label=format_count(size)) for size in sizes]
    else:
        norm = LogNorm(sizes[0], sizes[-1])
        bar = figure.colorbar(ScalarMappable(norm, sequence()), ax=panels, location="top", aspect=40, pad=0.02)
        bar.set_label("Parameters N")
        log_count_axis(bar.ax.xaxis, (sizes[0], sizes[-1]))
    figure.legend(handles=lines, loc="outside lower center", ncols=3)


def _loss_limits(curves: list[_Curve]) -> tuple[float, float]:
    """From the lowest loss to the highest after the first fiftieth of a run, those of diverged runs aside."""
    lows, highs = [], []
    for curve in curves:
        late = curve.rows[curve.rows["tokens"] >= 0.02 * curve.rows["tokens"].max()]
        losses = np.concatenate([late["train_loss"].to_numpy(float), late["loss"].to_numpy(float)])
        losses = losses[np.isfinite(losses)]
        if len(losses):
            lows.append(losses.min())
            if not curve.diverged:
                highs.append(losses.max())
    if not lows:
        return 1.0, 10.0
    return padded(min(lows), max(highs or lows))


def _x_limits(curves: list[_Curve], x: str) -> tuple[float, float]:
    ends = [float(curve.rows[x].max()) for curve in curves]
    starts = [
        max(float(curve.rows[x][curve.rows[x] > 0].min()), _SHOWN_TOKENS * end)
        for curve, end in zip(curves, ends, strict=True)
    ]
    return padded(min(starts), max(ends), 0.03)


def _log_spaced(x: np.ndarray) -> np.ndarray:
    """Indices of at most 300 points, evenly spaced on a log axis, so that a long run does not make a heavy file."""
    if len(x) <= _MOST_POINTS:
        return np.arange(len(x))
    wanted = np.geomspace(x[0], x[-1], _MOST_POINTS)
    return np.unique(np.clip(np.searchsorted(x, wanted), 0, len(x) - 1))
