"""Files that llmscale wrote, read as if anybody had: what is torn, foreign or of a wrong type is
said, never met later.

Whoever can do without a damaged file, or make it anew, catches DamagedFile; else a command shows it
as its error."""

import json
import math
import stat
import types
import typing
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llmscale.errors import InputError

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}
_TORN = (OSError, ValueError, LookupError, TypeError, AttributeError)
_LARGEST = 2**63
REMAKE = "the sweep's own command makes it anew from the folders of its runs"
"""What helps against a damaged table."""


class DamagedFile(InputError):  # noqa: N818 - the file is what is damaged, and what is told
    """A file that is there and is not what was written: `path`, and the `reason` in words."""

    def __init__(
        self, path: Path, reason: str, fix: str = "the command that wrote it makes it anew"
    ) -> None:
        super().__init__(f"{path} is damaged: {reason}", fix)
        self.path, self.reason = path, reason


class WrongValue(ValueError):  # noqa: N818
    """Why a value is not of the type that it must have, in words."""


def plain_file(path: Path) -> Path:
    """`path`, if it is a file: opening a pipe waits for ever. Raises DamagedFile; FileNotFoundError
    if it is not there. A path that may not be looked at is left to whoever opens it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise
    except OSError:
        return path
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise DamagedFile(path, f"it is {what}, not a file")
    return path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around reading a table: what is wrong with it is DamagedFile. FileNotFoundError stays."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (*_TORN, pa.ArrowException) as error:
        raise DamagedFile(path, str(error), REMAKE) from error


@contextmanager
def reading_results(path: Path) -> Iterator[None]:
    """As `reading`, of a file that every sweep writes: InputError if there is none."""
    try:
        with reading(path):
            yield
    except FileNotFoundError:
        fix = "name a results folder that a sweep wrote"
        raise InputError(f"there is no {path}", fix) from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`. Raises DamagedFile; FileNotFoundError."""
    try:
        payload = json.loads(plain_file(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise DamagedFile(path, f"byte {error.start} is no text") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, _no_json(error)) from error
    except OSError as error:
        raise DamagedFile(path, error.strerror or str(error)) from error
    if not isinstance(payload, dict):
        raise DamagedFile(path, f"it holds {_say(payload)}, not a table of keys and values")
    return payload


def _no_json(error: Exception) -> str:
    """What is wrong with a text that is no JSON, in words: most often its end is missing."""
    if not isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({error})"
    if not error.doc.strip():
        return "it is empty"
    ended = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    if ended:
        return f"it breaks off in line {error.lineno}"
    return f"line {error.lineno} is no JSON at column {error.colno}"


def known_object(path: Path) -> dict[str, Any]:
    """As read_object, but an empty table if there is none, or if it is damaged."""
    try:
        return read_object(path)
    except (OSError, DamagedFile):
        return {}


def typed(kind: type, payload: Any, where: str = "") -> Any:
    """The dataclass `kind` from a JSON object. Keys that it does not know are left out. Raises
    WrongValue. A key may be missing if its field has a default, or may be empty."""
    if not isinstance(payload, dict):
        raise WrongValue(f"{where or 'it'} is {_say(payload)}, not a table")
    values: dict[str, Any] = {}
    for name, (hint, has_default) in _fields(kind).items():
        at = f"{where}.{name}" if where else name
        if name not in payload:
            if not has_default and not may_be_empty(hint):
                raise WrongValue(f"it has no {at}")
            if not has_default:
                values[name] = None
            continue
        check(payload[name], hint, at)
        values[name] = payload[name]
        if isinstance(hint, type) and is_dataclass(hint):
            values[name] = typed(hint, payload[name], at)
    return kind(**values)


def check(value: Any, hint: Any, where: str) -> None:
    """Raise WrongValue if `value`, of a JSON file, is not of the type or union `hint`."""
    if value is None and may_be_empty(hint):
        return
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [typing.get_origin(kind) or kind for kind in members if kind is not types.NoneType]
    if any(is_dataclass(kind) for kind in kinds):
        return  # which `typed` looks at
    if not any(_fits(value, kind) for kind in kinds):
        wanted = " or ".join(_WORDS.get(kind, "a table") for kind in kinds)
        raise WrongValue(f"{where} is {_say(value)}, not {wanted}")


def check_count(value: Any, where: str, least: int = 1, most: float = math.inf) -> None:
    """Raise WrongValue if `value` is no whole number between `least` and `most`."""
    check(value, int, where)
    if not least <= value <= most:
        raise WrongValue(f"{where} is {_say(value)}")


def check_list(value: Any, kind: type, where: str) -> None:
    """Raise WrongValue if `value` is no list of `kind`."""
    check(value, list, where)
    for item in value:
        check(item, kind, f"an item of {where}")


def check_table(value: Any, kind: type, where: str, keys: Collection[str] | None = None) -> None:
    """Raise WrongValue if `value` is no table of `kind`, or its `keys` that are there are not."""
    check(value, dict, where or "it")
    for key in value if keys is None else [key for key in keys if key in value]:
        check(value[key], kind, f"{where}.{key}" if where else key)


def may_be_empty(hint: Any) -> bool:
    """Whether None is of the type `hint`."""
    return isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)


@cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    """The type of every field, and whether it has a default."""
    hints = typing.get_type_hints(kind)
    found = {}
    for field in fields(kind):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        found[field.name] = (hints[field.name], has_default)
    return found


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST)
    if kind is int:
        return isinstance(value, int) and abs(value) < _LARGEST
    return isinstance(value, kind)


def _say(value: Any) -> str:
    """A value in an error, which may be of any length."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
