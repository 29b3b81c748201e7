"""What is read from another program's config: counts, and what is not computed here."""

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
        if name in config and config[name] is not None and config[name] != value:
            raise InputError(
                f"{path} has {name} = {str(config[name])[:60]}, and only {value} can be computed "
                "here",
                "name a model without it",
            )


def number_of(config: Mapping[str, Any], name: str, path: Path) -> int:
    """A count that the config must have. Raises InputError."""
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"{path} has {name} = {str(value)[:60]}, and it must be a whole number above 0",
            "name the folder of a whole model",
        )
    return value
