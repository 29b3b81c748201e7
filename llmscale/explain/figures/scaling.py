"""Loss against size on log axes: runs, the laws with their bands, the held-out check, and what was
excluded.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from llmscale.errors import counted
from llmscale.explain.estimation.levels import levels
from llmscale.explain.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.explain.figures._axes import LABELS, log_axis, log_loss_axis, padded
from llmscale.explain.figures._legend import holdout_label, law_label
from llmscale.explain.figures._repeats import Repeats, repeats
from llmscale.explain.figures._runs import (
    Entry,
    draw_bar,
    excluded_entries,
    held_out,
    label,
    loss_label,
    mark_excluded,
)
from llmscale.explain.figures._style import (
    DOT,
    INK,
    LAW_COLOURS,
    MUTED,
    OPEN_DOT,
    SHORT_DASHES,
    Colour,
    Look,
    ordered_colours,
    sequence,
    style,
)
from llmscale.explain.figures._text import literal
from llmscale.explain.fit import Fit
from llmscale.explain.forecast.forecast import law_band
from llmscale.explain.laws import Array
from llmscale.quantity import format_count

DRAWS = "laws"

_MOST_BUDGETS = 7
"""Up to here every token budget has its own colour and curve; beyond, there is a colour bar."""
_CURVES_BESIDE_A_BAR = 5
_GRID_POINTS = 160
_MOST_ERROR_BARS = 8
_STYLES: tuple[Any, ...] = ("solid", (0, (1, 1.2)), (0, (4, 1, 1, 1)))


@dataclass(frozen=True)
class _Budget:
    """Runs of one number of tokens, `tokens` None if the figure does not tell budgets apart."""

    tokens: float | None
    colour: Colour | str
    rows: pd.DataFrame


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """The runs of the table, a line and a band for every law, dashed beyond the sizes measured."""
    frame, fits = evidence.table.frame, evidence.fits
    x = fits[0].law.inputs[0] if fits else "params"
    holdout = next((fit.holdout for fit in fits if fit.holdout), None)
    held = held_out(evidence)
    lost = _excluded(evidence, x)
    low, high = float(frame[x].min()), float(frame[x].max())
    beyond = max(1.6, (high / low) ** 0.15)
    reach = min([low / beyond**0.6, *lost[x]]), max([high * beyond, *lost[x]])
    budgets, bar = _budgets(frame, x)
    alike = repeats(frame, shaded=len(budgets) == 1)
    with style():
        figure = Figure(
            figsize=(width, _height(width, fits, len(alike.shades))), layout="constrained"
        )
        ax = figure.subplots()
        curves: list[Array] = []
        for order, fit in enumerate(fits):
            curves += _draw_law(ax, fit, order, x, budgets, reach, many_budgets=len(budgets) > 1)
        for budget in budgets if bar is None else _coloured(frame, bar):
            for part in _parts(budget, alike):
                _draw_runs(ax, x, part, held, alike)
        if holdout is not None:
            _draw_prediction(ax, x, holdout.runs, _law_colour(0, len(budgets) > 1))
        plain = bool(fits) and fits[0].law.plain
        told = None if holdout is None else holdout.runs
        bottom, top = _loss_limits(frame, curves, told, plain=plain)
        if len(lost):
            mark_excluded(ax, lost[x])
            more = (top - bottom) if plain else top * math.log(top / bottom)
            top += 0.08 * more
        _draw_floors(ax, fits, bottom, top, many_budgets=len(budgets) > 1)
        limits = padded(*reach, 0.01 if len(lost) == 0 else 0.03)
        log_axis(ax.xaxis, limits, powers=x == "flops")
        ax.set_xlabel(label(evidence, x))
        if plain:
            ax.set_ylim(bottom, top)
            ax.set_ylabel(literal(fits[0].metric))
        else:
            log_loss_axis(ax, (bottom, top), perplexity=evidence.table.metric == "loss")
            ax.set_ylabel(loss_label(evidence))
        if title:
            ax.set_title(title)
        _legends(figure, ax, evidence, budgets, bar, width, alike)
    n_excluded, n_held_out = len(evidence.table.excluded), int(held.sum())
    return Drawing(figure, len(frame), n_excluded, n_held_out)


def _height(width: float, fits: Sequence[Fit], shades: int) -> float:
    """Inches: the axes keep their shape, the legend below grows with the laws and shades."""
    lines = [1 + math.ceil(len(fit.law.coefficients()) * 1.25 / width) for fit in fits]
    return 0.66 * width + 0.55 + 0.14 * (sum(lines) + shades)


def _budgets(frame: pd.DataFrame, x: str) -> tuple[list[_Budget], LogNorm | None]:
    """The token budgets to tell apart by colour, and the norm of a colour bar if they are many."""
    tokens = frame["tokens"].to_numpy(float)
    if x != "params" or not np.isfinite(tokens).all():
        return [_Budget(None, INK, frame)], None
    level = levels(tokens)
    number = int(level.max()) + 1
    if number == 1:
        return [_Budget(float(np.median(tokens)), INK, frame)], None
    if number <= _MOST_BUDGETS:
        groups = {float(rows["tokens"].median()): rows for _, rows in frame.groupby(level)}
        colours = ordered_colours(number)
        ordered = zip(sorted(groups), colours, strict=True)
        return [_Budget(budget, colour, groups[budget]) for budget, colour in ordered], None
    norm = LogNorm(float(tokens.min()), float(tokens.max()))
    centres = np.quantile(tokens, np.linspace(0.05, 0.95, _CURVES_BESIDE_A_BAR))
    centres = np.unique([float(f"{centre:.1g}") for centre in centres])
    nearest = np.abs(np.log(tokens[:, None] / centres)).argmin(axis=1)
    return [
        _Budget(float(centre), tuple(sequence()(norm(centre))), frame[nearest == index])
        for index, centre in enumerate(centres)
    ], norm


def _coloured(frame: pd.DataFrame, norm: LogNorm) -> Iterable[_Budget]:
    """Every run in the colour of its own tokens."""
    for tokens, rows in frame.groupby("tokens"):
        yield _Budget(float(tokens), tuple(sequence()(norm(tokens))), rows)


def _law_colour(order: int, many_budgets: bool) -> str:
    """Colours tell laws apart, or token budgets if there are several: then laws are grey."""
    palette = (INK, MUTED) if many_budgets else LAW_COLOURS
    return palette[order % len(palette)]


def _draw_law(
    ax: Axes,
    fit: Fit,
    order: int,
    x: str,
    budgets: Sequence[_Budget],
    reach: tuple[float, float],
    *,
    many_budgets: bool,
) -> list[Array]:
    """Draw a law, once a budget if it depends on tokens; return the losses along its lines."""
    by_budget = "tokens" in fit.law.inputs and x != "tokens"
    drawn = budgets if by_budget else [_Budget(None, INK, fit.table.frame)]
    losses = []
    for budget in drawn:
        if budget.rows.empty:
            continue
        if by_budget and many_budgets:
            colour, line = budget.colour, _STYLES[order % len(_STYLES)]
        else:
            colour, line = _law_colour(order, many_budgets), "solid"
        first, last = float(budget.rows[x].min()), float(budget.rows[x].max())
        start, stop = reach
        if by_budget:
            start, stop = max(start, first / 2), min(stop, last * 2)
        pieces = (
            (start, first, SHORT_DASHES, 0.5),
            (first, last, line, 1.0),
            (last, stop, SHORT_DASHES, 0.5),
        )
        for a, b, line_style, share in pieces:
            if not b > a:
                continue
            grid = np.geomspace(a, b, _GRID_POINTS)
            at = _inputs(fit, x, grid, budget)
            loss = fit.loss(**at)
            low, high = law_band(fit, **at)
            weight = 1.4 if order == 0 else 1.0
            name, below = fit.law.name, 0.1 * order
            look: Look = {"color": colour, "lw": weight, "ls": line_style, "zorder": 3 - below}
            ax.plot(grid, loss, label=f"law {name}", **look)
            if np.isfinite(low).all():
                alpha = (0.22 if order == 0 else 0.15) * share
                look = {"color": colour, "lw": 0, "alpha": alpha, "zorder": 2 - below}
                ax.fill_between(grid, low, high, label=f"band {name}", **look)
            losses.append(loss)
    return losses


def _inputs(fit: Fit, x: str, grid: Array, budget: _Budget) -> dict[str, Any]:
    """What the law takes along the line: x varies, tokens are the budget's, others the median."""
    values = {name: float(budget.rows[name].median()) for name in fit.law.inputs if name != x}
    if budget.tokens and "tokens" in values:
        values["tokens"] = budget.tokens
    at = {name: np.full(len(grid), value) for name, value in values.items()}
    return at | {x: grid} if x in fit.law.inputs else at


