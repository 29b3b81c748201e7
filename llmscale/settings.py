"""Settings: the numbers that one takes, and frozen dataclasses read from TOML tables.

An unknown key, a wrong type or a number out of range is an error.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from llmscale.errors import InputError
from llmscale.errors.printable import begun

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Range:
    """The numbers that a setting takes: finite, from `least` to `most`; without `least` itself if
    they are `above`.
    """

    least: float
    most: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        reached = value > self.least if self.above else value >= self.least
        return reached and value <= self.most

    def __str__(self) -> str:
        return (
            f"{'above' if self.above else 'at least'} {self.least:,g} and at most "
            f"{_plainly(self.most)}"
        )

    def check(self, name: str, value: float | None) -> None:
        """Raise InputError if `value`, that of the setting `name`, is not in the range."""
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(
                f"{name} is {begun(repr(value))}, which is no number",
                f"give a number that is {self}",
            )
        if value not in self:
            raise InputError(
                f"{name} is {begun(value)}, which is out of range", f"give a number that is {self}"
            )


def check_ranges(settings: Any, where: str = "") -> None:
    """Raise InputError for the first field of `settings` that lies outside what its `ranges()`
    allow.
    """
    for name, allowed in settings.ranges().items():
        allowed.check(f"{name}{where}", getattr(settings, name))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises InputError where it is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            f"there is no file {path}", "name a TOML file such as experiments/cpu.toml"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}", "compare experiments/cpu.toml") from error
    except RecursionError:
        raise InputError(f"{path} is nested too deeply", "compare experiments/cpu.toml") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "name a TOML file in UTF-8") from error


def from_table(kind: type[Settings], table: Any, where: str) -> Settings:
    """The dataclass `kind` from the table of the same keys.

    Raises InputError, naming `where` and the nearest key.
    """
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}", "write it as a table of keys and values")
    hints = typing.get_type_hints(kind)
    check_keys(table, set(hints), where)
    for key, value in table.items():
        check_value(key, value, hints[key], where)
    values = {
        key: from_table(hints[key], value, f"{where}.{key}")
        if dataclasses.is_dataclass(hints[key])
        else value
        for key, value in table.items()
    }
    return kind(**values)


def check_value(key: str, value: Any, hint: Any, where: str) -> None:
    """Raise InputError where `value` is not what `hint`, the type of a field, asks for."""
    if not _fits(value, hint):
        raise InputError(f"{key} in {where} is {value!r}", f"{key} is {_say(hint)}")


def check_keys(table: dict[str, Any], known: set[str], where: str) -> None:
    """Raise InputError for the first key of `table` that is not `known`, naming the nearest that
    is.
    """
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            fix = (
                f"did you mean {nearest[0]!r}?"
                if nearest
                else f"known keys are {', '.join(sorted(known))}"
            )
            raise InputError(f"unknown key {key!r} in {where}", fix)


def _fits(value: Any, hint: Any) -> bool:
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    kinds = _kinds(hint)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple(kinds)) or (isinstance(value, int) and float in kinds)


def _kinds(hint: Any) -> list[type]:
    return [kind for kind in typing.get_args(hint) if kind is not types.NoneType] or [hint]


def _say(hint: Any) -> str:
    words = {
        str: "text in quotes",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        dict: "a table",
    }
    return " or ".join(words.get(kind, "a table") for kind in _kinds(hint))


def _plainly(number: float) -> str:
    """A limit as people read it: 1,000,000, but 1e+12."""
    return f"{number:,.0f}" if number == int(number) and number <= 1e9 else f"{number:g}"
