"""Training curves against compute with the lowest loss of any size at each, and the optimal sizes
that follow.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from llmscale.errors import InputError, counted
from llmscale.explain.allocation import Allocation
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import LABELS, log_axis, log_loss_axis, padded
from llmscale.explain.figures._optima import draw_optima
from llmscale.explain.figures._runs import (
    SIDE_BY_SIDE,
    ColourScale,
    Entry,
    colour_scale,
    draw_scale,
    excluded_entries,
    label,
    legend_below,
    muted_line,
)
from llmscale.explain.figures._style import CROSS, INK, MUTED, Look, style
from llmscale.explain.figures.curves import SMOOTHED_SHARE
from llmscale.explain.laws import Array
from llmscale.quantity import format_count
from llmscale.runs.curve_file import each_curve

DRAWS = "curves"
METHOD = "envelope"
_NO_OPTIMA = "no N*(C): fewer than 3 sizes are passed by a larger one"

_BIN = 0.02
_GRID = 600
_WARM_UP_SHARE = 0.03
"""The loss axis begins at the losses after this share of a run."""
_LEAST_EVALUATED = 5
"""As allocation/envelope.py: a run with fewer evaluations is drawn by its training loss."""


@dataclass(frozen=True)
class _Curve:
    """One run: ln C, and loss where evaluated or smoothed, averaged within 2% of compute."""

    params: float
    log_flops: Array
    loss: Array
    lost: str | None
    """Why the run is excluded."""


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """Loss against FLOPs, one colour a size, and N*(C) next to it if found."""
    curves = _curves(evidence)
    found = evidence.allocation
    allocation = found if isinstance(found, Allocation) else None
    scale = colour_scale(np.array([curve.params for curve in curves]))
    beside = width >= SIDE_BY_SIDE
    with style():
        panels = 1 if allocation is None else 2
        height = 0.36 * width + 1.3 if beside else (0.62 * panels + 0.12) * width + 1.3
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(*((1, panels) if beside else (panels, 1)), squeeze=False).flat)
        entries = _draw_curves(axes[0], curves, scale, allocation)
        if allocation is None:
            entries.append(muted_line(_NO_OPTIMA))
        else:
            entries += draw_optima(axes[1], allocation, scale, by="params")
        below = axes if beside else axes[0]
        draw_scale(figure, below, scale, label(evidence, "params"), format_count, title)
        legend_below(figure, entries, 2 if beside else 1)
    return Drawing(
        figure, n_runs=len(curves), n_excluded=sum(curve.lost is not None for curve in curves)
    )


def _curves(evidence: Evidence) -> list[_Curve]:
    """Raises InputError if there are none."""
    if evidence.curves is None or evidence.curves.empty:
        raise InputError(
            "there are no loss curves to draw: a table of runs alone has none",
            "give the folder of a sweep, as in: llmscale plot results/NAME --kind envelope",
        )
    frame = evidence.table.frame
    params_of = dict(zip(frame["run_id"].astype(str), frame["params"].astype(float), strict=True))
    lost = {run.run_id: run for run in evidence.table.excluded}
    for name, run in lost.items():
        params_of.setdefault(name, float(run.values.get("params", np.nan)))
    by_id = {}
    for run_id, rows in each_curve(evidence.curves, ("flops", "loss", "train_loss"), params_of):
        params = params_of[run_id]
        why = lost[run_id].reason if run_id in lost else None
        curve = _curve(rows, params, why)
        if np.isfinite(params) and curve is not None:
            by_id[run_id] = curve
    curves = [by_id[run_id] for run_id in sorted(by_id)]
    if not curves:
        raise InputError(
            "the loss curves hold no loss of a run in the table", "run the sweep again: it resumes"
        )
    return sorted(curves, key=lambda curve: curve.params)


def _curve(rows: DataFrame, params: float, lost: str | None) -> _Curve | None:
    enough = np.isfinite(rows["loss"].to_numpy(dtype=float)).sum() >= _LEAST_EVALUATED
    loss = rows["loss" if enough else "train_loss"].to_numpy(dtype=float)
    flops = rows["flops"].to_numpy(dtype=float)
    good = np.isfinite(loss) & np.isfinite(flops) & (loss > 0) & (flops > 0)
    if good.sum() < 2:
        return None
    own = DataFrame({"x": np.log(flops[good]), "y": np.log(loss[good])})
    own = own.sort_values("x", kind="stable")
    if not enough:
        window = max(3, round(SMOOTHED_SHARE * len(own)))
        own["y"] = own["y"].rolling(window, center=True, min_periods=1).mean()
    own = own.groupby(np.floor(own["x"] / _BIN)).mean()
    return _Curve(params, own["x"].to_numpy(), np.exp(own["y"].to_numpy()), lost)


def _draw_curves(
    ax: Axes, curves: list[_Curve], scale: ColourScale, allocation: Allocation | None
) -> list[Entry]:
    lows, highs, seen = [], [], []
    for curve in curves:
        look: Look = {"color": scale(curve.params), "lw": 0.9, "alpha": 0.75, "zorder": 2}
        ax.plot(np.exp(curve.log_flops), curve.loss, label="run", **look)
        late = curve.loss[curve.log_flops >= curve.log_flops[-1] + np.log(_WARM_UP_SHARE)]
        lows.append(float(late.min()))
        highs += [] if curve.lost else [float(late.max())]
    bottom, top = padded(min(lows), max(highs or [2 * min(lows)]), 0.05)
    for curve in curves:
        below = curve.loss <= top
        seen += [float(np.exp(curve.log_flops[below][0]))] if below.any() else []
        if curve.lost is not None:
            last = np.exp(curve.log_flops[-1]), min(float(curve.loss[-1]), top)
            ax.plot(*last, clip_on=False, zorder=6, label="excluded", **CROSS)
    finished = [curve for curve in curves if curve.lost is None]
    line = Line2D([], [], color=MUTED, lw=0.9)
    entries: list[Entry] = [(line, f"loss in training, {counted(len(curves), 'run')}")]
    if finished:
        ax.plot(*_envelope(finished), color=INK, lw=1.3, zorder=4, label="envelope")
        entries.append((Line2D([], [], color=INK, lw=1.3), "envelope: the lowest loss of any run"))
    entries += excluded_entries(curve.lost for curve in curves if curve.lost)
    if allocation is not None:
        for row in allocation.budgets.itertuples():
            colour = scale(float(row.params))
            look = {"mfc": colour, "mec": INK, "label": "optimum"}
            if not row.used:
                look = {"mfc": "white", "mec": colour, "label": "optimum left out"}
            ax.plot(row.flops, row.loss, "o", ms=4.2, mew=0.7, zorder=5, **look)
        marker = Line2D([], [], marker="o", ls="", color=MUTED, mec=INK, mew=0.7, ms=4.2)
        entries.append((marker, "where a size is on the envelope, in the middle"))
    limits = padded(min(seen), max(float(np.exp(curve.log_flops[-1])) for curve in curves), 0.03)
    log_axis(ax.xaxis, limits, powers=True)
    ax.set_xlabel(LABELS["flops"])
    log_loss_axis(ax, (bottom, top), perplexity=False)
    ax.set_ylabel(LABELS["loss"])
    return entries


def _envelope(curves: list[_Curve]) -> tuple[Array, Array]:
    """FLOPs and the lowest loss that any run has there."""
    ends = [(curve.log_flops[0], curve.log_flops[-1]) for curve in curves]
    grid = np.linspace(np.min(ends), np.max(ends), _GRID)
    losses = [np.interp(grid, c.log_flops, c.loss, left=np.inf, right=np.inf) for c in curves]
    return np.exp(grid), np.min(losses, axis=0)
