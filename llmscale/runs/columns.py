"""Rows of a table as dataclasses: a column is a field, and all else about it follows from that."""

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW = {str: "string", int: "int64", float: "float64"}
_WORDS = {"string": "text", "int64": "whole number", "float64": "number"}


@dataclass(frozen=True)
class Column:
    """What is known of a column."""

    name: str
    kind: str
    """Its type in arrow: `string`, `int64` or `float64`."""
    may_be_empty: bool
    unit: str
    doc: str


def column(doc: str, unit: str = "") -> Any:
    """A field of a row that must be given, with what it means."""
    return field(metadata={"doc": doc, "unit": unit})


def optional(doc: str, unit: str = "") -> Any:
    """A field of a row that is None if it is not given."""
    return field(default=None, metadata={"doc": doc, "unit": unit})


@cache
def columns_of(row: type) -> tuple[Column, ...]:
    """The columns of a row's dataclass, in order."""
    hints = typing.get_type_hints(row)
    found = []
    for one in fields(row):
        hint = hints[one.name]
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType] or [hint]
        empty = types.NoneType in typing.get_args(hint)
        doc, unit = one.metadata["doc"], one.metadata["unit"]
        found.append(Column(one.name, _ARROW[kinds[0]], empty, unit, doc))
    return tuple(found)


def column_kinds(row: type) -> dict[str, str]:
    """The arrow type of each column, by name."""
    return {column.name: column.kind for column in columns_of(row)}


def rows_table(row: type, rows: Iterable[Any]) -> "pa.Table":
    """Rows of the dataclass `row` as an arrow table."""
    import pyarrow as pa

    listed = list(rows)
    kinds = column_kinds(row)
    arrays = [pa.array([getattr(item, name) for item in listed], kinds[name]) for name in kinds]
    return pa.table(arrays, names=list(kinds))


def fields_from(kind: type, *sources: object) -> dict[str, Any]:
    """Values for the fields of the dataclass `kind`: each from the first source that has one."""
    values: dict[str, Any] = {}
    for name in _names(kind):
        owner = next((source for source in sources if hasattr(source, name)), None)
        if owner is not None:
            values[name] = getattr(owner, name)
    return values


def markdown_table(row: type) -> str:
    """The columns of a row for people to read: name, what it holds, what it means."""
    lines = ["| column | holds | meaning |", "| --- | --- | --- |"]
    for column in columns_of(row):
        holds = [_WORDS[column.kind], column.unit, "or empty" if column.may_be_empty else ""]
        lines.append(f"| `{column.name}` | {', '.join(filter(None, holds))} | {column.doc} |")
    return "\n".join(lines)


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))
