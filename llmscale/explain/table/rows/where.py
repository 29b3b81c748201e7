"""Filters of runs for --where and --holdout, read by a parser: `flops < 1e20 and data == c4`. A
column of numbers may be compared with another: `tokens <= unique_tokens`."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, listed
from llmscale.errors.command_lines import condition as stated
from llmscale.errors.command_lines import where_option
from llmscale.errors.printable import shortened
from llmscale.explain.table.columns.resolve import resolve
from llmscale.explain.table.columns.units import Array, numbers_of
from llmscale.quantity import parse_amount

Mask = NDArray[np.bool_]
Tokens = list[tuple[str, str]]
"""Kind and text of the words and signs of a filter."""

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The sign of a comparison written the other way round."""
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*'|`(?:[^`]|``)*`)|(?P<sign><=|>=|==|!=|<|>|=)|(?P<mark>[,()\[\]])"""
    r"""|(?P<word>[^\s,()\[\]<>=!"'`]+))"""
)
_HOW = (
    'write it like "flops < 1e20", "data == c4" or "seed in 0,1,2", joined by and; '
    "quote names with spaces"
)


@dataclass(frozen=True)
class Condition:
    """One comparison of a column with values: `sign` is <, <=, >, >=, ==, !=, in or not in. A
    value of a column of numbers may name another column."""

    column: str
    sign: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return stated(self.column, self.sign, *self.values)


def parse_where(text: str) -> tuple[Condition, ...]:
    """The conditions of a filter, all of which a run must meet. Raises InputError."""
    tokens = _tokens(text)
    conditions = []
    while True:
        condition, tokens = _condition(tokens, text)
        conditions.append(condition)
        if not tokens:
            return tuple(conditions)
        kind, word = tokens[0]
        if kind != "word" or word.lower() != "and":
            raise _wrong(text, f"{word!r} does not belong after {str(condition)!r}")
        tokens = tokens[1:]


def keep(frame: pd.DataFrame, filters: Sequence[str]) -> Mask:
    """The runs that meet every filter; a missing value meets only `!=` and `not in`.
    Raises InputError for an unknown column, an unsuitable value, and if no run is left."""
    kept = np.ones(len(frame), dtype=bool)
    for text in filters:
        for condition in parse_where(text):
            left = kept & met(frame, condition)
            if kept.any() and not left.any():
                column = resolve(condition.column, frame)
                raise InputError(
                    f"no run meets {short_filter(str(condition))}: "
                    f"{_span(column, frame.loc[kept, column])}",
                    "choose values inside that",
                )
            kept = left
    return kept


def met(frame: pd.DataFrame, condition: Condition) -> Mask:
    """Which runs meet a condition, whose value may be another column: tokens <= unique_tokens.
    Raises InputError for an unknown column and an unsuitable value."""
    column = resolve(condition.column, frame)
    other = _other_numbers(frame, column, condition)
    if other is None:
        return meets(frame[column], condition)
    own = numbers_of(frame[column], counts=True)[0]
    return np.asarray(_COMPARE[condition.sign](own, other), dtype=bool)


def _other_numbers(frame: pd.DataFrame, column: str, condition: Condition) -> Array | None:
    """The numbers of the column that a column of numbers is compared with; None for a value."""
    dtype = frame[column].dtype
    is_number = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    value = condition.values[0]
    if condition.sign not in _COMPARE or not is_number or _is_number(value):
        return None
    try:
        found = numbers_of(frame[resolve(value, frame)], counts=True)[0]
    except InputError:
        return None
    return None if np.isnan(found).all() else found


def short_filter(text: str) -> str:
    """A filter for a message: in quotes, and not longer than one can read."""
    return repr(shortened(text, 200))


def _tokens(text: str) -> Tokens:
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text, f"{text[at:].strip()[:20]!r} cannot be read")
        kind = str(match.lastgroup)
        tokens.append((kind, _unquoted(match[kind]) if kind == "quoted" else match[kind]))
        at = match.end()
    return tokens


def _unquoted(text: str) -> str:
    """What stands between quotes, of which one of their own kind is written twice."""
    mark = text[0]
    return text[1:-1].replace(2 * mark, mark)


def _condition(tokens: Tokens, text: str) -> tuple[Condition, Tokens]:
    """The first condition of `tokens`, and the tokens after it."""
    if not tokens:
        raise _wrong(text, "a condition is missing")
    if tokens[0][0] not in ("word", "quoted"):
        raise _wrong(text, f"a column's name should stand before {tokens[0][1]!r}")
    column, rest = tokens[0][1], tokens[1:]
    _refuse_turned(tokens, text)
    if not rest:
        raise _wrong(text, f"{column!r} is compared with nothing")
    kind, sign = rest[0][0], rest[0][1].lower()
    if kind == "sign":
        if len(rest) < 2 or rest[1][0] not in ("word", "quoted"):
            raise _wrong(text, f"a value is missing after {column} {sign}")
        return Condition(column, "==" if sign == "=" else sign, (rest[1][1],)), rest[2:]
    if kind == "word" and sign == "not" and len(rest) > 1 and rest[1] == ("word", "in"):
        sign, rest = "not in", rest[1:]
    if kind == "word" and sign in ("in", "not in"):
        values, rest = _values(rest[1:], text)
        return Condition(column, sign, values), rest
    raise _wrong(text, f"a comparison should stand after {column!r}, not {rest[0][1]!r}")


