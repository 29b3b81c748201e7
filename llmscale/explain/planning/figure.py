"""The figure of a plan: loss against cost, from the runs to the choices, and against size at equal
compute."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmscale.explain.figures import Drawing
from llmscale.explain.figures._axes import log_axis, log_count_axis, log_loss_axis, padded
from llmscale.explain.figures._style import (
    INK,
    LAW_COLOURS,
    MUTED,
    SHORT_DASHES,
    Look,
    style,
)
from llmscale.explain.figures._text import literal
from llmscale.explain.forecast.forecast import forecast
from llmscale.explain.laws import Array
from llmscale.explain.planning.choice import Choice
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from llmscale.explain.planning.training_plan import TrainingPlan

_POINTS = 160
_BLUE, _ORANGE, _GREEN, _PURPLE = LAW_COLOURS
_LOOKS: dict[str, Look] = {
    "best": {"marker": "*", "color": INK, "ms": 10},
    "nearest shape": {"marker": "s", "color": MUTED, "ms": 4.5},
    "half the compute": {"marker": "v", "color": _BLUE, "ms": 5},
    "twice the compute": {"marker": "^", "color": _BLUE, "ms": 5},
    "smaller, same C": {"marker": "<", "color": _GREEN, "ms": 5},
    "larger, same C": {"marker": ">", "color": _GREEN, "ms": 5},
    "1/2 N, same loss": {"marker": "o", "color": _ORANGE, "ms": 5},
    "1/4 N, same loss": {
        "marker": "o",
        "color": _ORANGE,
        "ms": 5,
        "mfc": "white",
        "mec": _ORANGE,
        "mew": 1,
    },
    "on new text": {"marker": "P", "color": _BLUE, "ms": 5.5},
}
_DOTS: Look = {"ls": "", "marker": "o", "ms": 2.2, "mew": 0}
_SERVED: Look = {"marker": "D", "color": _PURPLE, "ms": 4.5}
_SERVED_IN_BUDGET: Look = {**_SERVED, "mfc": "white", "mec": _PURPLE, "mew": 1}
_TIMES = (0.5, 1.0, 2.0)
"""The compute of the valleys that are drawn."""
_FAR = 30.0
"""Times the compute of the plan, or less by as much: such choices are named and not drawn."""
_BESIDE = 1.6
"""Room beside the choices, times their sizes."""
_HIGHEST, _ROOM = 0.9, 1.25
"""Runs have room in the figure up to this many times the loss that this share of them is below."""


def draw(plan: "TrainingPlan", width: float) -> Drawing:
    """Two panels next to each other, `width` inches together, and a legend of the choices."""
    runs = _runs(plan)
    with style():
        rows = -(-len(plan.choices) // 2)
        figure = Figure(figsize=(width, 0.42 * width + 0.14 * rows + 0.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_cost(left, plan, runs)
        _draw_sizes(right, plan)
        marks = [
            left.plot([], [], ls="", label=_legend(plan, one), **_look(one))[0]
            for one in plan.choices
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=2)
    return Drawing(figure, n_runs=len(runs), kind="plan", fits=(plan.judge.fit,))


def _draw_cost(ax: Axes, plan: "TrainingPlan", runs: Array) -> None:
    """The runs, the lowest loss of every budget with the interval of a new run, and the choices."""
    costs = [one.flops for one in _near(plan)]
    measured = (runs[:, 0].min(), runs[:, 0].max()) if len(runs) else (min(costs), min(costs))
    low, high = min(*costs, measured[0]), max(*costs, measured[1])
    flops = np.geomspace(low, high, _POINTS)
    best = plan.judge.surface.best(flops)
    told = forecast(plan.judge.fit, **plan.judge.asked(*best))
    band = ax.fill_between(flops, told.low, told.high, color=_BLUE, alpha=0.15, lw=0)
    inside = flops <= measured[1]
    (line,) = ax.plot(flops[inside], told.loss[inside], color=_BLUE)
    ax.plot(flops[~inside], told.loss[~inside], color=_BLUE, ls=SHORT_DASHES)
    (dots,) = ax.plot(runs[:, 0], runs[:, 1], color=MUTED, alpha=0.55, **_DOTS)
    said: dict[str, Any] = {"best of a budget": line}
    if plan.loss.has_interval:
        level = f"{100 * plan.level:g}% interval of a run"
        said = {f"best of a budget, {level}": (band, line)}
    said |= {"runs of the table": dots} if len(runs) else {}
    ax.legend(said.values(), said.keys(), loc="upper right")
    _draw_choices(ax, plan, "flops")
    ends = np.concatenate([np.ravel(told.low), np.ravel(told.high), _losses(plan), _lowest(runs)])
    ends = ends[np.isfinite(ends) & (ends > 0)]
    log_axis(ax.xaxis, padded(low, high, 0.03), powers=True)
    log_loss_axis(ax, padded(ends.min(), ends.max(), 0.03), perplexity=False)
    ax.set_xlabel("Training compute C (FLOPs)")
    ax.set_ylabel(_loss_label(plan))
    _cost_axis(ax, plan)


def _cost_axis(ax: Axes, plan: "TrainingPlan") -> None:
    """Money or GPU hours along the top, if they are known."""
    hardware = plan.hardware
    if hardware is None:
        return
    hourly = hardware.price_per_hour or 1.0
    per_flop = hourly / hardware.flops_per_hour
    label = f"GPU hours of {hardware.gpu.name}"
    if hardware.price_per_hour:
        label = f"Money, {hardware.price_per_hour:g} an hour of {hardware.gpu.name}"

    def spent(C: Any) -> Any:
        return C * per_flop

    def compute(cost: Any) -> Any:
        return cost / per_flop

    top = ax.secondary_xaxis("top", functions=(spent, compute))
    low, high = ax.get_xlim()
    log_count_axis(top.xaxis, (low * per_flop, high * per_flop))
    top.set_xlabel(literal(label))


def _draw_sizes(ax: Axes, plan: "TrainingPlan") -> None:
    """The valleys of half, all and twice the compute, and the choices in them."""
    sizes = [one.params for one in _near(plan)]
    low, high = min(sizes) / _BESIDE, max(sizes) * _BESIDE
    params = np.geomspace(low, high, _POINTS)
    losses = _losses(plan)
    bottom, top = padded(losses.min(), losses.max(), 0.25)
    for times in _TIMES:
        tokens = times * plan.flops / (6.0 * params)
        loss = plan.judge.surface.loss(params, tokens)
        look: Look = {"color": INK, "lw": 1.2} if times == 1 else {"color": MUTED, "lw": 0.7}
        ax.plot(params, loss, **look)
        _name_valley(ax, plan, times, params, top)
    flat = plan.params.value * np.array([plan.basin.smallest.value, plan.basin.largest.value])
    flat = np.clip(flat, low, high)
    ax.axvspan(*flat, color=_GREEN, alpha=0.1, lw=0)
    ax.annotate(
        f"within {100 * plan.basin.within:.3g}%", (np.sqrt(flat.prod()), 0),
        xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
        ha="center", va="bottom", color=_GREEN, fontsize=6.5,
    )  # fmt: skip
    if plan.params.has_interval:
        ends = np.clip([plan.params.low, plan.params.high], low, high)
        ax.plot(ends, 2 * [plan.loss.value], color=INK, lw=2.4, alpha=0.35, solid_capstyle="butt")
    _draw_choices(ax, plan, "params")
    log_axis(ax.xaxis, (low, high))
    log_loss_axis(ax, (bottom, top), most=6, perplexity=False)
    ax.set_xlabel("Parameters N")


def _name_valley(ax: Axes, plan: "TrainingPlan", times: float, params: Array, top: float) -> None:
    """Its compute, next to where it leaves the panel on the right."""
    tokens = times * plan.flops / (6.0 * params)
    loss = np.ravel(plan.judge.surface.loss(params, tokens))
    shown = np.flatnonzero(loss < top)
    if not len(shown):
        return
    leaves_above = shown[-1] < len(params) - 1
    offset, side = ((-16, -1), "top") if leaves_above else ((-3, 4), "bottom")
    ax.annotate(
        "C" if times == 1 else f"{times:g} C", (params[shown[-1]], loss[shown[-1]]),
        xytext=offset, textcoords="offset points", ha="right", va=side, color=MUTED, fontsize=6.5,
    )  # fmt: skip


def _draw_choices(ax: Axes, plan: "TrainingPlan", x: str) -> None:
    for one in reversed(_near(plan)):
        look = {"mec": "white", "mew": 0.5, **_look(one)}
        ax.plot(getattr(one, x), one.loss.value, ls="", zorder=3, clip_on=False, **look)


def _look(one: Choice) -> Look:
    if one.name in _LOOKS:
        return _LOOKS[one.name]
    return _SERVED_IN_BUDGET if one.name.endswith("in C") else _SERVED


def _legend(plan: "TrainingPlan", one: Choice) -> str:
    sizes = f"{format_count(one.params)} on {format_count(one.tokens)}"
    aside = "" if _is_near(plan, one) else " (not drawn)"
    return literal(f"{one.name}: {sizes}, {one.flops / plan.flops:.3g} C{aside}")


def _near(plan: "TrainingPlan") -> list[Choice]:
    """The choices that are drawn: one far away would leave no room for the others."""
    return [one for one in plan.choices if _is_near(plan, one)]


def _is_near(plan: "TrainingPlan", one: Choice) -> bool:
    return 1.0 / _FAR <= one.flops / plan.flops <= _FAR


def _losses(plan: "TrainingPlan") -> Array:
    return np.array([one.loss.value for one in _near(plan)])


def _lowest(runs: Array) -> Array:
    """The losses of runs that have room."""
    losses = runs[:, 1]
    if not len(losses):
        return losses
    return losses[losses <= _ROOM * np.quantile(losses, _HIGHEST)]


def _runs(plan: "TrainingPlan") -> Array:
    """C = 6ND and the loss of the runs of the table; none of a fit that was kept without them."""
    table: Any = plan.judge.fit.runs
    if table is None:
        return np.empty((0, 2))
    frame = table.frame
    flops = (6.0 * frame["params"] * frame["tokens"]).to_numpy(dtype=float)
    runs = np.stack([flops, frame["loss"].to_numpy(dtype=float)], axis=1)
    return runs[np.isfinite(runs).all(axis=1)]


def _loss_label(plan: "TrainingPlan") -> str:
    metric = plan.forecast.metric
    return "Loss (nats per token)" if metric == "loss" else literal(metric)
