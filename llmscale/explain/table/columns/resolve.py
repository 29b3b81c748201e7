"""Which column of a table of runs a user means: its name, a letter, or the end of a nested name."""

import re

import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.explain.table.columns.names import nearest, quantity_of

SOURCE_COLUMNS = "source columns"
"""The attribute of a frame of runs that names the columns of its source, in their order."""


def source_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that the source of a table of runs has, without what was made of them."""
    return list(map(str, frame.attrs.get(SOURCE_COLUMNS, frame.columns)))


def resolve(name: str, frame: pd.DataFrame) -> str:
    """The column of a table of runs that a user means. Raises InputError naming the nearest."""
    names = [str(column) for column in frame.columns]
    for guess in (name, quantity_of(name)):
        if guess in names:
            return guess
    for same in (
        [column for column in names if column.lower() == name.lower()],
        [
            column
            for column in names
            if re.search(rf"[./]{re.escape(name)}$", column, re.IGNORECASE)
        ],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            raise InputError(
                f"{name!r} may be any of the columns {listed(same)}", "write the whole name"
            )
    raise InputError(
        f"the table has no column {name!r}",
        f"its columns are {listed(source_columns(frame))}{nearest(name, names)}",
    )