def _parts(budget: _Budget, alike: Repeats) -> list[_Budget]:
    """The runs of each shade."""
    if not alike.shades:
        return [budget]
    return [_Budget(budget.tokens, colour, rows) for colour, rows in alike.parts(budget.rows)]


def _draw_runs(ax: Axes, x: str, budget: _Budget, held: np.ndarray, alike: Repeats) -> None:
    """One marker a size, open if held out; if it has several seeds, their mean, seeds as dots."""
    for mask, face in ((~held, budget.colour), (held, "white")):
        rows = budget.rows[mask[budget.rows.index]]
        if rows.empty:
            continue
        sizes = [group for _, group in rows.groupby(levels(rows[x].to_numpy(float)))]
        seeds = pd.concat([group for group in sizes if len(group) > 1] or [rows.iloc[:0]])
        if budget.tokens is not None or rows["tokens"].isna().all():
            look: Look = {"color": budget.colour, "ms": 2.2, "alpha": 0.8, "zorder": 4.6}
            of_point = "seeds" if alike.are == "seeds" else "each"
            ax.plot(seeds[x], seeds["loss"], ".", label=of_point, **look)
            points = [(float(group[x].mean()), float(group["loss"].mean())) for group in sizes]
        else:
            points = list(zip(rows[x], rows["loss"], strict=True))
        look = {"mew": 0, "zorder": 4, "label": "runs"}
        if face == "white":
            look = {"mew": 0.9, "zorder": 5, "label": "held out"}
        size = 4.2 if len(held) <= 60 else 2.6
        ax.plot(*zip(*points, strict=True), "o", ms=size, mfc=face, mec=budget.colour, **look)


