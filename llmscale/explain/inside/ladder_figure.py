"""The figure of a ladder: induction and the reach of attention against size."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmscale.explain.figures import Drawing
from llmscale.explain.figures._axes import LABELS, log_axis, padded
from llmscale.explain.figures._style import DASHES, DOT, LAW_COLOURS, MUTED, style
from llmscale.runs.inspection import InspectedLadder, InspectedRun

_HEIGHT_INCHES = 2.5


def draw(found: InspectedLadder, width: float) -> Drawing:
    """`width` in inches."""
    with style():
        figure = Figure(figsize=(width, _HEIGHT_INCHES))
        scores, gains, distances = figure.subplots(1, 3)
        for run in found.runs:
            heads = [score for layer in run.induction_scores for score in layer]
            scores.plot(
                [run.params] * len(heads), heads, **{**DOT, "ms": 2.2}, color=MUTED, alpha=0.5
            )
        _draw(scores, found, lambda run: run.induction_score)
        evenly = _even_attention(found.repeated)
        scores.axhline(evenly, color=MUTED, lw=0.6, ls=DASHES)
        scores.set_title("Induction score of heads", loc="left")
        scores.set_ylabel("Attention to what followed before")
        figure.legend(*_legend(), loc="outside lower center", ncols=3)
        _draw(gains, found, lambda run: run.induction_gain)
        gains.set_title(f"Gain when {found.repeated} tokens come again", loc="left")
        gains.set_ylabel("Lower loss (nats per token)")
        _draw(distances, found, lambda run: run.attention_distance)
        distances.set_title("Mean attention distance", loc="left")
        distances.set_ylabel("Tokens")
    return Drawing(figure, n_runs=len(found.runs), kind="inside-ladder")


def _even_attention(repeated: int) -> float:
    """The score of a head that attends to all positions alike."""
    return sum(1 / (place + 1) for place in range(repeated, 2 * repeated)) / repeated


def _legend() -> tuple[list[Line2D], list[str]]:
    marks = [
        Line2D([], [], **DOT, color=LAW_COLOURS[0]),
        Line2D([], [], **{**DOT, "ms": 2.2}, color=MUTED),
        Line2D([], [], color=MUTED, lw=0.6, ls=DASHES),
    ]
    return marks, ["the best (left), or the model", "each head", "even attention"]


def _draw(ax: Axes, found: InspectedLadder, value: Callable[[InspectedRun], float | None]) -> None:
    """Points of all runs, and a line through the mean of each size."""
    of_size: dict[int, list[float]] = {}
    for run in found.runs:
        measured = value(run)
        if measured is not None:
            of_size.setdefault(run.params, []).append(measured)
    means = [sum(values) / len(values) for values in of_size.values()]
    for params, values in of_size.items():
        ax.plot([params] * len(values), values, **DOT, color=LAW_COLOURS[0])
    ax.plot([*of_size], means, color=LAW_COLOURS[0], lw=0.9)
    sizes = [run.params for run in found.runs]
    log_axis(ax.xaxis, padded(min(sizes), max(sizes), 0.08))
    ax.set_xlabel(LABELS["params"].partition(" (")[0])
    if means and min(means) >= 0:
        ax.set_ylim(0, 1.08 * max(ax.dataLim.y1, *means) or 1)
