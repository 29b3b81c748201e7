"""Settings: each is declared once, as a field of a frozen dataclass, with all that is known of it.

From a declaration come the option of a command, the key of a TOML table, the keyword of a library
call, the checks of all three, the JSON schema, and docs/settings.md. Importing declarations loads
nothing heavy: `--help` reads them."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from numbers import Real
from typing import Any, TypeVar

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.menu import Menu, as_asked

_KEY = "setting"
Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """The numbers that a setting takes: finite, from `least` to `most`; without `least` itself if
    they are `above`."""

    least: float
    most: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        reached = value > self.least if self.above else value >= self.least
        return reached and value <= self.most

    def __str__(self) -> str:
        begins = "above" if self.above else "at least"
        return f"{begins} {self.least:,g} and at most {_plainly(self.most)}"

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


@dataclass(frozen=True)
class Setting:
    """A field of a dataclass of settings, and what is known of it."""

    name: str
    kind: Any
    """The type of its value."""
    default: Any
    """MISSING if there is none, or if it is made anew each time, as a table is."""
    help: str = ""
    """What it is. Its first sentence is what `--help` shows."""
    usual: str = ""
    """What is taken if it is left out, in words: for a default of None or of nothing."""
    group: str = ""
    """The group of options that it is shown in; without one it is no option."""
    option: str = ""
    """The name of the option and of the keyword, if not that of the field."""
    flags: tuple[str, ...] = ()
    """How the command line writes it, if not as its name: `("--out", "-o")`."""
    repeats: bool = False
    """Whether its option may be given several times, once for each item."""
    metavar: str = ""
    choices: Callable[[], Iterable[str]] | None = None
    """The menu, looked up when it is needed."""
    also: str = ""
    """Another key by which a file may have it."""
    only_shown: bool = False
    """Whether the menu is only shown, since whoever takes a value looks it up."""
    within: Range | None = None
    parse: Callable[[str], Any] | None = None
    """Makes a value of text; of a list, its items are joined by commas before."""
    read: Callable[[Any, str], Any] | None = None
    """Checks what a file gives, of which the second argument says the place."""
    table: Callable[[], type] | None = None
    """The dataclass that a table of settings is read into."""
    each: Callable[[], type] | None = None
    """Of a dict of tables by names of the user's own, what each is read into."""
    tables: Callable[[], Mapping[str, type]] | None = None
    """Of a dict of tables by name, such as one for each choice of a menu: what each is read into.
    A file has them under their own names, next to the other settings."""

    @property
    def keyword(self) -> str:
        """Its name on the command line, with underscores, and in a library call."""
        return self.option or self.name

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return self.flags[0] if self.flags else f"--{self.keyword.replace('_', '-')}"

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value may have, None left out."""
        if isinstance(self.kind, types.UnionType) or typing.get_origin(self.kind) is typing.Union:
            kinds = typing.get_args(self.kind)
            return tuple(kind for kind in kinds if kind is not types.NoneType)
        return (self.kind,)

    @property
    def is_list(self) -> bool:
        """Whether a value is several items, as `sizes` are."""
        return typing.get_origin(self.kind) is tuple

    @property
    def description(self) -> str:
        """What it is, and what is taken if it is left out."""
        if not self.usual:
            return self.help
        return f"{self.help.removesuffix('.')}; left out: {self.usual}."

    def check(self, value: Any, where: str = "") -> None:
        """Raise InputError if `value` is not on the menu or out of range."""
        if self.choices is not None and value is not None and not self.only_shown:
            choices = self.choices()
            if value not in choices:
                raise InputError(
                    f"{self.name}{where} {value!r} is not known",
                    f"choose one of {', '.join(choices)}",
                )
        if self.within is not None:
            self.within.check(f"{self.name}{where}", value)


def setting(
    default: Any = MISSING, *, factory: Callable[[], Any] | None = None, help: str, **known: Any
) -> Any:
    """A field of a dataclass that declares a setting; `known` are fields of Setting."""
    metadata = {_KEY: {"help": " ".join(help.split()), **known}}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def settings_of(kind: Any) -> tuple[Setting, ...]:
    """The settings that the fields of a dataclass are, in their order."""
    return _settings_of(kind)


@cache
def _settings_of(kind: Any) -> tuple[Setting, ...]:
    found = []
    for field in dataclasses.fields(kind):
        known = dict(field.metadata.get(_KEY, {}))
        if dataclasses.is_dataclass(field.type):
            known.setdefault("table", _always(field.type))
        found.append(Setting(field.name, field.type, field.default, **known))
    return tuple(found)


def keys_of(kind: Any) -> dict[str, Setting]:
    """The keys of a TOML table that is read into `kind`, and what is known of each."""
    keys: dict[str, Setting] = {}
    for one in settings_of(kind):
        if one.tables is None:
            keys |= dict.fromkeys(filter(None, (one.also, one.name)), one)
            continue
        for name, inner in one.tables().items():
            keys[name] = Setting(name, inner, MISSING, table=_always(inner))
    return keys


def check_settings(values: Any, where: str = "") -> None:
    """Raise InputError for the first field of `values` that is not what its declaration allows."""
    for one in settings_of(type(values)):
        menu = one.choices() if one.choices is not None and not one.only_shown else None
        if isinstance(menu, Menu):
            # A choice in a file of the user's own is named by what the file holds from here on.
            object.__setattr__(values, one.name, menu.pin(getattr(values, one.name)))
        elif menu is not None or one.within is not None:
            one.check(getattr(values, one.name), where)


@dataclass(frozen=True)
class Option:
    """A setting that commands and library calls take, and the tables that lead to it."""

    setting: Setting
    tables: tuple[str, ...] = ()


def options_of(kind: Any) -> dict[str, Option]:
    """The settings of `kind`, and of the tables in it, that belong to a group of options; by
    keyword."""
    return _options_of(kind)


@cache
def _options_of(kind: Any) -> dict[str, Option]:
    found: dict[str, Option] = {}
    for one in settings_of(kind):
        if one.group:
            found[one.keyword] = Option(one)
        elif one.table is not None and dataclasses.is_dataclass(one.kind):
            for keyword, inner in options_of(one.table()).items():
                found[keyword] = Option(inner.setting, (one.name, *inner.tables))
    return found


def shows_keywords(kind: Any) -> Callable[[Call], Call]:
    """Have a function's `**settings` shown, in help and notebooks, as the settings of `kind`."""

    def decorate(call: Call) -> Call:
        shown = inspect.signature(call)
        own = [one for one in shown.parameters.values() if one.kind is not one.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.setting.default)
            for name, option in options_of(kind).items()
            if name not in shown.parameters
        ]
        call.__signature__ = shown.replace(parameters=own + more)  # type: ignore[attr-defined]
        return call

    return decorate


def stated_options(values: Any, leave_out: Iterable[str] = ()) -> list[str]:
    """The options by which a command is asked for `values`: those that are not the usual."""
    usual, words = type(values)(), []
    for keyword, option in options_of(type(values)).items():
        given, default = (_inner(one, option.tables) for one in (values, usual))
        value = getattr(given, option.setting.name)
        if keyword in leave_out or value == getattr(default, option.setting.name):
            continue
        flag = option.setting.flag
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif option.setting.is_list:
            words += [flag, ",".join(as_asked(str(item)) for item in value)]
        else:
            words += [flag, as_asked(str(value))]
    return words


def _inner(values: Any, tables: Iterable[str]) -> Any:
    for name in tables:
        values = getattr(values, name)
    return values


def _always(kind: Any) -> Callable[[], type]:
    return lambda: kind


def _plainly(number: float) -> str:
    """A limit as people read it: 1,000,000, but 1e+12."""
    return f"{number:,.0f}" if number == int(number) and number <= 1e9 else f"{number:g}"
