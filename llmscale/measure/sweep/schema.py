"""The JSON schema of a sweep's TOML file, for editors: made from the dataclasses that such a file
is read into.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Collection
from functools import cache
from typing import Any

from llmscale.measure.sweep.spec import RECIPE_NAME, SweepSpec
from llmscale.measure.train.recipe import DEFAULT, Recipe
from llmscale.menu import Menu
from llmscale.quantity import TokenBudget

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors know best."""
_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ITEMS: dict[Any, list[str]] = {
    str: ["string", "integer"],
    TokenBudget: ["string", "integer"],
    float: ["string", "number"],
}
"""By type of item, how a list may write it: counts as numbers, or as text with a suffix."""


def sweep_schema() -> dict[str, Any]:
    """The schema; every key that is not in it is an error, as it is when the file is read."""
    schema = _table(SweepSpec)
    schema["properties"]["recipes"] |= {
        "propertyNames": {"pattern": f"^{RECIPE_NAME.pattern}$", "not": {"const": DEFAULT}},
        "additionalProperties": _table(Recipe),
    }
    return {
        "$schema": DIALECT,
        "title": "A sweep of llmscale",
        **schema,
        "oneOf": [{"required": ["sizes"]}, {"required": ["flops"]}],
        "dependencies": {"tokens": ["sizes"]},
    }


def _table(kind: type) -> dict[str, Any]:
    """The schema of the table that is read into the dataclass `kind`."""
    hints, said = typing.get_type_hints(kind), _field_docs(kind)
    menus = kind.menus() if hasattr(kind, "menus") else {}
    ranges = kind.ranges() if hasattr(kind, "ranges") else {}
    properties = {}
    for field in dataclasses.fields(kind):
        value = _value(hints[field.name])
        if field.name in menus:
            value |= _choice(menus[field.name])
        if field.name in ranges:
            allowed = ranges[field.name]
            value["exclusiveMinimum" if allowed.above else "minimum"] = allowed.least
            value["maximum"] = allowed.most
        if field.default is not dataclasses.MISSING and isinstance(
            field.default, str | int | float
        ):
            value["default"] = field.default
        if field.name in said:
            value["description"] = said[field.name]
        properties[field.name] = value
    return {
        "description": _one_line(kind.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _value(hint: Any) -> dict[str, Any]:
    """The schema of a value of type `hint`."""
    if dataclasses.is_dataclass(hint):
        return _table(typing.cast(type, hint))
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        item = {"type": _ITEMS[parts[0]]}
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}
    if origin is dict or hint is dict:
        return {"type": "object"}
    if origin in (typing.Union, types.UnionType):
        kinds = [_value(part) for part in parts if part is not types.NoneType]
        plain = all(set(kind) == {"type"} for kind in kinds)
        if len(kinds) == 1:
            return kinds[0]
        return {"type": [kind["type"] for kind in kinds]} if plain else {"anyOf": kinds}
    return {"type": _SCALARS[hint]}


def _choice(menu: Collection[str]) -> dict[str, Any]:
    """The schema of a name on a menu, or of one in a file of the user's own if that may be."""
    one = {"enum": list(menu)}
    return {"anyOf": [one, {"pattern": r"\.py(:\w+)?$"}]} if isinstance(menu, Menu) else one


@cache
def _field_docs(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass, by field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for before, here in itertools.pairwise(body):
        is_text = isinstance(here, ast.Expr) and isinstance(here.value, ast.Constant)
        if is_text and isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            found[before.target.id] = _one_line(str(here.value.value))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
