"""Settings read from TOML tables and from keywords: an unknown key or a wrong type is an error."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.settings import Setting, keys_of, options_of, settings_of

Settings = TypeVar("Settings")
_MOST_SHOWN = 80
"""Letters of a wrong value."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises InputError if it is missing or is not TOML."""
    import tomllib

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
    """The dataclass `kind` from the table of the same keys. Raises InputError, naming `where` and
    the nearest key."""
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}", "write it as a table of keys and values")
    known = keys_of(kind)
    check_keys(table, set(known), where)
    values = {key: read_value(known[key], value, where) for key, value in table.items()}
    for one in settings_of(kind):
        if one.also in values:
            if one.name in values:
                problem = f"both {one.also!r} and {one.name!r} are in {where}, and are the same"
                raise InputError(problem, f"keep {one.also!r} only")
            values[one.name] = values.pop(one.also)
        if one.tables is not None:
            values[one.name] = {key: values.pop(key) for key in one.tables() if key in values}
    return kind(**values)


def with_keywords(settings: Settings, given: Mapping[str, Any], where: str) -> Settings:
    """`settings` with what is `given` by the names of options, in the tables where each belongs.
    None leaves a setting as it is. Raises InputError."""
    options = options_of(type(settings))
    plain = {one.name: one for one in settings_of(type(settings)) if not one.group}
    check_keys(given, {*options, *plain}, where)
    changes: dict[tuple[str, ...], dict[str, Any]] = {}
    for keyword, value in given.items():
        if value is None:
            continue
        if keyword in options:
            one, tables = options[keyword].setting, options[keyword].tables
        else:
            one, tables = plain[keyword], ()
        changes.setdefault(tables, {})[one.name] = read_value(one, value, where)
    return _replaced(settings, changes)


def read_value(one: Setting, value: Any, where: str) -> Any:
    """The value of a setting from what a TOML file, a keyword or an option gives. Raises
    InputError."""
    if one.table is not None:
        kind = one.table()
        return value if isinstance(value, kind) else from_table(kind, value, _within(where, one))
    if one.read is not None:
        return one.read(value, where)
    if one.is_list and one.parse is not None:
        return _read_list(one, value, where)
    if one.parse is not None and isinstance(value, str):
        return one.parse(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # of numpy, in which JSON cannot be written
    if int in one.kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    if not _fits(value, one):
        raise InputError(
            f"{one.keyword} in {where} is {_shown(value)}", f"{one.keyword} is {_say(one)}"
        )
    return value


def check_keys(table: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise InputError for the first key of `table` that is not `known`, naming the nearest that
    is."""
    for key in table:
        if key not in known:
            import difflib

            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            listed = f"known keys are {', '.join(sorted(known))}"
            fix = f"did you mean {nearest[0]!r}?" if nearest else listed
            raise InputError(f"unknown key {key!r} in {where}", fix)


def _shown(value: Any) -> str:
    """A wrong value in a sentence: of a whole table only its beginning."""
    return begun(" ".join(repr(value).split()), _MOST_SHOWN)


def _within(where: str, table: Setting) -> str:
    """The place of a table: `[hardware.ray] of FILE` in `[hardware] of FILE`."""
    if where.startswith("["):
        return where.replace("]", f".{table.name}]", 1)
    return f"[{table.name}] of {where}"


def _replaced(settings: Any, changes: Mapping[tuple[str, ...], dict[str, Any]]) -> Any:
    """`settings` with `changes` to it, and to the tables in it."""
    mine = dict(changes.get((), {}))
    for name in {tables[0] for tables in changes if tables}:
        inner = {tables[1:]: values for tables, values in changes.items() if tables[:1] == (name,)}
        mine[name] = _replaced(getattr(settings, name), inner)
    return dataclasses.replace(settings, **mine) if mine else settings


def _read_list(one: Setting, value: Any, where: str) -> Any:
    """The items of a list: of text with commas between, of a list of items, or as they are."""
    assert one.parse is not None
    (kind, *_) = get_args(one.kind)
    items = value if isinstance(value, list | tuple) else [value]
    if items and kind not in (str, float) and all(type(item) is kind for item in items):
        return tuple(items)
    taken = str | int | float if kind is float else str | int
    if not all(isinstance(item, taken) and not isinstance(item, bool) for item in items):
        raise InputError(
            f"{one.keyword} in {where} is {_shown(value)}",
            f"write it like {one.keyword} = {json.dumps(one.metavar.split(','))}",
        )
    return one.parse(",".join(str(item) for item in items))


def _fits(value: Any, one: Setting) -> bool:
    kinds = [get_origin(kind) or kind for kind in one.kinds]
    if Any in kinds:
        return True
    if isinstance(value, bool):
        return bool in kinds
    # Those of numpy, too: it registers its numbers.
    alike = {int: Integral, float: Real}
    return isinstance(value, tuple(alike.get(kind, kind) for kind in kinds))


def _say(one: Setting) -> str:
    words = {
        str: "text in quotes",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type: "a class",
        Sequence: "a list",
        Path: "a path",
    }
    return " or ".join(words.get(get_origin(kind) or kind, "a table") for kind in one.kinds)
