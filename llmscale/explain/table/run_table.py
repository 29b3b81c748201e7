"""The values that the table of runs is made of: the runs, and those that are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from llmscale.errors import Note, counted, first_lines
from llmscale.errors.command_lines import command_line
from llmscale.errors.keywords import as_keywords
from llmscale.explain import html
from llmscale.explain.table.columns.find import ALIASES
from llmscale.explain.table.columns.resolve import resolve
from llmscale.runs.title import run_title, told_apart

_LEFT_OUT = 5
"""Runs left out that a notebook names."""
FOLDER = "results folder"
"""The attribute of a frame that names the folder of a sweep of our own, if it was read there."""
NO_VALUE = "(none)"
"""The group of runs whose column is empty."""


@dataclass(frozen=True)
class Excluded:
    """A run left out of every fit, and why; `values` are its row, if the source gives one."""

    run_id: str
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def title(self) -> str:
        """How people name it: its size and tokens if its id says nothing."""
        return run_title(self.run_id, self.values)


def titles_of(runs: Sequence[Excluded]) -> list[str]:
    """How people name runs that were left out, each by a name of its own."""
    return told_apart([run.title for run in runs], [run.run_id for run in runs])


def with_reasons(runs: Sequence[Excluded]) -> list[str]:
    """Runs that were left out, and why: `25k at 1M tokens, seed 0 (stopped)`."""
    return [f"{title} ({run.reason})" for title, run in zip(titles_of(runs), runs, strict=True)]


@dataclass(frozen=True)
class RunTable:
    """Usable runs: float64 columns `params`, `tokens`, `flops`, `loss`, text `run_id`, and the
    source's others.

    `params` holds the count asked for (`count`), `loss` is in nats per token. `params`, `tokens`
    and `flops` are NaN if the source does not give them; `path` is `<stdin>` or `<table>` for a
    stream or a frame. `columns` is the source's column of every quantity that was found in it, and
    `reading` says so in a sentence."""

    path: Path
    frame: pd.DataFrame
    excluded: tuple[Excluded, ...]
    notes: tuple[Note, ...]
    count: str
    columns: Mapping[str, str] = field(default_factory=dict)
    reading: str = ""
    asked: tuple[str, ...] = ()
    """The options by which a command read it, to be given again."""
    metric: str = "loss"
    """What the losses are, if they were made of an accuracy: `1 - acc`."""
    loss_unit: str = ""
    """What the source gives the loss in, `perplexity`, if not as it is here."""

    @property
    def runs(self) -> int:
        """How many runs the rows are of: fewer than rows if these are checkpoints."""
        return int(self.frame["run_id"].nunique())

    @property
    def size(self) -> str:
        """`24 runs`, or `240 rows of 6 runs`."""
        runs = counted(self.runs, "run")
        if self.runs == len(self.frame):
            return runs
        return f"{len(self.frame)} rows of {runs}"

    @property
    def left_out(self) -> list[str]:
        """Every run that was left out, and why."""
        return with_reasons(self.excluded)

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        text = f"{self.size} from {self.path}"
        if self.excluded:
            text += f", {len(self.excluded)} left out"
        return text

    def _repr_html_(self) -> str:
        """What a notebook shows: the first runs, what became of columns, and what was left out."""
        first = ["run_id", *ALIASES]
        more = [name for name in self.columns if name in self.frame and name not in first]
        shown = self.frame[first + more]
        rows = [tuple(map(_shown, row)) for row in shown.head(html.MOST_ROWS).values]
        left_out = [f"left out: {run}" for run in self.left_out[:_LEFT_OUT]]
        more_rows = len(shown) - len(rows)
        more_out = len(self.excluded) - _LEFT_OUT
        if more_out > 0:
            left_out.append(f"and {more_out} more left out")
        parts = [
            html.title(self.size, f"from {self.path}"),
            html.sentence(as_keywords(self.reading)) if self.reading else "",
            html.table(list(shown.columns), rows),
            html.sentence(f"and {more_rows} more rows") if more_rows > 0 else "",
            *map(html.sentence, left_out),
            html.notes(self.notes),
        ]
        return "".join(parts)

    def command(self, verb: str, *options: object) -> str:
        """`llmscale VERB TABLE OPTIONS`, to paste; FILE stands for a stream or a frame.
        `options` take the place of those by which the table was read; filters are added."""
        place = self.path if self.path.exists() else "FILE"
        asked = zip(self.asked[::2], self.asked[1::2], strict=True)
        kept = [pair for pair in asked if pair[0] == "--where" or pair[0] not in options]
        return command_line("llmscale", verb, place, *chain(*kept), *options)

    def select(self, mask: ArrayLike) -> "RunTable":
        """The runs where `mask` (a truth a run) is true, with the same notes and runs left out."""
        chosen = self.frame.loc[np.asarray(mask, dtype=bool)]
        return replace(self, frame=chosen.reset_index(drop=True))


def groups(table: RunTable, column: str) -> dict[str, RunTable]:
    """A table for every value of a column, in order; runs without one are `(none)`.

    Every run left out goes with its group; a group of which no run is usable has no table. Raises
    InputError for an unknown column."""
    name = resolve(column, table.frame)
    keys = np.array([_group_of(value) for value in table.frame[name]], dtype=object)
    parts = {}
    for key in dict.fromkeys(keys):
        excluded = tuple(run for run in table.excluded if _group_of(run.values.get(name)) == key)
        parts[str(key)] = replace(table.select(keys == key), excluded=excluded)
    return parts


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _group_of(value: Any) -> str:
    if pd.isna(value):
        return NO_VALUE
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else str(value)
