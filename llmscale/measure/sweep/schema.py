"""The JSON schema of a sweep's TOML file, for editors: made from the dataclasses that such a file
is read into."""

import typing
from typing import Any

from llmscale.measure.sweep.spec import RECIPE_NAME, SweepSpec
from llmscale.measure.train.recipe import DEFAULT, Recipe
from llmscale.menu import Menu
from llmscale.quantity import TokenBudget
from llmscale.settings import Setting, keys_of

IN_FILE = r"\.py(:\w+)?$"
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
    schema["properties"]["runs"]["items"]["required"] = ["size", "tokens"]
    weights = {"type": "number", "minimum": 0}
    schema["properties"]["data"]["properties"]["mixtures"] |= {
        "additionalProperties": {"type": "object", "additionalProperties": weights},
    }
    return {
        "$schema": DIALECT,
        "title": "A sweep of llmscale",
        **schema,
        "anyOf": [{"required": [name]} for name in ("sizes", "flops", "runs")],
        "not": {"required": ["sizes", "flops"]},
        "dependencies": {"tokens": ["sizes"]},
    }


def _table(kind: type) -> dict[str, Any]:
    """The schema of the table that is read into the dataclass `kind`."""
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": {key: _property(one) for key, one in keys_of(kind).items()},
        "additionalProperties": False,
    }


def _property(one: Setting) -> dict[str, Any]:
    """The schema of one key."""
    if one.table is not None:
        # What a table is, its own docstring says best.
        return _table(one.table())
    value = _value(one)
    if one.choices is not None:
        menu = one.choices()
        listed = {"enum": list(menu)}
        # Next to what is listed, a choice in a file of the user's own.
        others = [{"pattern": IN_FILE}]
        if isinstance(menu, Menu) and menu.takes_options:
            others.append({"pattern": f"^({'|'.join(menu)}):"})
        value |= {"anyOf": [listed, *others]} if isinstance(menu, Menu) else listed
    if one.within is not None:
        least = "exclusiveMinimum" if one.within.above else "minimum"
        value |= {least: one.within.least, "maximum": one.within.most}
    if isinstance(one.default, str | int | float):
        value["default"] = one.default
    return {**value, "description": one.description}


def _value(one: Setting) -> dict[str, Any]:
    """The schema of the type of a value."""
    if one.is_list and one.each is not None:
        return {"type": "array", "items": _table(one.each())}
    if one.is_list:
        (kind, *_) = typing.get_args(one.kind)
        item = {"type": _ITEMS[kind]}
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}
    if one.each is not None:
        return {"type": "object", "additionalProperties": _table(one.each())}
    if one.read is not None:
        return {"type": "object"}
    if one.kind in _ITEMS and one.kind not in _SCALARS:
        return {"type": _ITEMS[one.kind]}
    kinds = [_SCALARS[kind] for kind in one.kinds]
    if one.parse is not None:
        kinds.append("string")
    kinds = list(dict.fromkeys(kinds))
    return {"type": kinds if len(kinds) > 1 else kinds[0]}
