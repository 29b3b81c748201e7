"""Laws that users write: `--law ./mine.py:MyLaw` is the class MyLaw in that file."""

import importlib.util
import sys
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np

from llmscale.errors import InputError
from llmscale.laws import Law

_EXAMPLE = (
    "write a frozen dataclass that inherits llmscale.laws.Law, with its coefficients as fields, `inputs`, and"
    " `loss(self, ...)`; `llmscale laws` shows one"
)


def load(place: str) -> type[Law]:
    """The law at FILE.py:CLASS; the class may be left out where the file has one. Raises InputError."""
    text, _, name = place.rpartition(":") if ".py:" in place else (place, "", "")
    path = Path(text).expanduser()
    if not path.is_file():
        raise InputError(
            f"there is no file {text} to read a law from", "give FILE.py:CLASS, like --law ./mine.py:MyLaw"
        )
    # Registered under a name of its own, since a dataclass looks its module up.
    spec = importlib.util.spec_from_file_location(f"llmscale_own_law_{path.stem}_{abs(hash(path.resolve()))}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file", "give FILE.py:CLASS, like --law ./mine.py:MyLaw")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}", "mend the file") from error
    members = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Law) and value.__module__ == module.__name__
    }
    if name and name not in members:
        there = f"its laws are {', '.join(members)}" if members else _EXAMPLE
        raise InputError(f"{path} has no law called {name!r}", there)
    if not name and len(members) != 1:
        there = f"say which: --law {text}:{next(iter(members))}" if members else _EXAMPLE
        raise InputError(f"{path} has {len(members)} laws", there)
    law = members[name] if name else next(iter(members.values()))
    law.place = f"{path}:{law.__name__}"
    _check(law, law.place)
    return law


def _check(law: type[Law], place: str) -> None:
    """Raise InputError unless `loss` works on arrays as the solver will call it."""
    if not (is_dataclass(law) and "__dataclass_params__" in vars(law)):
        raise InputError(f"{place} is not a dataclass", "put @dataclass(frozen=True) above the class")
    if getattr(law, "__abstractmethods__", None):
        missing = " and ".join(sorted(law.__abstractmethods__))
        raise InputError(f"{place} lacks {missing}", _EXAMPLE)
    names = law.coefficient_names()
    if not names:
        raise InputError(f"{place} has no coefficients", "write them as fields, like `A: float`")
    unknown = sorted({*law.signed, *law.exponents, *law.ranges, *([law.floor] if law.floor else [])} - set(names))
    if unknown:
        raise InputError(
            f"{place} speaks of {', '.join(unknown)}, which is no coefficient", f"it has {', '.join(names)}"
        )
    try:
        example = law(*[0.5] * len(names))
        inputs = [np.full(3, 1e6) for _ in example.inputs]
        surface = law.surface(inputs, np.ones(3))
        surface.evaluate(surface.theta(np.full((2, len(names)), 0.5)))
    except Exception as error:
        raise InputError(
            f"{place} cannot be fitted: its loss raises {type(error).__name__}: {error}",
            "write loss with operators and numpy's functions on whole arrays (np.exp, np.where), and without `if`",
        ) from error
