"""Where the rows that a law is fitted to come from: a table, and what its results folder holds
besides."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from llmscale.errors import InputError
from llmscale.explain.curve_table import folder_steps
from llmscale.explain.diagnostics.curves import seen_curves
from llmscale.explain.diagnostics.evidence import SeenCurve
from llmscale.explain.estimation.suitability import inputs_of, needs_of
from llmscale.explain.fit.stand_ins import with_stand_ins
from llmscale.explain.laws import Law, law_named
from llmscale.explain.table import RunTable, read_table
from llmscale.runs.curve_file import CurveFile
from llmscale.runs.results_folder import ResultsFolder

Source: TypeAlias = RunTable | pd.DataFrame | Path | str
"""Where runs come from: a table, a data frame, or the path of a file or results folder."""


def as_table(source: Source, laws: Sequence[str | type[Law]] = ()) -> RunTable:
    """The table itself, or the one read from a path or a data frame for these laws. Raises
    InputError."""
    for law in laws:
        if not (isinstance(law, str) or (isinstance(law, type) and issubclass(law, Law))):
            named = law.__name__ if isinstance(law, type) else repr(law)[:60]
            raise InputError(
                f"{named} is no law", "give the name of one (llmscale laws), or a class of laws.Law"
            )
    if isinstance(source, RunTable):
        return source
    kinds = [law_named(law) for law in laws]
    pairs = zip(laws, kinds, strict=True)
    wanted = (needs_of(kind, own=not isinstance(law, str)) for law, kind in pairs)
    needs = dict.fromkeys(chain.from_iterable(wanted))
    scores = bool(kinds) and all(kind.plain for kind in kinds)
    return read_table(source, needs=[*needs], scores=scores)


@dataclass(frozen=True)
class Folder:
    """A table, and what its results folder holds besides: read once for all laws, and only if asked
    for."""

    table: RunTable

    @property
    def place(self) -> ResultsFolder:
        return ResultsFolder(self.table.path)

    @cached_property
    def every_run(self) -> pd.DataFrame:
        return self.place.read_runs()

    @cached_property
    def seen(self) -> dict[str, SeenCurve] | None:
        if not self.place.curves_path.is_file():
            return None
        return seen_curves(CurveFile(self.place.curves_path))

    @cached_property
    def steps(self) -> RunTable:
        return folder_steps(self.table, self.every_run, CurveFile(self.place.curves_path))

    def for_law(self, law: type[Law]) -> RunTable:
        """The table, or for laws of whole curves the evaluated steps of its folder."""
        columns = inputs_of(law)
        if (
            "lr_area" not in columns
            or "lr_area" in self.table.frame
            or not self.place.curves_path.is_file()
        ):
            return with_stand_ins(self.table, law)
        return self.steps


def table_for(table: RunTable, law: type[Law]) -> RunTable:
    """The rows that this law is fitted to: the runs, or for laws of whole curves their steps."""
    return Folder(table).for_law(law)
