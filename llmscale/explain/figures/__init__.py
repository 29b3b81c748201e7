"""The menu of figures: `llmscale plot --kind scaling` draws what figures/scaling.py says.

A member is one file. Its name, underscores as hyphens, is the option's value, and it provides
- `DRAWS`: "laws" (it needs `Evidence.fits`) or "curves" (it needs `Evidence.curves`);
- `draw(evidence, *, width, title) -> Drawing`, with `width` in inches.
The first line of its docstring says what it shows: `llmscale plot --help` prints it. Files that
begin with an underscore are what members share. A figure of one's own is such a function in a file
anywhere, `--kind ./mine.py:my_figure`; it draws laws, unless `my_figure.DRAWS = "curves"`."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmscale.menu import Menu

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from llmscale.explain.fit import Fit
    from llmscale.explain.table import RunTable
    from llmscale.runs.curve_file import Curves

COLUMN_INCHES = 3.4
"""Width of one column of a two-column paper."""


@dataclass(frozen=True)
class Evidence:
    """What a figure may show: the usable runs, laws fitted to them, every run that was tried, loss
    curves.
    """

    table: "RunTable"
    fits: "tuple[Fit, ...]" = ()
    runs: "DataFrame | None" = None
    curves: "Curves | None" = None


@dataclass(frozen=True)
class Drawing:
    """A figure and what is on it: the number of runs drawn as points or curves, marked as excluded,
    and held out.
    """

    figure: "Figure"
    n_runs: int
    n_excluded: int = 0
    n_held_out: int = 0


class Kind(Protocol):
    """What a file of this folder provides."""

    DRAWS: Literal["laws", "curves"]

    def draw(
        self, evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None
    ) -> Drawing: ...


class _Safe:
    """A kind of figure that draws under any title."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.DRAWS = kind.DRAWS

    def draw(
        self, evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None
    ) -> Drawing:
        from llmscale.explain.figures._text import with_mathematics

        return self._kind.draw(
            evidence, width=width, title=with_mathematics(title) if title else None
        )


def _kind(found: Any) -> Kind:
    if not hasattr(found, "draw"):  # one function of the user's own
        found = SimpleNamespace(draw=found, DRAWS=getattr(found, "DRAWS", "laws"))
    return _Safe(found)


FIGURES: Menu[Kind] = Menu(__name__, "figure", "--kind", ready=_kind, own="my_figure")
