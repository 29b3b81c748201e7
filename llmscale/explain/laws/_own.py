"""Laws that users write: `--law ./mine.py:MyLaw` is the class MyLaw in that file."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import numpy as np

from llmscale.errors import InputError, LlmscaleError, both, listed
from llmscale.explain.laws import LAWS, Array, Law
from llmscale.explain.laws._jets import Jet, variables
from llmscale.menu import line_of, path_of, said

_EXAMPLE = (
    "write a frozen dataclass that inherits llmscale.explain.laws.Law, with its coefficients as "
    "fields, `inputs`, and `loss(self, ...)`; `llmscale laws` shows one"
)
_TRIED = 256
_NO_NUMBERS = ("str", "bytes", "bool", "list", "tuple", "dict", "set")
"""Types of fields that are no coefficients."""


def check_name(law: type[Law], place: str) -> None:
    """Raise InputError if a law of the user's own is called as one of the menu: results and files
    tell laws apart by their names."""
    if law.name not in (*LAWS.names, "all"):
        return
    whose = f"llmscale's own law {law.name}"
    if law.name == "all":
        whose = "all, which stands for every law"
    fix = f"give the class another name, as My{law.name.capitalize()}"
    raise InputError(f"{place} has the name of {whose}", fix)


def check(law: type[Law], path: str) -> None:
    """Raise InputError unless `loss` works on arrays as the solver will call it."""
    place = f"{path}:{law.__name__}"
    if not (is_dataclass(law) and "__dataclass_params__" in vars(law)):
        raise InputError(
            f"{place} is not a dataclass", "put @dataclass(frozen=True) above the class"
        )
    if getattr(law, "__abstractmethods__", None):
        missing = " and ".join(sorted(law.__abstractmethods__))
        raise InputError(f"{place} lacks {missing}", _EXAMPLE)
    check_name(law, place)
    names = law.coefficient_names()
    if not names:
        raise InputError(f"{place} has no coefficients", "write them as fields, like `A: float`")
    spoken_of = {*law.signed, *law.exponents, *law.ranges, *filter(None, [law.floor])}
    unknown = spoken_of - set(names)
    if unknown:
        raise InputError(
            f"{place} speaks of {', '.join(sorted(unknown))}, which is no coefficient",
            f"it has {', '.join(names)}",
        )
    for item in fields(law):
        kind = getattr(item.type, "__name__", str(item.type))
        if item.name in names and kind in _NO_NUMBERS:
            raise InputError(
                f"{place} has the coefficient {item.name} as {kind}, and coefficients are numbers",
                f"write `{item.name}: float`",
            )
    try:
        example = law(*[0.5] * len(names))
        _check_inputs(law, example.inputs, path)
        inputs = [np.full(3, 1e6) for _ in example.inputs]
        with np.errstate(all="ignore"):
            shape = np.shape(example.loss(*inputs))
    except LlmscaleError:
        raise
    except (Exception, SystemExit) as error:
        raise cannot_fit(law, error, path) from error
    if shape != (3,):
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} has the shape {shape} for 3 runs, "
            "and not (3,)",
            "let loss return one number a run, from all of its inputs",
        )
    try:
        with np.errstate(all="ignore"):
            _check_uses_all(law, inputs, path)
            surface = law.surface(inputs, np.ones(3))
            surface.evaluate(surface.theta(np.full((2, len(names)), 0.5)))
    except LlmscaleError:
        raise
    except (Exception, SystemExit) as error:
        raise cannot_fit(law, error, path) from error
    if not _holds_somewhere(law, path):
        kind = "number" if law.plain else "positive number"
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} is not a {kind} at any of {_TRIED} "
            "coefficients that were tried",
            "check the formula; coefficients that may be negative are named in `signed`, and "
            "where to look for others in `ranges`",
        )


@contextmanager
def errors_named(law: type[Law]) -> Iterator[None]:
    """What a user's own law raises while it is fitted, as an InputError with the file and line."""
    try:
        yield
    except LlmscaleError:
        raise
    except (Exception, SystemExit) as error:
        path = path_of(law.__module__)
        if path is None or not line_of(error, path):
            raise
        raise cannot_fit(law, error, path) from error


