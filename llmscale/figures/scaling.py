"""Loss against parameters on log axes: the runs, the law with its band, the held-out check, and what was left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from pandas import DataFrame

from llmscale.errors import InputError
from llmscale.figures import COLUMN_INCHES, Drawing, Evidence
from llmscale.figures._axes import LABELS, log_count_axis, log_loss_axis, padded
from llmscale.figures._style import ALARM, INK, LAW_COLOURS, MUTED, sequence, style
from llmscale.fit import Fit
from llmscale.laws import LETTERS
from llmscale.quantity import format_count

DRAWS = "laws"

BEYOND = 3.0
"""The law is drawn this far past the largest run, dashed there."""
_GRID = 200
_MOST_BUDGETS = 8
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


def draw(evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None) -> Drawing:
    """Runs as points, laws as lines, the band of the first law, open markers for what it predicted unseen."""
    fits, table = evidence.fits, evidence.table
    if not fits:
        raise InputError("there is no law to draw", "fit one, as in: llmscale plot --law power")
    surface = len(fits[0].law.inputs) == 2
    x = "params" if surface else fits[0].law.inputs[0]
    excluded = _excluded(evidence, x)
    held = fits[0].holdout.runs if fits[0].holdout else table.frame.iloc[:0]
    with style():
        figure = Figure(figsize=(width, 0.62 * width + (1.1 if surface else 0.5)), layout="constrained")
        ax = figure.subplots()
        x_limits = (float(table.frame[x].min()) / 1.35, float(table.frame[x].max()) * BEYOND)
        grid = np.geomspace(*x_limits, _GRID)
        entries = _draw_surface(ax, fits[0], grid) if surface else _draw_laws(ax, fits, x, grid)
        entries += _draw_points(ax, table.frame, held, x, fits[0], surface)
        low, high = _loss_limits(table.frame, held, fits, x, x_limits)
        ax.set_xscale("log")
        ax.set_xlim(*x_limits)
        log_count_axis(ax.xaxis, x_limits, powers=x == "flops")
        log_loss_axis(ax, (low, high))
        entries += _draw_excluded(ax, excluded, x)
        ours = "params_non_embedding" in table.frame
        ax.set_xlabel("Parameters N" if x == "params" and not ours else LABELS[table.count if x == "params" else x])
        ax.set_ylabel(LABELS["loss"])
        if title:
            ax.set_title(title)
        if surface:
            _budget_bar(figure, ax, fits[0])
            figure.legend(handles=entries, loc="outside lower center", ncols=1)
        else:
            legend = ax.legend(handles=entries, loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")
            legend.set_zorder(2)  # over the laws, under the runs
    return Drawing(figure, n_runs=len(table.frame), n_excluded=len(table.excluded), n_held_out=len(held))


def describe_law(fit: Fit, a_line: int = 1) -> str:
    """The law's coefficients with their intervals, so many `a_line`."""
    greek = {"alpha": "α", "beta": "β", "gamma": "γ"}
    parts = []
    for name, value in fit.law.coefficients().items():
        ends = fit.intervals.get(name)
        interval = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else ""
        parts.append(f"{greek.get(name, name)} = {value:.3g}{interval}")
    return "\n".join(",  ".join(parts[first : first + a_line]) for first in range(0, len(parts), a_line))


def formula(fit: Fit) -> str:
    """The law's equation as mathematics, from the plain text that it is published under here."""
    text = fit.law.formula.replace("alpha", r"\alpha").replace("beta", r"\beta").replace("gamma", r"\gamma")
    for exponent in (r"\alpha", r"\beta", r"\gamma"):
        text = text.replace(f"^{exponent}", f"^{{{exponent}}}")
    return f"${text}$"


def _draw_laws(ax: Axes, fits: Sequence[Fit], x: str, grid: np.ndarray) -> list[Any]:
    """Each law as a line, dashed past the largest run; the band and the floor of the first."""
    last = float(fits[0].table.frame[x].max())
    entries: list[Any] = []
    for place, fit in enumerate(fits):
        colour, dash = LAW_COLOURS[place % len(LAW_COLOURS)], _DASHES[0] if place == 0 else (0, (1, 1))
        line = fit.predict(**{x: grid})
        measured = grid <= last
        ax.plot(grid[measured], line[measured], color=colour, ls=dash, zorder=3)
        ax.plot(grid[~measured], line[~measured], color=colour, ls=(0, (4, 2)) if place == 0 else dash, zorder=3)
        label = f"{formula(fit)}\n{describe_law(fit)}" if place == 0 else formula(fit)
        entries.append(Line2D([], [], color=colour, ls=dash, label=label))
    inputs: dict[str, Any] = {x: grid}
    low, high = fits[0].band(**inputs)
    if np.isfinite(low).all():
        ax.fill_between(grid, low, high, color=LAW_COLOURS[0], alpha=0.18, lw=0, zorder=1)
        entries.append(Patch(color=LAW_COLOURS[0], alpha=0.18, lw=0, label=f"{fits[0].level:.0%} interval of the law"))
    floor = fits[0].law.floor
    if floor:
        ax.axhline(getattr(fits[0].law, floor), color=MUTED, lw=0.6, zorder=0)
    return entries


def _draw_surface(ax: Axes, fit: Fit, grid: np.ndarray) -> list[Any]:
    """L(N, D) as one curve a token budget, at most eight of them, coloured as the runs are."""
    norm, colours = _budget_norm(fit), sequence()
    for budget in _budgets(fit):
        ax.plot(grid, fit.predict(params=grid, tokens=np.full_like(grid, budget)), color=colours(norm(budget)), lw=0.9)
    return [Line2D([], [], color=MUTED, lw=0.9, label=f"{formula(fit)}\n{describe_law(fit, a_line=2)}")]


