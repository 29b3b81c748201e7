"""The cells of a task's score as shares of one: numbers, percents, or texts such as 26.4%."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, counted
from llmscale.explain.estimation.levels import numbers
from llmscale.explain.laws import Array
from llmscale.explain.table import RunTable
from llmscale.explain.table.columns.names import ERRORS, of_hundred, words_of
from llmscale.explain.table.files.numbers import MISSING
from llmscale.notes import Weight
from llmscale.notes.predicting import TASK_IN_PERCENT

_UNCLEAR = 1.5
"""A share is at most 1, and whole percents of a task that models have begun to learn are more."""
_SIGN = re.compile(r"\s*%\Z")
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)")


@dataclass(frozen=True)
class Shares:
    """The score of every row from 0 to 1, NaN for a run without one."""

    values: Array
    in_percent: bool
    assumed: bool
    """Whether neither the column's name nor its cells say that they are percents."""
    notes: tuple[Note, ...]


def shares_of(table: RunTable, column: str) -> Shares:
    """A column of scores as shares. Raises InputError for what cannot be one."""
    values, signed = _numbers(table, column)
    known = values[~np.isnan(values)]
    if not len(known):
        raise InputError(
            f"column {column!r} of {table.path} holds no numbers", "name the column of the score"
        )
    low, high = float(known.min()), float(known.max())
    if low < 0 or high > 100:
        raise InputError(
            f"{column} is from {low:g} to {high:g}, and the score of a task is a share, from 0 to "
            "1, or in percent, from 0 to 100",
            "name the column of an accuracy or an error rate",
        )
    named = signed or of_hundred(column) or "%" in column
    if not (signed or _in_percent(column, low, high, named)):
        return Shares(values, False, False, ())
    said = f"{column} is from {low:g} to {high:g}: taken as percent, and divided by 100"
    note = TASK_IN_PERCENT.note(said, Weight.NEWS if named else None)
    return Shares(values / 100.0, True, not named, (note,))


def check_no_loss(column: str, shares: Shares) -> None:
    """Raise InputError for percents that rise with the loss, if nothing says that they are
    errors: the losses of another text do so, too."""
    if not shares.assumed or set(words_of(column)) & {*ERRORS}:
        return
    low, high = (100 * float(end(shares.values)) for end in (np.nanmin, np.nanmax))
    raise InputError(
        f"{column} is from {low:g} to {high:g} and rises with the loss, as errors in percent do, "
        "and losses and perplexities: its name does not say which",
        "if it is an error rate, give it from 0 to 1, or under a name that says so, such as "
        f"{column}_error",
    )


def _in_percent(column: str, low: float, high: float, named: bool) -> bool:
    in_percent = high > (1.0 if named else _UNCLEAR)
    if not in_percent and (named or high > 1):
        raise InputError(
            f"{column} is from {low:g} to {high:g}, which may be a share or in percent",
            f"give a column from 0 to 1: {column} as it is, or divided by 100, under a name "
            "without percent",
        )
    return in_percent


def _numbers(table: RunTable, column: str) -> tuple[Array, bool]:
    """A column as numbers, and whether its cells end in a percent sign."""
    cells = table.frame[column]
    if cells.dtype.kind in "fiub":
        return _finite(column, numbers(table.frame, column)), False
    texts = cells.astype(str).str.strip()
    known = cells.notna() & ~texts.isin(MISSING)
    signed = texts.str.endswith("%") & known
    if signed.any() and not signed[known].all():
        row = known & ~signed
        raise InputError(
            f"{counted(int(signed.sum()), 'cell')} of {column} end in %, and "
            f"{int(row.sum())} do not, such as {texts[row].iloc[0]!r}",
            "write all of them with a percent sign, or none",
        )
    bare = texts.str.replace(_SIGN, "", regex=True)
    if signed.any():
        bare = bare.str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True)
    values = pd.to_numeric(bare.where(known), errors="coerce")
    unread = known & values.isna()
    if unread.any():
        raise InputError(
            f"{column} holds {texts[unread].iloc[0]!r}, which is no number, in "
            f"{counted(int(unread.sum()), 'row')} of {len(texts)}",
            "name the column of the score; leave the cell of a run without one empty",
        )
    return _finite(column, values.to_numpy(dtype=float)), bool(signed.any())


def _finite(column: str, values: Array) -> Array:
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise InputError(
            f"{column} is infinite in {counted(infinite, 'row')}",
            "leave the cell of a run without a score empty",
        )
    return values
