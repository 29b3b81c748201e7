"""Loss curves by training tokens and by training compute, one colour a size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from llmscale.errors import InputError
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import LABELS, log_axis, log_loss_axis, padded
from llmscale.explain.figures._runs import ColourScale, draw_scale
from llmscale.explain.figures._style import CROSS, INK, Colour, Look, ordered_colours, style
from llmscale.quantity import format_count
from llmscale.runs.curve_file import each_curve

DRAWS = "curves"

SMOOTHED_SHARE = 0.02
"""Training loss is averaged over the logged steps around each, this share of the run."""
_MOST_POINTS = 300
LOGGED_STEPS = 400
"""About as many rows as sweeps log of a run."""
_MOST_LINES = 1000
_MOST_DOTS = 25
_MOST_LEGEND_SIZES = 12
_WARM_UP_SHARE = 0.03
"""The loss axis begins at the losses after this share of a run: earlier ones squeeze the rest."""


@dataclass(frozen=True)
class _Curve:
    """One run: tokens, flops and loss where it was evaluated, and of its smoothed training loss."""

    params: float
    diverged: bool
    evaluated: DataFrame
    trained: DataFrame

    @property
    def parts(self) -> tuple[DataFrame, DataFrame]:
        return self.evaluated, self.trained

    @property
    def marker(self) -> str:
        """A dot at each evaluation, unless they are many."""
        return "" if len(self.evaluated) > _MOST_DOTS else "o"

    @property
    def last_tokens(self) -> float:
        return max(float(part["tokens"].max()) for part in self.parts if len(part))


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """Evaluated loss as marked lines, smoothed training loss behind; diverged runs have a cross."""
    curves = _curves(evidence)
    sizes = sorted({curve.params for curve in curves})
    colours = dict(zip(sizes, ordered_colours(len(sizes)), strict=True))
    bottom, top = _loss_limits(curves)
    crowded = len(curves) > 3 * len(sizes)
    dots = not crowded and any(curve.marker for curve in curves)
    with style():
        figure = Figure(figsize=(width, 0.42 * width + 1.35), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for ax, x in zip(panels, ("tokens", "flops"), strict=True):
            if len(curves) > _MOST_LINES:
                _draw_together(ax, x, curves, colours)
            else:
                for curve in curves:
                    _draw_curve(ax, x, curve, colours[curve.params], crowded=crowded)
            for curve in curves:
                _draw_end(ax, x, curve, top)
            limits = _x_limits(curves, x, top)
            log_axis(ax.xaxis, limits, powers=x == "flops")
            ax.set_xlabel(LABELS[x].removesuffix(" D").replace(" C", ""))
        log_loss_axis(panels[0], (bottom, top), most=6, perplexity=False)
        panels[0].set_ylabel(LABELS["loss"])
        _legends(figure, panels, LABELS[evidence.table.count], colours, curves, title, dots=dots)
    return Drawing(figure, n_runs=len(curves), n_excluded=sum(curve.diverged for curve in curves))


def _curves(evidence: Evidence) -> list[_Curve]:
    if evidence.curves is None or evidence.runs is None or evidence.curves.empty:
        raise InputError(
            "there are no loss curves to draw: a table of runs alone has none",
            "give the folder of a sweep, as in: llmscale plot results/NAME --kind curves",
        )
    runs = evidence.runs.drop_duplicates("run_id").set_index("run_id")
    curves = {}
    columns = ("step", "tokens", "flops", "loss", "train_loss")
    for run_id, logged in each_curve(evidence.curves, columns, set(runs.index.astype(str))):
        rows = logged.sort_values("step")
        evaluated, trained = _finite(rows, "loss"), _finite(rows, "train_loss")
        window = max(3, round(SMOOTHED_SHARE * len(trained)))
        trained["loss"] = trained["loss"].rolling(window, center=True, min_periods=1).mean()
        if len(evaluated) + len(trained):
            params = float(runs.at[run_id, evidence.table.count])
            diverged = runs.at[run_id, "status"] == "diverged"
            curves[run_id] = _Curve(params, diverged, _lighter(evaluated), _lighter(trained))
    if not curves:
        raise InputError(
            "the loss curves hold no loss of a run in the table", "run the sweep again: it resumes"
        )
    return sorted((curves[run_id] for run_id in sorted(curves)), key=lambda curve: curve.params)


def _lighter(part: DataFrame) -> DataFrame:
    """Of more rows than sweeps log, as many as are drawn."""
    if len(part) <= 2 * LOGGED_STEPS:
        return part
    return part.iloc[_log_spaced(part["tokens"].to_numpy())].copy()


def _finite(rows: DataFrame, column: str) -> DataFrame:
    """tokens, flops and loss of the rows where `column` is a number."""
    part = rows[["tokens", "flops", column]].to_numpy(dtype=float)
    good = (np.isfinite(part) & (part > 0)).all(axis=1)
    return DataFrame(part[good], columns=["tokens", "flops", "loss"])


def _draw_curve(ax: Axes, x: str, curve: _Curve, colour: Colour, *, crowded: bool) -> None:
    thinned, evaluated = (
        curve.trained.iloc[_log_spaced(curve.trained[x].to_numpy())],
        curve.evaluated,
    )
    behind, strength = (0.12, 0.5) if crowded else (0.3, 1.0)
    ax.plot(thinned[x], thinned["loss"], color=colour, alpha=behind, lw=0.8, zorder=2)
    marker = "" if crowded else curve.marker
    look: Look = {"color": colour, "alpha": strength, "lw": 1.1, "marker": marker, "ms": 2.2}
    ax.plot(evaluated[x], evaluated["loss"], zorder=3, **look)


def _draw_together(
    ax: Axes, x: str, curves: Sequence[_Curve], colours: dict[float, Colour]
) -> None:
    """The curves of a size as one, as thousands of lines would take minutes."""
    for size, colour in colours.items():
        of_size = [curve for curve in curves if curve.params == size]
        parts = [curve.trained.iloc[_log_spaced(curve.trained[x].to_numpy())] for curve in of_size]
        behind: Look = {"alpha": 0.12, "lw": 0.8, "zorder": 2}
        front: Look = {"alpha": 0.5, "lw": 1.1, "zorder": 3}
        for lines, look in ((parts, behind), ([c.evaluated for c in of_size], front)):
            points = [part[[x, "loss"]].to_numpy() for part in lines]
            ax.add_collection(LineCollection(points, colors=[colour], **look), autolim=False)


def _draw_end(ax: Axes, x: str, curve: _Curve, top: float) -> None:
    if curve.diverged:
        ends = [part.iloc[-1] for part in curve.parts if len(part)]
        last = max(ends, key=lambda row: float(row[x]))
        ax.plot(last[x], min(last["loss"], top), clip_on=False, zorder=5, **CROSS)


def _legends(
    figure: Figure,
    panels: Sequence[Axes],
    counted: str,
    colours: dict[float, Colour],
    curves: Sequence[_Curve],
    title: str | None,
    *,
    dots: bool,
) -> None:
    """The title and the sizes above the panels, kinds of lines below them."""
    training = f"training, mean over {SMOOTHED_SHARE:.0%} of the run"
    marker = "o" if dots else ""
    lines = [
        Line2D([], [], color=INK, lw=1.1, marker=marker, ms=2.2, label="validation"),
        Line2D([], [], color=INK, lw=0.8, alpha=0.3, label=training),
    ]
    if any(curve.diverged for curve in curves):
        lines.append(Line2D([], [], label="diverged", **CROSS))
    figure.legend(
        handles=lines, loc="outside lower center", ncols=3, columnspacing=0.9, handlelength=1.4
    )
    norm = LogNorm(min(colours), max(colours)) if len(colours) > _MOST_LEGEND_SIZES else None
    scale = ColourScale(tuple(colours), tuple(colours.values()), norm)
    draw_scale(figure, panels, scale, counted, format_count, title)


def _loss_limits(curves: Sequence[_Curve]) -> tuple[float, float]:
    """From the lowest loss to the highest after warm-up, whatever diverged runs rose to."""
    lows, highs = [], []
    for curve in curves:
        for part in curve.parts:
            late = part["loss"][part["tokens"] >= _WARM_UP_SHARE * curve.last_tokens]
            if len(late):
                lows.append(float(late.min()))
                highs += [] if curve.diverged else [float(late.max())]
    return padded(min(lows), max(highs or [2 * min(lows)]))


def _x_limits(curves: Sequence[_Curve], x: str, top: float) -> tuple[float, float]:
    """From where the first curve comes into sight below `top` to the end of the longest."""
    both = [curve.evaluated for curve in curves] + [curve.trained for curve in curves]
    parts = [part for part in both if len(part)]
    seen = [float(part[x][part["loss"] <= top].min()) for part in parts]
    return padded(np.nanmin(seen), max(float(part[x].max()) for part in parts), 0.03)


def _log_spaced(x: np.ndarray) -> np.ndarray:
    """Indices of at most 300 points, evenly spaced on a log axis: long runs make no heavy file."""
    if len(x) <= _MOST_POINTS:
        return np.arange(len(x))
    wanted = np.geomspace(x[0], x[-1], _MOST_POINTS)
    return np.unique(np.clip(np.searchsorted(x, wanted), 0, len(x) - 1))
