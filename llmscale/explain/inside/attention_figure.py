"""The figure of one text: the loss of each token, and below it the attention of each head."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmscale.errors.printable import shortened
from llmscale.explain.figures import Drawing
from llmscale.explain.figures._style import INK, LAW_COLOURS, MUTED, style
from llmscale.explain.figures._text import literal
from llmscale.runs.inspection import Inspection

_MOST_LABELS = 40
"""Tokens that are named below the bars of their losses."""
_MOST_IN_PANEL = 16
"""Tokens that are named beside a head's panel, if that is large enough."""
_LEAST_PANEL_INCHES = 1.2
_LONGEST_LABEL = 12
_BARS_INCHES = 1.3


def draw(found: Inspection, width: float) -> Drawing:
    """`width` in inches; the height follows from the layers and heads."""
    n_layer, n_head, *_ = found.attention.shape
    panel = min(2.2, (width - 1.2) / n_head)
    heights = [_BARS_INCHES, n_layer * (panel + 0.06) + 0.6]
    with style():
        figure = Figure(figsize=(width, sum(heights)))
        halves: Any = figure.subfigures(2, 1, height_ratios=heights)
        bars, grid = halves
        _draw_losses(bars.subplots(), found)
        axes = grid.subplots(n_layer, n_head, squeeze=False)
        named = len(found.tokens) <= _MOST_IN_PANEL and panel >= _LEAST_PANEL_INCHES
        for layer in range(n_layer):
            for head in range(n_head):
                ax = axes[layer, head]
                image = ax.imshow(
                    _shown(found.attention[layer, head]),
                    cmap=colormaps["Blues"],
                    vmin=0,
                    vmax=1,
                    interpolation="nearest",
                )
                _name_panel(ax, found, layer, head, named)
        bar = grid.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
        bar.set_label("Attention of a token (row) to those before it (column)")
    return Drawing(figure, n_runs=1, kind="attention")


def _draw_losses(ax: Axes, found: Inspection) -> None:
    losses = [token.loss or 0.0 for token in found.tokens]
    ax.bar(range(len(losses)), losses, color=LAW_COLOURS[0], width=0.7)
    ax.set_ylabel("Loss (nats)")
    ax.margins(x=0.01)
    ax.grid(visible=False, axis="x")
    ax.tick_params(axis="x", length=0)
    if len(losses) <= _MOST_LABELS:
        named: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(range(len(losses)), _labels(found), **named)
    guess = float(np.log(found.vocab_size))
    if losses and max(losses) > 0.6 * guess:
        ax.axhline(guess, color=MUTED, lw=0.6, ls=(0, (3, 2)))
        ax.annotate(
            "a guess", (1, guess), xycoords=("axes fraction", "data"), fontsize=6, color=MUTED,
            xytext=(-2, 2), textcoords="offset points", ha="right",
        )  # fmt: skip
    mean = "" if found.loss is None else f", {found.loss:.2f} nats a token"
    ax.set_title(f"Model {found.size}, run {found.run_id}{mean}", loc="left", color=INK)


def _name_panel(ax: Axes, found: Inspection, layer: int, head: int, named: bool) -> None:
    n_layer = found.attention.shape[0]
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks([])
    if layer == 0:
        ax.set_title(f"head {head + 1}")
    if head == 0:
        ax.set_ylabel(f"layer {layer + 1}")
    if named and head == 0:
        ax.set_yticks(range(len(found.tokens)), _labels(found), fontsize=5.5)
    if named and layer == n_layer - 1:
        ax.set_xticks(range(len(found.tokens)), _labels(found), fontsize=5.5, rotation=90)
    ax.tick_params(length=0)


def _labels(found: Inspection) -> list[str]:
    return [literal(shortened(label, _LONGEST_LABEL)) for label in found.labels]


def _shown(weights_TT: np.ndarray) -> np.ndarray:
    """Without the positions that come later."""
    return np.where(np.tri(len(weights_TT), dtype=bool), weights_TT, np.nan)
