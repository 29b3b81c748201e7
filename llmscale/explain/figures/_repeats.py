"""Runs of one size and budget: seeds of one run, or runs that were made in several ways."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from llmscale.explain.diagnostics.evidence import groups
from llmscale.explain.estimation.levels import distinct
from llmscale.explain.estimation.repeats import differing
from llmscale.explain.figures._runs import Entry
from llmscale.explain.figures._style import DOT, Colour, ordered_colours
from llmscale.explain.figures._text import literal
from llmscale.explain.laws import LETTERS

_WAYS = ("recipe", "mixture", "data", "dataset", "corpus", "text")
"""Columns that name how a run was made, the most telling first; others that differ come after."""
_MOST_SHADES = 7
_LONGEST_NAME = 40
"""Characters."""


@dataclass(frozen=True)
class Repeats:
    """What the rows of one point and shade are, "" if there is one each, and the shade of each way
    in which runs were made if these are few."""

    are: str = ""
    column: str = ""
    shades: tuple[tuple[str, Colour], ...] = ()

    def parts(self, rows: pd.DataFrame) -> list[tuple[Colour, pd.DataFrame]]:
        """The rows of each shade."""
        ways = _named(rows[self.column])
        return [(colour, rows[ways == way]) for way, colour in self.shades]

    def entries(self) -> list[Entry]:
        """Legend: a line for each shade."""
        return [
            (Line2D([], [], color=colour, **DOT), _entry(self.column, way))
            for way, colour in self.shades
        ]


def repeats(frame: pd.DataFrame, *, shaded: bool) -> Repeats:
    """Rows of one point are seeds only if they differ in nothing but the seed. `shaded` if colours
    are free to tell the ways in which runs were made."""
    point_R = groups(frame)
    if np.bincount(point_R).max(initial=0) < 2:
        return Repeats()
    ways = [name for name in _WAYS if name in frame and _differs(frame[name], point_R)]
    ways += [name for name in differing(frame, point_R) if name not in (*ways, *LETTERS)]
    for column in ways if shaded else ():
        named = _named(frame[column])
        values = sorted(named.unique())
        if len(values) <= _MOST_SHADES:
            shades = tuple(zip(values, ordered_colours(len(values)), strict=True))
            others = [name for name in ways if _differs(frame[name], _both(point_R, named))]
            return Repeats(_kind(frame, _both(point_R, named), others), column, shades)
    return Repeats(_kind(frame, point_R, ways))


def _kind(frame: pd.DataFrame, point_R: np.ndarray, ways: list[str]) -> str:
    """What rows of one point are, which differ in these `ways`."""
    if np.bincount(point_R).max() < 2:
        return ""
    # Rows without a seed, or of the same one, may differ in anything.
    seeds = frame[["seed"]].assign(point=point_R) if "seed" in frame else None
    has_seeds = seeds is not None and not seeds.duplicated().any()
    return "seeds" if has_seeds and not ways else "runs"


def _both(point_R: np.ndarray, named: pd.Series) -> np.ndarray:
    return distinct([point_R, pd.factorize(named)[0]])


def _differs(column: pd.Series, point_R: np.ndarray) -> bool:
    return bool((_named(column).groupby(point_R).nunique() > 1).any())


def _named(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "none").astype(str)


def _entry(column: str, way: str) -> str:
    short = way if len(way) <= _LONGEST_NAME else f"{way[: _LONGEST_NAME - 1]}…"
    return literal(f"{column} {short}")