def cannot_fit(law: type[Law], error: BaseException, path: str) -> InputError:
    """One sentence on a law whose loss raised `error`."""
    return InputError(
        f"{line_of(error, path) or _defined(law, path)}: {law.__name__} cannot be fitted: its "
        f"loss raises {said(error)}",
        "write loss with operators and numpy's functions on whole arrays (np.exp, np.where), and "
        "without `if`",
    )


def _check_inputs(law: type[Law], inputs: object, path: str) -> None:
    """Raise InputError unless `inputs` names columns, and `loss` takes as many."""
    fix = 'name columns, as inputs = ("params", "tokens"), or ("params",) for one'
    if not isinstance(inputs, (tuple, list)):
        raise InputError(f"{path}: inputs of {law.__name__} is no tuple but {inputs!r:.40}", fix)
    if not inputs or not all(isinstance(name, str) for name in inputs):
        raise InputError(f"{path}: inputs of {law.__name__} names no columns: {inputs!r:.40}", fix)
    try:
        inspect.signature(law.loss).bind(None, *inputs)
    except TypeError as error:
        columns = f"{len(inputs)} columns" if len(inputs) > 1 else "1 column"
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} does not take the {columns} of its "
            f"inputs, {both(list(inputs))}: {error}",
            "let loss take self and then one argument for each of inputs, in that order",
        ) from error


def _check_uses_all(law: type[Law], inputs: Sequence[Array], path: str) -> None:
    """Raise InputError for a coefficient that the loss never uses: any value of it would fit."""
    if "surface" in vars(law):
        return  # its derivatives are its own
    names = law.coefficient_names()
    loss = law(*variables(np.full((1, len(names)), 0.5))).loss(*inputs)
    used = loss.first if isinstance(loss, Jet) else {}
    idle = [name for place, name in enumerate(names) if place not in used]
    if idle:
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} does not depend on {listed(idle)}",
            "use every coefficient in loss, or take its field out",
        )


def _holds_somewhere(law: type[Law], path: str) -> bool:
    """Whether the loss is positive, or of a plain law a number, at any plausible coefficients, for
    usual sizes and tokens. Raises InputError if it is another one when it is asked for again."""
    rng = np.random.default_rng(0)
    example = law(*[0.5] * len(law.coefficient_names()))
    runs = law.example_runs()
    if set(example.inputs) <= set(runs):
        rows = rng.integers(0, len(runs[example.inputs[0]]), _TRIED)
        inputs = [runs[name][rows] for name in example.inputs]
    else:
        inputs = [10.0 ** rng.uniform(6, 10, _TRIED) for _ in example.inputs]
    unit_SK = rng.uniform(size=(_TRIED, len(law.coefficient_names())))
    guesses = law.guesses(unit_SK, inputs, np.full(_TRIED, 3.0))
    try:
        with np.errstate(all="ignore"):
            tried = law(*np.asarray(guesses, dtype=float).T)
            loss, again = (np.asarray(tried.loss(*inputs), dtype=float) for _ in range(2))
    except Exception:
        return True  # it may hold for other inputs than these
    if not np.array_equal(loss, again, equal_nan=True):
        raise InputError(
            f"{_defined(law, path)}: the loss of {law.__name__} gives two answers to the same "
            "question",
            "let it depend on nothing but its coefficients and inputs: no random numbers",
        )
    return bool((np.isfinite(loss) & (law.plain | (loss > 0))).any())


def _defined(law: type[Law], path: str) -> str:
    """`mine.py, line 8`: where the law's loss begins."""
    code = getattr(law.loss, "__code__", None)
    return f"{path}, line {code.co_firstlineno}" if code is not None else path
