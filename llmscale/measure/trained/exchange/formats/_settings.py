"""What is read from another program's config: counts, and what is not computed here."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmscale.errors import InputError


class Wanted(NamedTuple):
    """A setting, and the only value of it that is computed here."""

    name: str
    value: Any


def refuse(config: Mapping[str, Any], wanted: Iterable[Wanted], path: Path) -> None:
    """Raise InputError for the first setting that is there and is another than `wanted`."""
    for name, value in wanted:
        if config.get(name) not in (None, value):
            raise InputError(
                f"{path} has {name} = {str(config[name])[:60]}, and only {value} can be computed "
                "here",
                "name a model without it",
            )


def table_of(config: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    """A table of settings, empty if there is none. Raises InputError."""
    value = config.get(name)
    if not isinstance(value, dict | None):
        raise InputError(
            f"{path} has {name} = {str(value)[:60]}, and it must be a table",
            "name the folder of a whole model",
        )
    return value or {}


def real_of(config: Mapping[str, Any], name: str, usual: float, path: Path) -> float:
    """A number above 0, or the usual one if there is none. Raises InputError."""
    value = config.get(name, usual)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise InputError(
            f"{path} has {name} = {str(value)[:60]}, and it must be a number above 0",
            "name the folder of a whole model",
        )
    return float(value)


def number_of(config: Mapping[str, Any], name: str, path: Path) -> int:
    """A count that the config must have. Raises InputError."""
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"{path} has {name} = {str(value)[:60]}, and it must be a whole number above 0",
            "name the folder of a whole model",
        )
    return value
