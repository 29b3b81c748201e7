"""The look of every figure, whatever the reader's own settings of matplotlib; bytes of a file."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

ENDINGS = ("png", "pdf", "svg")

INK = "#1a1a1a"
MUTED = "#6e6e6e"
# Okabe & Ito 2008: blue and orange differ in grey, too.
LAW_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
ALARM = "#D55E00"
DASHES, SHORT_DASHES, DOTS = (0, (3, 1.5)), (0, (3, 2)), (0, (1, 1.5))
Look = dict[str, Any]
"""Arguments of matplotlib's artists."""
CROSS: Look = {"marker": "x", "ls": "", "color": ALARM, "ms": 4.5, "mew": 1.3}
"""The mark of a run that is left out, in axes and in legends."""
DOT: Look = {"marker": "o", "ls": "", "ms": 4.2, "mew": 0}
OPEN_DOT: Look = {"marker": "o", "ls": "", "ms": 4.2, "mew": 0.9, "mfc": "white"}

Colour = tuple[float, float, float, float]
"""Red, green, blue and opacity, from 0 to 1."""

_STYLE = {
    "figure.dpi": 300,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.03,
    "font.family": "sans-serif",
    # The first comes with matplotlib, so every machine draws the same; the others are for viewers
    # of SVG.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "mathtext.fontset": "dejavusans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.35,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "llmscale",
}
_GROUPS = tuple(
    {key.split(".")[0] + "." for key in _STYLE}
    | {"path.", "patch.", "scatter.", "errorbar.", "image."}
)
_NO_DATES = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def style() -> Iterator[None]:
    """Within it, matplotlib's defaults and this style hold, not the reader's matplotlibrc."""
    defaults = {
        key: value for key, value in matplotlib.rcParamsDefault.items() if key.startswith(_GROUPS)
    }
    settings: dict[Any, Any] = {**defaults, **_STYLE}
    with matplotlib.rc_context(settings):
        yield


def render(figure: Figure, ending: str) -> bytes:
    """The file that shows `figure` in one of ENDINGS: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=ending, metadata=_NO_DATES[ending])
    return buffer.getvalue()


def sequence() -> Colormap:
    """Dark to light for small to large: viridis without the end too light to see on paper."""
    return ListedColormap(
        colormaps["viridis"](np.linspace(0.0, 0.86, 256)), name="viridis-on-paper"
    )


def ordered_colours(n: int) -> list[Colour]:
    """`n` colours in an order that the eye reads as one, also in grey."""
    places = [place / (n - 1) for place in range(n)] if n > 1 else [0.25]
    return [sequence()(place) for place in places]
