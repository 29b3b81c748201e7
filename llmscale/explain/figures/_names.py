"""Names next to points, each where it covers neither a point nor another name, or left out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.transforms import Bbox

from llmscale.explain.figures._style import INK, Look
from llmscale.explain.laws import Array

_DISTANCE = 4.5
_PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_ALIGN = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}
_RADIUS = 1.5
"""Points keep this many typographic points of room, about a marker's radius."""


def place_names(
    ax: Axes, at: Array, names: Sequence[str], *, avoid: Array, size: float = 5.5
) -> None:
    """Write names next to points (n, 2) in data units, most important first, clear of `avoid`.
    The figure must have been laid out. A name without a free place is left out."""
    figure = ax.get_figure(root=True)
    if figure is None or not len(names):
        return
    renderer = RendererAgg(*figure.bbox.size, figure.dpi)
    others = ax.transData.transform(avoid)
    taken: list[Bbox] = []
    for point, name in zip(at, names, strict=True):
        for right, up in _PLACES:
            place: Look = {
                "ha": _ALIGN[right][0],
                "va": _ALIGN[up][1],
                "textcoords": "offset points",
            }
            look: Look = {"fontsize": size, "color": INK, "zorder": 7, "label": "name"}
            shift = (_DISTANCE * right, _DISTANCE * up)
            text = ax.annotate(name, point, shift, **place, **look)
            text.set_in_layout(False)
            box = text.get_window_extent(renderer)
            room = box.padded(_RADIUS * figure.dpi / 72)
            covered = ((others > room.min) & (others < room.max)).all(axis=1).any()
            inside = np.all(box.min >= ax.bbox.min) and np.all(box.max <= ax.bbox.max)
            if inside and not covered and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
