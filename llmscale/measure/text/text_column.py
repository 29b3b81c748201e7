"""Which column of a table holds the text: by its name, a dotted name into nested values, or another
usual name."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llmscale.errors import InputError

DEFAULT: Final = "text"
"""What is asked for if nothing is: this column, or the one that has another usual name."""
USUAL: Final = (
    "text",
    "content",
    "contents",
    "raw_content",
    "raw_text",
    "document",
    "doc",
    "body",
    "article",
    "passage",
    "page_content",
    "story",
)
"""What published corpora call the column of text, case ignored."""
_DEEPEST: Final = 4


def choose_column(asked: str, row: Mapping[str, Any], where: str) -> str:
    """The name of the column of text in a table whose first row is `row`, where None stands for a
    value that is not known yet. Raises InputError if there is no such column, or if several
    could be meant."""
    if asked in row or _reaches(asked, row):
        return asked
    if asked != DEFAULT:
        raise no_such_column(where, asked, _paths(row))
    could_be = (name for name in row if str(name).lower() in USUAL)
    usual = [name for name in could_be if isinstance(row[name], str | None)]
    if len(usual) == 1:
        return usual[0]
    if usual:
        raise InputError(
            f"{where} has no column {asked!r}, and {' and '.join(map(repr, usual))} could both be "
            "the text",
            f"name the one to train on: --text-column {usual[0]}",
        )
    raise no_such_column(where, asked, _paths(row))


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """What stands in `column` of a row, a dotted name going into nested values. Raises KeyError."""
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if value is None:  # an empty struct holds no text
            return None
        if not isinstance(value, Mapping):
            raise KeyError(column)
        value = value[name]
    return value


def text_in(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text of one row. Raises InputError if there is none."""
    try:
        value = value_of(row, column)
    except KeyError:
        raise no_such_column(where, column, _paths(row)) from None
    return text_of(value, where, column)


def text_of(value: object, where: str, text_column: str) -> str:
    """The text in a cell; an empty cell is an empty document. Raises InputError."""
    if value is None:
        return ""
    if isinstance(value, bytes):  # parquet files of older writers do not say that bytes are text
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"column {text_column!r} at {where} is not UTF-8 at its byte {error.start}",
                "write the file again with text in UTF-8, or name another --text-column",
            ) from None
    if not isinstance(value, str):
        raise InputError(
            f"column {text_column!r} at {where} holds {type(value).__name__}, not text",
            "name the column that holds the text: --text-column NAME",
        )
    return value


def no_such_column(where: str, text_column: str, columns: Sequence[str]) -> InputError:
    """The error for a table without the asked column; it lists the columns there are."""
    listed = ", ".join(map(str, columns[:20])) or "none"
    likely = next((name for name in columns if str(name).lower().split(".")[-1] in USUAL), None)
    likely = likely or next((name for name in columns if "text" in str(name).lower()), None)
    return InputError(
        f"{where} has no column {text_column!r}; its columns are {listed}",
        f"name the column that holds the text: --text-column {likely or 'NAME'}",
    )


def _reaches(column: str, row: Mapping[str, Any]) -> bool:
    try:
        value_of(row, column)
    except KeyError:
        return False
    return True


def _paths(row: Mapping[str, Any], before: str = "", depth: int = 1) -> list[str]:
    """The names of the columns, those of nested values with dots."""
    names: list[str] = []
    for name, value in row.items():
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            names += _paths(value, f"{before}{name}.", depth + 1)
        else:
            names.append(f"{before}{name}")
    return names
