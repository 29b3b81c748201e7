"""Losses of validation whose columns are not called losses: `val` or `eval_ppl` next to `loss`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.explain.table.columns.names import (
    only_validation,
    per_byte,
    read_name,
    validation_in_units,
)
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.columns.units import counts_of, numbers_of, to_base

_FEWEST = 3
_TOGETHER = 0.7
"""The least rank correlation of such a column and a loss: seeds scatter both."""
_ROUNDED = 0.006
"""Nats between one loss written twice, as it is and as a perplexity: both may be rounded."""
_SAME_TEXT = 0.01
"""The most that ln(loss / bits per byte) of one text varies by: both may be rounded."""


def under_a_word(raw: pd.DataFrame, losses: Sequence[str]) -> list[str]:
    """Columns named `val`, `eval` or so that hold what can be a loss next to one of `losses`.
    Such a column may hold shares, flags or names, too."""
    words = [name for name in map(str, raw.columns) if only_validation(name)]
    return [name for name in words if any(_goes_with(raw[name], raw[loss]) for loss in losses)]


def _goes_with(given: pd.Series, loss: pd.Series) -> bool:
    """Whether most rows have values near a loss, which rise and fall with it."""
    pair = pd.DataFrame({"one": counts_of(given), "other": counts_of(loss)})
    pair = pair[np.isfinite(pair).all(axis=1) & (pair > 0).all(axis=1)]
    if len(pair) < max(_FEWEST, len(given) / 2) or (pair.nunique() < 2).any():
        return False
    near = 0.5 < float((pair["one"] / pair["other"]).median()) < 2
    return near and float(pair["one"].rank().corr(pair["other"].rank())) > _TOGETHER


def in_other_units(
    raw: pd.DataFrame, losses: Sequence[str], told: str | None, source: Path
) -> tuple[list[str], list[str]]:
    """Columns of validation in perplexity or bits, next to `losses` that none of them repeats.

    Returns those that are the loss, and what to say of those that are of one text or task. `told`
    is the unit of the loss that the user gave. Raises InputError for bits per byte, which no unit
    turns into nats per token."""
    there = [
        name
        for name in map(str, raw.columns)
        if validation_in_units(name, of_one_text=True)
        and name not in losses
        and np.isfinite(counts_of(raw[name])).any()
    ]
    if any(_repeats(raw, name, loss, told) for name in there for loss in losses):
        return [], []
    wanted = [name for name in there if validation_in_units(name)]
    known = [name for name in wanted if not per_byte(name) and _unit_fits(name, told)]
    if known:
        return known, []
    if wanted and told is None:
        raise InputError(
            f"{source} has columns {listed([losses[0], *wanted])}, and any may be loss: "
            f"{wanted[0]!r} is of validation, in bits per byte, which no unit turns into nats per "
            "token",
            f"say which: --columns loss={quoted(wanted[0])} (a law of bits per byte) or --columns "
            f"loss={quoted(losses[0])}",
        )
    return [], [f"{name} (of validation by its name: not used)" for name in there]


def _unit_fits(name: str, told: str | None) -> bool:
    """Whether the unit that the user gave, if any, is the one that the name carries."""
    if told is None:
        return True
    low = told.lower()
    return {"ppl": "perplexity", "bit": "bits"}.get(low, low) == read_name(name, "loss").unit


def _repeats(raw: pd.DataFrame, name: str, loss: str, told: str | None) -> bool:
    """Whether a column holds a loss again in another unit, but for rounding."""
    one, other = (_nats(raw, column, told) for column in (name, loss))
    both = np.isfinite(one) & np.isfinite(other) & (one > 0) & (other > 0)
    if not both.any():
        return False
    if per_byte(name):
        spread = np.ptp(np.log(other[both] / one[both]))
        return bool(both.sum() > 1 and spread < _SAME_TEXT)
    return bool((np.abs(one - other)[both] <= _ROUNDED).all())


def _nats(raw: pd.DataFrame, column: str, told: str | None) -> np.ndarray:
    """The numbers of a column in nats, or as they are if no unit says how."""
    numbers = numbers_of(raw[column], counts=False)[0]
    unit = read_name(column, "loss").unit or told
    if unit in (None, "bits_per_byte"):
        return numbers
    return to_base(numbers, "loss", str(unit))
