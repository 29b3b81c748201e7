"""What a forecast is asked for, in Python: numbers, or texts such as `1B`, each checked before a
law is asked."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import InputError
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.forecast import Forecast, forecast
from llmscale.explain.laws import LETTERS, Array
from llmscale.quantity import parse_amount, parse_budget

_COLUMN_OF = {letter: name for name, letter in LETTERS.items()}


def forecast_at(
    fit: Fit,
    *,
    level: float | None = None,
    check: Tested | None = None,
    run: Any = None,
    **inputs: Any,
) -> Forecast:
    """The loss of a new run at N=, D= or C= (or by column: params=, tokens=, ...), with an interval
    that widens beyond the runs (see `forecast`).

    Each is a number, a text such as "1B", or several. Raises InputError."""
    given: dict[str, Any] = points_asked(inputs, fit.law.may_be_zero)
    level = None if level is None else Options(level=level).level
    found = forecast(fit, level=level, check=check, run=run, **given)
    if not np.isfinite(found.loss).all():
        raise InputError(
            f"{fit.law.name} gives no finite loss there: its formula does not hold that far from "
            "the runs",
            "forecast nearer to the runs, or use another law (llmscale laws)",
        )
    return found


def points_asked(
    inputs: Mapping[str, ArrayLike], may_be_zero: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Every input as float64, positive and finite, of shapes that go together. Raises
    InputError."""
    points = {
        name: numbers_asked(name, value, zero=_COLUMN_OF.get(name, name) in may_be_zero)
        for name, value in inputs.items()
    }
    try:
        np.broadcast_shapes(*(values.shape for values in points.values()))
    except ValueError:
        sizes = ", ".join(f"{values.size} of {name}" for name, values in points.items())
        raise InputError(
            f"there are {sizes}, which do not go together", "give as many of each, or one"
        ) from None
    return points


def numbers_asked(name: str, value: Any, *, zero: bool = False) -> Array:
    """`value`, a number, a text such as `1B`, or several, as float64. Raises InputError, also for
    NaN and infinity."""
    plain = np.asarray(value) if isinstance(value, (int, float, np.ndarray, np.number)) else None
    if plain is not None and plain.dtype.kind in "iuf":
        numbers = plain.astype(float)
        if (
            numbers.size
            and np.isfinite(numbers).all()
            and ((numbers >= 0) if zero else (numbers > 0)).all()
        ):
            return numbers
    try:
        given = np.asarray(value, dtype=object)
    except ValueError:
        given = np.asarray([None], dtype=object)
    numbers = np.empty(given.shape)
    if not given.size:
        raise InputError(f"{name} is empty", f"give it like {name}=1e9")
    for place, one in np.ndenumerate(given):
        numbers[place] = _number(name, one)
        good = math.isfinite(numbers[place]) and (
            numbers[place] > 0 or (zero and numbers[place] == 0)
        )
        if not good:
            least = "not negative" if zero else "above zero"
            raise InputError(
                f"{name} is {_shown(one)}, and has to be {least} and finite",
                f"give it like {name}=1e9",
            )
    return numbers


def tokens_asked(tokens: Any, params: Array | None) -> Array:
    """Tokens as float64; the text `20x` is 20 for each of `params`. Raises InputError."""
    several = isinstance(tokens, (list, tuple))
    items = list(tokens) if several else [tokens]
    per_param = np.array(
        [isinstance(one, str) and one.strip().lower()[-1:] == "x" for one in items]
    )
    if not per_param.any():
        return numbers_asked("tokens", tokens)
    if params is None:
        raise InputError(
            f"tokens of {', '.join(map(str, items))} are per parameter, and no params are given",
            "add --params 7B",
        )
    amounts = np.array(
        [
            parse_budget(item).amount if times else float(numbers_asked("tokens", item))
            for item, times in zip(items, per_param, strict=True)
        ]
    )
    if not several:
        return np.asarray(amounts[0] * params)
    if params.ndim and params.size != len(items) != 1:
        raise InputError(
            f"there are {len(items)} of tokens, {params.size} of params, which do not go together",
            "give as many of each, or one",
        )
    return np.asarray(np.where(per_param, amounts * params, amounts))


def _number(name: str, value: Any) -> float:
    wrong = InputError(
        f"{name} is {_shown(value)}, which is no number", f"give it like {name}=1e9, or {name}='1B'"
    )
    if isinstance(value, (bool, np.bool_, bytes)) or value is None:
        raise wrong
    if isinstance(value, str):
        if _COLUMN_OF.get(name, name) in LETTERS:
            return parse_amount(value, name)
        try:
            return float(value)
        except ValueError:
            return parse_amount(value, name)
    try:
        return float(value)
    except OverflowError:
        raise InputError(
            f"{name} is more than a number can be", f"give it like {name}=1e9"
        ) from None
    except (TypeError, ValueError):
        raise wrong from None


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not spell out whole numbers of more than 4300 digits
        return "a very large number"
    return text if len(text) <= 40 else f"{text[:37]}..."
