"""Laws that users write: `--law ./mine.py:MyLaw` is the class MyLaw in that file."""

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np

from llmscale.errors import InputError, LlmscaleError
from llmscale.explain.laws import Law

_EXAMPLE = (
    "write a frozen dataclass that inherits llmscale.explain.laws.Law, with its coefficients as "
    "fields, `inputs`, and"
    " `loss(self, ...)`; `llmscale laws` shows one"
)
_MODULE = "llmscale_own_law_"
_TRIED = 256


def load(place: str) -> type[Law]:
    """The law at FILE.py:CLASS; the class may be left out where the file has one.

    Raises InputError.
    """
    text, _, name = place.rpartition(":") if ".py:" in place else (place, "", "")
    path = Path(text).expanduser()
    if not path.is_file():
        raise InputError(
            f"there is no file {text} to read a law from",
            "give FILE.py:CLASS, like --law ./mine.py:MyLaw",
        )
    # Registered under a name of its own, since a dataclass looks its module up.
    spec = importlib.util.spec_from_file_location(
        f"{_MODULE}{path.stem}_{abs(hash(path.resolve()))}", path
    )
    if spec is None or spec.loader is None:
        raise InputError(
            f"{path} is no Python file", "give FILE.py:CLASS, like --law ./mine.py:MyLaw"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        place = _line(error, path)
        raise InputError(
            f"{place} cannot be run: {_said(error)}",
            "change the file: it is run when its law is read",
        ) from error
    members = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Law)
        and value.__module__ == module.__name__
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
        raise InputError(
            f"{place} is not a dataclass", "put @dataclass(frozen=True) above the class"
        )
    if getattr(law, "__abstractmethods__", None):
        missing = " and ".join(sorted(law.__abstractmethods__))
        raise InputError(f"{place} lacks {missing}", _EXAMPLE)
    names = law.coefficient_names()
    if not names:
        raise InputError(f"{place} has no coefficients", "write them as fields, like `A: float`")
    unknown = sorted(
        {*law.signed, *law.exponents, *law.ranges, *([law.floor] if law.floor else [])} - set(names)
    )
    if unknown:
        raise InputError(
            f"{place} speaks of {', '.join(unknown)}, which is no coefficient",
            f"it has {', '.join(names)}",
        )
    path = Path(place.rpartition(":")[0])
    try:
        example = law(*[0.5] * len(names))
        inputs = [np.full(3, 1e6) for _ in example.inputs]
        with np.errstate(all="ignore"):
            shape = np.shape(example.loss(*inputs))
    except (Exception, SystemExit) as error:
        raise cannot_fit(law, error, path) from error
    if shape != (3,):
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} has the shape {shape} for 3 runs, "
            "and not (3,)",
            "let loss return one number a run, from all of its inputs",
        )
    try:
        surface = law.surface(inputs, np.ones(3))
        surface.evaluate(surface.theta(np.full((2, len(names)), 0.5)))
    except (Exception, SystemExit) as error:
        raise cannot_fit(law, error, path) from error
    if not _positive_somewhere(law):
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} is not a positive number at any of "
            f"{_TRIED}"
            " coefficients that were tried",
            "check the formula; coefficients that may be negative are named in `signed`, and where "
            "to look for others"
            " in `ranges`",
        )


@contextmanager
def errors_named(law: type[Law]) -> Iterator[None]:
    """What a user's own law raises while it is fitted, as an InputError with the file and line."""
    module = sys.modules.get(law.__module__)
    path = getattr(module, "__file__", None)
    if not law.__module__.startswith(_MODULE) or path is None:
        yield
        return
    try:
        yield
    except LlmscaleError:
        raise
    except (Exception, SystemExit) as error:
        if not any(
            Path(frame.filename) == Path(path)
            for frame in traceback.extract_tb(error.__traceback__)
        ):
            raise
        raise cannot_fit(law, error, Path(path)) from error


def cannot_fit(law: type[Law], error: BaseException, path: Path) -> InputError:
    """One sentence on a law whose loss raised `error`."""
    return InputError(
        f"{_line(error, path) or _defined(law, path)}: {law.__name__} cannot be fitted: its loss "
        f"raises {_said(error)}",
        "write loss with operators and numpy's functions on whole arrays (np.exp, np.where), and "
        "without `if`",
    )


def _positive_somewhere(law: type[Law]) -> bool:
    """Whether the loss is a positive number at any plausible coefficients, for sizes and tokens as
    runs have them.
    """
    rng = np.random.default_rng(0)
    example = law(*[0.5] * len(law.coefficient_names()))
    inputs = [10.0 ** rng.uniform(6, 10, _TRIED) for _ in example.inputs]
    guesses = law.guesses(
        rng.uniform(size=(_TRIED, len(law.coefficient_names()))), inputs, np.full(_TRIED, 3.0)
    )
    try:
        with np.errstate(all="ignore"):
            loss = np.asarray(law(*np.asarray(guesses, dtype=float).T).loss(*inputs), dtype=float)
    except Exception:
        return True  # it may hold for other inputs than these
    return bool((np.isfinite(loss) & (loss > 0)).any())


def _line(error: BaseException, path: Path) -> str:
    """`mine.py, line 12`: the last line of the file that the error passed through; empty if it did
    not.
    """
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"{path}, line {lines[-1]}" if lines else ""


def _defined(law: type[Law], path: Path) -> str:
    """`mine.py, line 8`: where the law's loss begins."""
    code = getattr(law.loss, "__code__", None)
    return f"{path}, line {code.co_firstlineno}" if code is not None else str(path)


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit, which would end the program (code {error.code})"
    return f"{type(error).__name__}: {error}"
