"""The menu of figures: `llmscale plot --kind scaling` draws what figures/scaling.py says.

A member is one file. Its name, underscores as hyphens, is the option's value, and it provides
- `DRAWS`: "laws" (it needs `Evidence.fits`) or "curves" (it needs `Evidence.curves`);
- `METHOD`, if it draws what a method of allocation/ found (`Evidence.allocation`): its name;
- `LAWS`, if it draws so many laws at most;
- `draw(evidence, *, width, title) -> Drawing`, with `width` in inches.
The first line of its docstring says what it shows: `llmscale plot --help` prints it. Files that
begin with an underscore are what members share. A figure of one's own is such a function in a file
anywhere, `--kind ./mine.py:my_figure`; it draws laws, unless `my_figure.DRAWS = "curves"`."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmscale.errors import InputError, Note, counted, with_article
from llmscale.menu import Menu, errors_named, file_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from llmscale.explain.allocation import Allocation
    from llmscale.explain.fit import Fit, Options
    from llmscale.explain.table import RunTable
    from llmscale.runs.curve_file import Curves

COLUMN_INCHES = 3.4
"""Width of one column of a two-column paper."""


@dataclass(frozen=True)
class Evidence:
    """What a figure may show: the usable runs, laws fitted to them, every run that was tried, loss
    curves, and the optima that the figure's method found (or why it found none).

    Without a table there are fits that were kept; whoever asks for their runs is told so."""

    usable: "RunTable | None"
    fits: "tuple[Fit, ...]" = ()
    runs: "DataFrame | None" = None
    curves: "Curves | None" = None
    allocation: "Allocation | InputError | None" = None

    @property
    def table(self) -> "RunTable":
        """The usable runs. Raises InputError if there are only fits that were kept without."""
        return self.fits[0].table if self.usable is None else self.usable

    def with_optima(self, method: str, options: "Options | None" = None) -> "Evidence":
        """The evidence with what a method finds in it, or why that is nothing."""
        from llmscale.explain.allocation import allocate

        surface = next(
            (one.law for one in self.fits if one.law.inputs == ("params", "tokens")), None
        )
        try:
            found = allocate(self.table, method, options, law=surface, curves=self.curves)
        except InputError as error:
            return replace(self, allocation=error)
        return replace(self, allocation=found)

    @property
    def optima(self) -> "Allocation":
        """What the figure's method found. Raises InputError if it found nothing."""
        if isinstance(self.allocation, InputError):
            raise self.allocation
        assert self.allocation is not None
        return self.allocation


@dataclass(frozen=True)
class Drawing:
    """A figure and what is on it: the number of runs drawn as points or curves, marked as excluded,
    and held out; what was fitted for it, and the file that it was written to."""

    figure: "Figure"
    n_runs: int
    n_excluded: int = 0
    n_held_out: int = 0
    kind: str = ""
    path: Path | None = None
    fits: "tuple[Fit, ...]" = field(default=(), repr=False)
    columns: Mapping[str, str] = field(default_factory=dict, repr=False)
    reading: str = field(default="", repr=False)
    notes: tuple[Note, ...] = ()

    def save(self, path: Path | str) -> "Drawing":
        """Write the figure as .png, .pdf or .svg, by the ending of `path`. Raises InputError."""
        from llmscale.explain.figures._place import write

        return replace(self, path=write(self.figure, Path(path)))

    def to_json(self) -> dict[str, Any]:
        """What `plot --json` prints."""
        return {
            "path": self.path and str(self.path),
            "kind": self.kind,
            "columns": dict(self.columns),
            "laws": [fit.law.name for fit in self.fits],
            "kept": [str(fit.kept) for fit in self.fits if fit.kept],
            "n_runs": self.n_runs,
            "n_excluded": self.n_excluded,
            "n_held_out": self.n_held_out,
        }

    def __repr__(self) -> str:
        laws = " and ".join(fit.law.name for fit in self.fits)
        what = f" of {laws}" if laws else ""
        at = f", {self.path}" if self.path else ""
        runs = counted(self.n_runs, "run")
        return f"<{self.kind or 'figure'}{what}: {runs}, {self.n_excluded} excluded{at}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        from llmscale.explain.figures._style import render

        return render(self.figure, "png")


class Kind(Protocol):
    """What a file of this folder provides."""

    DRAWS: Literal["laws", "curves"]
    METHOD: str | None
    LAWS: int | None

    def draw(
        self, evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None
    ) -> Drawing: ...


class _Safe:
    """A kind of figure that draws under any title."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.DRAWS = kind.DRAWS
        self.METHOD: str | None = getattr(kind, "METHOD", None)
        self.LAWS: int | None = getattr(kind, "LAWS", None)

    def draw(
        self, evidence: Evidence, *, width: float = COLUMN_INCHES, title: str | None = None
    ) -> Drawing:
        from llmscale.explain.figures._text import with_mathematics

        return self._kind.draw(
            evidence, width=width, title=with_mathematics(title) if title else None
        )


def _tried(found: Any, called: str) -> Kind:
    """A figure of the user's own; it is drawn once there is something to draw."""
    draws, draw = getattr(found, "DRAWS", "laws"), getattr(found, "draw", found)
    if draws not in ("laws", "curves"):
        raise InputError(f"{called} has DRAWS = {draws!r}", 'give it "laws" or "curves"')
    inspect.signature(draw).bind(None, width=COLUMN_INCHES, title=None)
    known = {name: getattr(found, name, None) for name in ("METHOD", "LAWS")}

    def drawn(evidence: Evidence, *, width: float, title: str | None) -> Drawing:
        with errors_named(file_of(found), "cannot draw", "change the file"):
            given = draw(evidence, width=width, title=title)
        if not isinstance(given, Drawing):
            raise InputError(
                f"{called} gives {with_article(type(given).__name__)}, and no Drawing",
                "return Drawing(figure, n_runs) of llmscale.explain.figures",
            )
        return given

    return _Safe(SimpleNamespace(draw=drawn, DRAWS=draws, **known))


FIGURES: Menu[Kind] = Menu(__name__, "figure", "--kind", ready=_Safe, tried=_tried, own="my_figure")