def _draw_points(ax: Axes, frame: DataFrame, held: DataFrame, x: str, fit: Fit, surface: bool) -> list[Any]:
    seen = frame[~frame["run_id"].isin(held["run_id"])]
    crowded = len(frame) > 40
    size = 7.0 if crowded else 14.0
    if surface:
        settings: dict[str, Any] = {"cmap": sequence(), "norm": _budget_norm(fit)}
        ax.scatter(seen[x], seen["loss"], c=seen["tokens"], s=size, lw=0, zorder=4, **settings)
        edge = sequence()(_budget_norm(fit)(held["tokens"]))
        ax.scatter(held[x], held["loss"], facecolors="white", edgecolors=edge, s=size, lw=0.8, zorder=5)
    else:
        ax.scatter(seen[x], seen["loss"], color=INK, s=size, lw=0, zorder=4)
        ax.scatter(held[x], held["loss"], facecolors="white", edgecolors=INK, s=size + 4, lw=0.9, zorder=6)
        if len(held) <= 6:
            _draw_predictions(ax, held, x)
    dot: dict[str, Any] = {"color": INK, "ls": "", "ms": 3.5, "marker": "o"}
    entries = [Line2D([], [], **dot, label="runs")]
    if len(held):
        error = held["predicted"] / held["loss"] - 1
        said = f"{error.iloc[0]:+.1%}" if len(held) == 1 else f"mean error {error.abs().mean():.1%}"
        entries.append(Line2D([], [], **dot, mfc="white", mew=0.9, label=f"held out, predicted unseen: {said}"))
    return entries


def _draw_predictions(ax: Axes, held: DataFrame, x: str) -> None:
    """What the law fitted without a run says of it, with its interval, just beside the run."""
    beside = held[x] * 1.07
    if np.isfinite(held["low"]).all():
        reach = np.abs(np.stack([held["predicted"] - held["low"], held["high"] - held["predicted"]]))
        ax.errorbar(
            beside, held["predicted"], yerr=reach, fmt="none", ecolor=ALARM, elinewidth=0.9, capsize=1.8, zorder=5
        )
    ax.scatter(beside, held["predicted"], color=ALARM, marker="_", s=22, lw=1.2, zorder=5)


def _excluded(evidence: Evidence, x: str) -> DataFrame:
    """The rows of runs that were left out and whose place on the x axis is known, with the reason."""
    reasons = {run.run_id: run.reason for run in evidence.table.excluded}
    if evidence.runs is None or not reasons or "run_id" not in evidence.runs:
        return DataFrame({x: [], "reason": []})
    column = evidence.table.count if x == "params" else x
    rows = evidence.runs[evidence.runs["run_id"].astype(str).isin(reasons)]
    return DataFrame({x: rows[column].astype(float), "reason": [reasons[run] for run in rows["run_id"].astype(str)]})


def _draw_excluded(ax: Axes, excluded: DataFrame, x: str) -> list[Any]:
    """Crosses along the upper edge: runs left out have no loss to be drawn at, or none to be trusted."""
    if excluded.empty:
        return []
    ax.plot(excluded[x], np.full(len(excluded), 0.985), "x", transform=ax.get_xaxis_transform(), color=ALARM,
            ms=4, mew=1.1, clip_on=False, zorder=6)  # fmt: skip
    reasons = excluded["reason"].str.split(":").str[0].value_counts()
    label = "left out: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return [Line2D([], [], color=ALARM, marker="x", ms=4, mew=1.1, ls="", label=label)]


def _loss_limits(
    frame: DataFrame, held: DataFrame, fits: Sequence[Fit], x: str, x_limits: tuple[float, float]
) -> tuple[float, float]:
    """From a little under the runs and the law at the right edge to well over the runs, where the legend goes."""
    lows = [float(frame["loss"].min())]
    if len(fits[0].law.inputs) == 1:
        lows.append(float(fits[0].predict(**{x: x_limits[1]})))
    if len(held) and np.isfinite(held["low"]).all():
        lows.append(max(float(held["low"].min()), 0.9 * lows[0]))
    low, high = min(lows), float(frame["loss"].max())
    bottom, top = padded(low, high, 0.08)
    return bottom, top * (high / low) ** (0.02 if len(fits[0].law.inputs) == 2 else 0.12)


def _budgets(fit: Fit) -> np.ndarray:
    """The token budgets to draw: those of the runs, or eight spread over them where there are more."""
    tokens = np.sort(fit.table.frame["tokens"].to_numpy())
    distinct = tokens[np.concatenate([[True], np.diff(np.log(tokens)) > 0.05])]
    return distinct if len(distinct) <= _MOST_BUDGETS else np.geomspace(tokens[0], tokens[-1], _MOST_BUDGETS - 3)


def _budget_norm(fit: Fit) -> LogNorm:
    tokens = fit.table.frame["tokens"]
    return LogNorm(float(tokens.min()), float(tokens.max()))


def _budget_bar(figure: Figure, ax: Axes, fit: Fit) -> None:
    norm = _budget_norm(fit)
    bar = figure.colorbar(ScalarMappable(norm, sequence()), ax=ax, location="top", aspect=40, pad=0.02)
    bar.set_label(f"Training tokens {LETTERS['tokens']}")
    log_count_axis(bar.ax.xaxis, (float(norm.vmin or 1), float(norm.vmax or 1)))
    bar.ax.tick_params(labelsize=6.5)
    if len(_budgets(fit)) <= 4:
        bar.set_ticks(list(_budgets(fit)), labels=[format_count(budget) for budget in _budgets(fit)])