def _draw_prediction(ax: Axes, x: str, runs: pd.DataFrame, colour: Colour | str) -> None:
    """The law fitted without the held-out runs, at their place, with its interval for a new run."""
    once = runs.drop_duplicates([x, "tokens"])  # seeds share one prediction
    if len(once) > _MOST_ERROR_BARS:
        return
    ends = once[["low", "high"]].to_numpy().T - once["predicted"].to_numpy()
    bars: Look = {
        "yerr": np.abs(np.nan_to_num(ends)),
        "elinewidth": 0.9,
        "capsize": 2.2,
        "capthick": 0.9,
    }
    look: Look = {"fmt": "_", "ms": 9, "mew": 1.2, "color": colour, "zorder": 4.5}
    ax.errorbar(once[x], once["predicted"], label="prediction", **bars, **look)


def _draw_floors(
    ax: Axes, fits: Sequence[Fit], bottom: float, top: float, *, many_budgets: bool
) -> None:
    for order, fit in enumerate(fits):
        value = fit.law.coefficients().get(fit.law.floor or "")
        if value and bottom < value < top:
            colour = _law_colour(order, many_budgets)
            ax.axhline(value, color=colour, lw=0.6, ls=(0, (1, 2)), zorder=1)
            at: Look = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            at |= {"xy": (0.01, value), "xytext": (0, 1.5)}
            ax.annotate(f"floor {fit.law.floor}", **at, fontsize=6, color=MUTED)


