"""Languages whose entropy is known exactly: a menu. `--data synthetic:markov,order=2` is
`markov.py`.

A member is a frozen dataclass of `Language`: its fields are its settings, and `body()` is what
it says with which chances. It must be the same on every machine: `chances.py` has what it takes."""

import importlib
import inspect
import math
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.measure.text.automaton import Automaton
from llmscale.menu import names_in
from llmscale.quantity import parse_count
from llmscale.settings import Range, check_settings, setting

_OPENING_NATS: Final = 40.0
"""Two of a billion documents are the same with a chance of 2e-18 times their pairs: one in 500."""


def whole(text: str) -> int:
    """A setting that is a whole number: `27`, `4k`. Raises InputError."""
    if text.strip() == "0":
        return 0
    count = parse_count(text)
    with suppress(ValueError):  # it has a suffix
        if float(text) != count:
            raise InputError(f"{text.strip()!r} is no whole number", "write it like 27 or 4k")
    return count


def number(text: str) -> float:
    """A setting that is a number. Raises InputError."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is no number", "write it like 1.5") from None


@dataclass(frozen=True)
class Language(ABC):
    """The settings of a language, from which its automaton follows."""

    seed: int = setting(
        0, help="Draws the language itself and its documents.", parse=whole, within=Range(0, 1e12)
    )

    opening: int | None = setting(
        None,
        help="Symbols that a document begins with, all equally likely, so that no two documents "
        "are the same: text that is cleaned of repeats would follow another law.",
        usual=f"as many as tell {_OPENING_NATS:g} nats",
        parse=whole,
        within=Range(0, 1000),
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def automaton(self) -> Automaton:
        """What its documents say, with which chances. Raises InputError if it cannot be held."""
        body = self.body()
        opening = self.opening
        if opening is None:
            opening = math.ceil(_OPENING_NATS / math.log(len(body.symbols)))
        return body.opened(opening) if opening else body

    @abstractmethod
    def body(self) -> Automaton:
        """What follows the opening. Raises InputError if it cannot be held."""


def language_names() -> tuple[str, ...]:
    """The languages on the menu."""
    return names_in(__name__)


def language_of(name: str) -> type[Language]:
    """The language on the menu. Raises InputError that names the nearest."""
    names = language_names()
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name.lower(), names, n=1)
        guess = f"did you mean synthetic:{near[0]}? " if near else ""
        raise InputError(
            f"there is no synthetic language {name!r}",
            f"{guess}languages are {', '.join(names)}, as in --data synthetic:{names[0]}",
        )
    module = importlib.import_module(f"{__name__}.{name}")
    (found,) = (one for one in vars(module).values() if _is_language(one, module.__name__))
    return found


def _is_language(one: Any, module: str) -> bool:
    return inspect.isclass(one) and issubclass(one, Language) and one.__module__ == module