def _refuse_turned(tokens: Tokens, text: str) -> None:
    """Raise InputError for a number before a sign and a name after it: 3 < loss."""
    if [kind for kind, _ in tokens[:3]] != ["word", "sign", "word"]:
        return
    number, sign, name = (word for _, word in tokens[:3])
    if _is_number(number) and not _is_number(name):
        raise InputError(
            f"--where {short_filter(text)} has a number before {sign}, and a column's name "
            "belongs there",
            f"write the column first: {where_option(name, _TURNED.get(sign, sign), number)} "
            "(quote a column that is called by a number)",
        )


def _values(tokens: Tokens, text: str) -> tuple[tuple[str, ...], Tokens]:
    """The values of a list, with or without brackets, and the tokens after it."""
    closing = {"(": ")", "[": "]"}.get(tokens[0][1]) if tokens and tokens[0][0] == "mark" else None
    rest = tokens[1:] if closing else tokens
    values: list[str] = []
    while rest and rest[0][0] in ("word", "quoted"):
        values.append(rest[0][1])
        rest = rest[1:]
        if not rest or rest[0] != ("mark", ","):
            break
        rest = rest[1:]
    if not values:
        raise _wrong(text, "a list of values is missing after in")
    if closing:
        if not rest or rest[0] != ("mark", closing):
            raise _wrong(text, f"a list is not closed by {closing}")
        rest = rest[1:]
    return tuple(values), rest


def meets(given: pd.Series, condition: Condition) -> Mask:
    """Which values of a column meet `condition`. Raises InputError for values that do not suit."""
    sign, values = condition.sign, condition.values
    missing = given.isna().to_numpy()
    present = given[~missing]
    if len(present) and all(isinstance(value, (bool, np.bool_)) for value in present):
        if sign in ("<", "<=", ">", ">="):
            raise InputError(
                f"column {condition.column!r} holds True and False, which have no order",
                f"write {where_option(condition.column, '==', True)}",
            )
        wanted: list[Any] = [_truth(value, condition) for value in values]
        held: Any = given.astype(object).where(~missing, None).to_numpy()
    elif pd.api.types.is_numeric_dtype(given.dtype):
        held = numbers_of(given, counts=False)[0]
        wanted = [_number(value, condition) for value in values]
    elif sign in ("<", "<=", ">", ">="):
        held = numbers_of(given, counts=True)[0]
        if np.isnan(held[~missing]).any():
            raise InputError(
                f"column {condition.column!r} holds text, which has no order: "
                f"{_span(condition.column, present)}",
                f"write {where_option(condition.column, '==', 'NAME')}, or in NAME,NAME",
            )
        wanted = [_number(value, condition) for value in values]
    else:
        held = given.map(str).astype(object).where(~missing, None).to_numpy()
        wanted = list(values)
    if sign in ("in", "not in"):
        inside = np.zeros(len(given), dtype=bool)
        for value in wanted:
            inside |= np.asarray(held == value, dtype=bool)
        return inside if sign == "in" else ~inside
    return np.asarray(_COMPARE[sign](held, wanted[0]), dtype=bool)


def _truth(value: str, condition: Condition) -> bool:
    truths = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in truths:
        raise InputError(
            f"column {condition.column!r} holds True and False, and {value!r} is neither",
            f"write {where_option(condition.column, '==', True)} or "
            f"{where_option(condition.column, '==', False)}",
        )
    return truths[value.lower()]


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?[kmbgt]?", text, re.IGNORECASE))


def _number(value: str, condition: Condition) -> float:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return parse_amount(value)
    except InputError:
        raise InputError(
            f"column {condition.column!r} holds numbers, and {value!r} is none, nor a column of "
            "numbers",
            f"write it like {where_option(condition.column, '<', '10M')}, or == 1e9",
        ) from None


def _span(column: str, given: pd.Series) -> str:
    """The values there are, for people."""
    present = given.dropna()
    if present.empty:
        return f"{column} is empty there"
    if pd.api.types.is_numeric_dtype(given.dtype) and not pd.api.types.is_bool_dtype(given.dtype):
        return f"{column} goes from {present.min():.4g} to {present.max():.4g} there"
    return f"{column} is {listed(list(dict.fromkeys(str(value)[:40] for value in present)))} there"


def _wrong(text: str, reason: str) -> InputError:
    return InputError(
        f"--where {short_filter(text)} cannot be read: {shortened(reason, 200)}", _HOW
    )
