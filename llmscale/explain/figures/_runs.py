"""What figures of runs share: which are held out or excluded, their marks, their colours."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmscale.errors import InputError, counted
from llmscale.explain.estimation.levels import levels
from llmscale.explain.figures import Evidence
from llmscale.explain.figures._axes import LABELS, fixed_ticks, log_count_axis
from llmscale.explain.figures._legend import wrapped
from llmscale.explain.figures._style import (
    CROSS,
    DOT,
    INK,
    MUTED,
    OPEN_DOT,
    Colour,
    Look,
    ordered_colours,
    sequence,
)
from llmscale.explain.figures._text import literal
from llmscale.explain.fit import Fit
from llmscale.explain.laws import Array

Entry = tuple[Artist | tuple[Artist, ...], str]
"""A line of a legend."""

SIDE_BY_SIDE = 5.0
"""From this width in inches panels stand next to each other; in a column below each other."""
_MOST_COLOURS = 7


def first_fit(evidence: Evidence, kind: str) -> Fit:
    """The law that the figure is about. Raises InputError if none was fitted."""
    if not evidence.fits:
        raise InputError(
            f"--kind {kind} draws a fitted law, and there is none", "name one: --law chinchilla"
        )
    return evidence.fits[0]


def held_out(evidence: Evidence) -> np.ndarray:
    """Which runs of the table the held-out check left out, one truth a run."""
    holdout = next((fit.holdout for fit in evidence.fits if fit.holdout), None)
    ids = [] if holdout is None else holdout.runs["run_id"]
    return np.asarray(evidence.table.frame["run_id"].isin(ids))


def excluded(evidence: Evidence, *columns: str) -> pd.DataFrame:
    """The named columns of the excluded runs, as far as the source gives all of them."""
    rows = pd.DataFrame([run.values for run in evidence.table.excluded])
    numbers = rows.reindex(columns=list(columns)).apply(pd.to_numeric, errors="coerce")
    frame = numbers.astype(float)
    return frame[(np.isfinite(frame) & (frame > 0)).all(axis=1)].reset_index(drop=True)


def label(evidence: Evidence, column: str) -> str:
    """The name of a quantity on an axis, with what N counts if the table is one of ours."""
    if column == "params" and "params_non_embedding" not in evidence.table.frame:
        return "Parameters N"
    if column == "params":
        return LABELS[evidence.table.count]
    return LABELS.get(column) or literal(column.replace("_", " "))


def loss_label(evidence: Evidence) -> str:
    """What the losses are: nats per token, or made of an accuracy."""
    metric = evidence.table.metric
    return LABELS["loss"] if metric == "loss" else literal(metric)


def marker_size(runs: int) -> float:
    """Points across: smaller markers for more runs."""
    return 4.2 if runs <= 60 else 2.8 if runs <= 500 else 1.8


def run_entries(evidence: Evidence, colour: str = INK) -> list[Entry]:
    """Legend: the number of runs, the marks of held-out runs, and every reason to exclude some."""
    frame = evidence.table.frame
    held = held_out(evidence)
    entries: list[Entry] = [(Line2D([], [], color=colour, **DOT), counted(len(frame), "run"))]
    if held.any():
        marker = Line2D([], [], mec=colour, **OPEN_DOT)
        entries.append((marker, f"held out in the check: {counted(int(held.sum()), 'run')}"))
    return entries + excluded_entries(run.reason for run in evidence.table.excluded)


def excluded_entries(reasons: Iterable[str]) -> list[Entry]:
    """Legend: every reason for leaving runs out, with how many."""
    return [
        (Line2D([], [], **CROSS), f"excluded: {literal(reason)} ({counted(number, 'run')})")
        for reason, number in Counter(reasons).items()
    ]


def mark_excluded(ax: Axes, x: Sequence[float] | pd.Series, height: float = 0.965) -> None:
    """Crosses along the upper edge, as these runs have no loss."""
    upper = ax.get_xaxis_transform()
    ax.plot(x, np.full(len(x), height), transform=upper, zorder=6, label="excluded", **CROSS)


def draw_points(
    ax: Axes, x: Array, y: Array, held: np.ndarray, colour: Any, *, zorder: float = 4, **style: Any
) -> None:
    """Filled markers of runs, and open ones of those held out."""
    for mask, face, edge, name in ((~held, colour, 0, "runs"), (held, "white", 0.8, "held out")):
        look: Look = {"mfc": face, "mec": colour, "mew": edge, "zorder": zorder + edge, **style}
        ax.plot(x[mask], y[mask], "o", label=name, **look)


def legend_below(figure: Figure, entries: Sequence[Entry], columns: int = 1) -> None:
    """All entries in one legend below the axes, so that it covers no runs."""
    handles, labels = zip(*entries, strict=True)
    fitting = [wrapped(text, figure.get_figwidth() / columns) for text in labels]
    figure.legend(handles, fitting, loc="outside lower center", ncols=columns)


@dataclass(frozen=True)
class ColourScale:
    """Colours of a quantity: one a level if levels are few, else a scale; both dark to light."""

    values: tuple[float, ...]
    colours: tuple[Colour, ...]
    norm: LogNorm | None

    def __call__(self, value: float) -> Colour:
        if self.norm is not None:
            red, green, blue, opacity = sequence()(self.norm(value))
            return red, green, blue, opacity
        nearest = int(np.abs(np.log(np.array(self.values) / value)).argmin())
        return self.colours[nearest]


def colour_scale(values: Array) -> ColourScale:
    """A colour for each level of `values` if at most seven, else a logarithmic colour map."""
    index = levels(values)
    centres = tuple(float(np.median(values[index == one])) for one in range(int(index.max()) + 1))
    if len(centres) <= _MOST_COLOURS:
        return ColourScale(centres, tuple(ordered_colours(len(centres))), None)
    return ColourScale(centres, (), LogNorm(float(values.min()), float(values.max())))


def draw_scale(
    figure: Figure,
    axes: Axes | Sequence[Axes],
    scale: ColourScale,
    name: str,
    form: Callable[[float], str],
    title: str | None,
    *,
    powers: bool = False,
) -> None:
    """The meaning of colours above the axes: a legend of a few levels, or a bar; and the title."""
    if scale.norm is None:
        handles = [
            Line2D([], [], color=colour, lw=2.2, label=form(value))
            for value, colour in zip(scale.values, scale.colours, strict=True)
        ]
        across = max(1, round(figure.get_figwidth() / (0.85 if powers else 0.68)))
        rows = math.ceil(len(handles) / across)
        above = f"{title}\n{name}" if title else name  # not suptitle, which would lie on the legend
        columns = math.ceil(len(handles) / rows)
        legend = figure.legend(
            handles=handles, title=above, loc="outside upper center", ncols=columns
        )
        legend.get_title().set_multialignment("center")
        return
    if title:
        figure.suptitle(title)
    draw_bar(figure, axes, scale.norm, name, powers=powers)


def draw_bar(
    figure: Figure,
    axes: Axes | Sequence[Axes],
    norm: LogNorm,
    name: str,
    *,
    powers: bool = False,
    ticks: Sequence[float] | None = None,
) -> None:
    """A colour bar above the axes, with the ticks of a count, or those given."""
    bar = figure.colorbar(
        ScalarMappable(norm, sequence()),
        ax=axes,
        location="top",
        aspect=13 * figure.get_figwidth(),
        pad=0.02,
    )
    bar.set_label(name)
    bar.outline.set_linewidth(0.4)
    if ticks is None:
        log_count_axis(bar.ax.xaxis, (float(norm.vmin or 1), float(norm.vmax or 1)), powers=powers)
    else:
        fixed_ticks(bar.ax.xaxis, ticks)


def power_text(value: float) -> str:
    """`3·10^20` as mathtext with at most two digits."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    mantissa = f"{value / 10.0**exponent:.2g}"
    before = "" if mantissa == "1" else rf"{mantissa}\!\cdot\!"
    return rf"${before}10^{{{exponent}}}$"


def muted_line(text: str) -> Entry:
    """A line of the legend without a marker."""
    return Line2D([], [], ls="", color=MUTED), text