def _excluded(evidence: Evidence, x: str) -> pd.DataFrame:
    """Where the excluded runs lie on the x axis, as far as the table of all runs tells."""
    column = evidence.table.count if x == "params" else x
    if evidence.runs is None or column not in evidence.runs:
        return pd.DataFrame({x: []}, dtype=float)
    ids = [run.run_id for run in evidence.table.excluded]
    rows = evidence.runs[evidence.runs["run_id"].isin(ids)]
    values = pd.to_numeric(rows[column], errors="coerce")
    return pd.DataFrame({x: values[values > 0].astype(float).to_numpy()})


def _loss_limits(
    frame: pd.DataFrame, curves: Sequence[Array], predicted: pd.DataFrame | None, *, plain: bool
) -> tuple[float, float]:
    """Around runs, lines and predictions; bands and intervals may run out of the figure.
    Of a plain law on an axis that is not logarithmic."""
    measured = frame["loss"].to_numpy(float)
    values = np.concatenate([measured, *curves])
    low, high = float(values.min()), float(values.max())
    if plain:
        margin = 0.05 * max(high - low, 1e-9)
        return low - margin, high + margin
    if predicted is not None and len(predicted) <= _MOST_ERROR_BARS:
        ends = predicted[["predicted", "low", "high"]].to_numpy(float)
        ends = ends[np.isfinite(ends)]
        room = (high / low) ** 0.25
        lowest, highest = max(float(ends.min()), low / room), min(float(ends.max()), high * room)
        low, high = min(low, lowest), max(high, highest)
    return padded(low, high)


def _legends(
    figure: Figure,
    ax: Axes,
    evidence: Evidence,
    budgets: Sequence[_Budget],
    bar: LogNorm | None,
    width: float,
    alike: Repeats,
) -> None:
    """Budgets above the axes, everything else below them, so that nothing covers the runs."""
    if bar is not None:
        draw_bar(figure, ax, bar, LABELS["tokens"])
    elif len(budgets) > 1:
        named = [(budget.colour, format_count(budget.tokens or 0)) for budget in budgets]
        handles = [Line2D([], [], color=colour, lw=2.2, label=text) for colour, text in named]
        columns = min(len(handles), round(width / 0.68))
        figure.legend(
            handles=handles, title=LABELS["tokens"], loc="outside upper center", ncols=columns
        )

    mixed = len(budgets) > 1
    frame = evidence.table.frame
    runs = counted(len(frame), "run")
    sizes = int(levels(frame["params"].to_numpy(float)).max()) + 1
    described = f"{runs} of {sizes} sizes" if sizes > 1 else runs
    if not mixed and budgets[0].tokens is not None:
        described += f", {format_count(budgets[0].tokens)} tokens each"
    if not mixed and alike.are:
        described += f" (dots: {alike.are})"
    colour = MUTED if mixed else INK
    entries: list[Entry] = [(Line2D([], [], color=colour, **DOT), described), *alike.entries()]
    holdout = next((fit.holdout for fit in evidence.fits if fit.holdout), None)
    if holdout is not None:
        entries.append((Line2D([], [], mec=INK, **OPEN_DOT), holdout_label(holdout)))
    entries += excluded_entries(run.reason for run in evidence.table.excluded)
    for order, fit in enumerate(evidence.fits):
        colour, dashes = _law_colour(order, mixed), "solid"
        if mixed and "tokens" in fit.law.inputs:
            dashes = _STYLES[order % len(_STYLES)]
        line = Line2D([], [], color=colour, lw=1.4, ls=dashes)
        handle = (Patch(color=colour, alpha=0.2, lw=0), line) if fit.intervals else line
        entries.append((handle, law_label(fit, width, first=order == 0)))
    handles_, labels = zip(*entries, strict=True)
    figure.legend(handles_, labels, loc="outside lower center")
