"""Exact first and second derivatives of a formula, by running it once on jets.

A jet is a value with its first and second partial derivatives in some coefficients. Arithmetic and
numpy's functions on jets follow the chain rule to second order (forward mode: Griewank & Walther
2008, "Evaluating Derivatives", chapter 13), so a law's `loss`, written for numbers and arrays,
differentiates itself. Partials that are zero whatever the data are absent: in A/N^alpha there is no
second partial in A and A, which is how a law's linear coefficients are found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array

Pair = tuple[int, int]


@dataclass(frozen=True)
class Jet:
    """A value (B, R) or (B, 1), and its partials: `first[i]`, and `second[i, j]` for i <= j."""

    value: Array
    first: Mapping[int, Array]
    second: Mapping[Pair, Array]

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *operands: Any, **settings: Any
    ) -> "Jet":
        rule = _RULES.get(ufunc.__name__)
        if rule is None or method != "__call__" or settings:
            raise _unknown(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}")
        return rule(*operands)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> "Jet":
        if function is np.where and len(args) == 3 and not kwargs:
            return _where(*args)
        raise _unknown(function.__name__)

    def __add__(self, other: Any) -> "Jet":
        return _add(self, other)

    def __radd__(self, other: Any) -> "Jet":
        return _add(other, self)

    def __sub__(self, other: Any) -> "Jet":
        return _add(self, -other)

    def __rsub__(self, other: Any) -> "Jet":
        return _add(other, -self)

    def __neg__(self) -> "Jet":
        return _scaled(self, -1.0)

    def __pos__(self) -> "Jet":
        return self

    def __mul__(self, other: Any) -> "Jet":
        return _multiply(self, other)

    def __rmul__(self, other: Any) -> "Jet":
        return _multiply(other, self)

    def __truediv__(self, other: Any) -> "Jet":
        return _divide(self, other)

    def __rtruediv__(self, other: Any) -> "Jet":
        return _divide(other, self)

    def __pow__(self, other: Any) -> "Jet":
        return _power(self, other)

    def __rpow__(self, other: Any) -> "Jet":
        return _power(other, self)

    def __abs__(self) -> "Jet":
        return _absolute(self)

    def __lt__(self, other: Any) -> Any:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value(other)


def _unknown(function: str) -> TypeError:
    """What to say of a function of numpy whose derivatives are not known."""
    known = ", ".join(name for name in ("where", *_RULES) if name not in _OPERATORS)
    return TypeError(f"np.{function} is none of the functions that a law can be made of: {known}")


def variables(values_BK: Array) -> list[Jet]:
    """The jets of K independent coefficients, each (B, 1)."""
    one = np.ones((len(values_BK), 1))
    return [Jet(values_BK[:, k, None], {k: one}, {}) for k in range(values_BK.shape[1])]


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Jet) else x


def _scaled(x: Jet, by: Any) -> Jet:
    """x times something without derivatives."""
    return Jet(
        x.value * by,
        {i: d * by for i, d in x.first.items()},
        {pair: d * by for pair, d in x.second.items()},
    )


def _chain(x: Jet, value: Array, slope: Any, bend: Any) -> Jet:
    """h(x), given h, h' and h'' at x.value; `bend` None if h is piecewise linear."""
    second = {pair: d * slope for pair, d in x.second.items()}
    if bend is not None:
        bent = {i: bend * d for i, d in x.first.items()}
        for i, j in _pairs(x.first):
            _accumulate(second, (i, j), bent[i] * x.first[j])
    return Jet(value, {i: d * slope for i, d in x.first.items()}, second)


def _add(x: Any, y: Any) -> Jet:
    if not isinstance(y, Jet):
        x, y = y, x
    if not isinstance(x, Jet):
        return Jet(x + y.value, y.first, y.second)
    first, second = dict(x.first), dict(x.second)
    for i, d in y.first.items():
        _accumulate(first, i, d)
    for pair, d in y.second.items():
        _accumulate(second, pair, d)
    return Jet(x.value + y.value, first, second)


def _multiply(x: Any, y: Any) -> Jet:
    if not isinstance(x, Jet):
        return _scaled(y, x)
    if not isinstance(y, Jet):
        return _scaled(x, y)
    first = {i: d * y.value for i, d in x.first.items()}
    second = {pair: d * y.value for pair, d in x.second.items()}
    for i, d in y.first.items():
        _accumulate(first, i, d * x.value)
    for pair, d in y.second.items():
        _accumulate(second, pair, d * x.value)
    for i, d in x.first.items():
        for j, e in y.first.items():
            product = d * e
            _accumulate(second, (min(i, j), max(i, j)), 2.0 * product if i == j else product)
    return Jet(x.value * y.value, first, second)


def _divide(x: Any, y: Any) -> Jet:
    if not isinstance(y, Jet):
        return _scaled(x, 1.0 / y)
    inverse = 1.0 / y.value
    return _multiply(x, _chain(y, inverse, -(inverse**2), 2.0 * inverse**3))


def _power(x: Any, y: Any) -> Jet:
    if isinstance(y, Jet):
        return _exp(_multiply(y, _log(x) if isinstance(x, Jet) else np.log(x)))
    if np.ndim(y) == 0 and y in (0, 1):
        return _scaled(x, 0.0) + 1.0 if y == 0 else x
    with np.errstate(divide="ignore", invalid="ignore"):
        return _chain(x, x.value**y, y * x.value ** (y - 1), y * (y - 1) * x.value ** (y - 2))


def _exp(x: Jet) -> Jet:
    value = np.exp(x.value)
    return _chain(x, value, value, value)


def _log(x: Jet) -> Jet:
    inverse = 1.0 / x.value
    return _chain(x, np.log(x.value), inverse, -(inverse**2))


def _tanh(x: Jet) -> Jet:
    value = np.tanh(x.value)
    slope = 1.0 - value**2
    return _chain(x, value, slope, -2.0 * value * slope)


def _absolute(x: Jet) -> Jet:
    return _chain(x, np.abs(x.value), np.sign(x.value), None)


def _logaddexp(x: Any, y: Any) -> Jet:
    top = np.maximum(_value(x), _value(y))
    total: Jet = np.exp(x - top) + np.exp(y - top)
    return _log(total) + top


def _maximum(x: Any, y: Any) -> Jet:
    return _where(_value(x) >= _value(y), x, y)


def _minimum(x: Any, y: Any) -> Jet:
    return _where(_value(x) <= _value(y), x, y)


def _where(condition: Any, x: Any, y: Any) -> Jet:
    """x where the condition holds, else y; derivatives go with the one chosen."""
    x, y = (
        side if isinstance(side, Jet) else Jet(np.asarray(side, dtype=float), {}, {})
        for side in (x, y)
    )
    first = {
        i: np.where(condition, x.first.get(i, 0.0), y.first.get(i, 0.0)) for i in x.first | y.first
    }
    second = {
        p: np.where(condition, x.second.get(p, 0.0), y.second.get(p, 0.0))
        for p in x.second | y.second
    }
    return Jet(np.where(condition, x.value, y.value), first, second)


def _pairs(first: Mapping[int, Array]) -> list[Pair]:
    keys = sorted(first)
    return [(i, j) for position, i in enumerate(keys) for j in keys[position:]]


def _accumulate(into: dict[Any, Array], key: Any, more: Array) -> None:
    into[key] = into[key] + more if key in into else more


_RULES: Mapping[str, Callable[..., Jet]] = {
    "add": _add,
    "subtract": lambda x, y: _add(x, -y),
    "multiply": _multiply,
    "divide": _divide,
    "power": _power,
    "float_power": _power,
    "negative": lambda x: -x,
    "positive": lambda x: x,
    "exp": _exp,
    "exp2": lambda x: _exp(x * np.log(2.0)),
    "expm1": lambda x: _chain(x, np.expm1(x.value), np.exp(x.value), np.exp(x.value)),
    "log": _log,
    "log2": lambda x: _log(x) / np.log(2.0),
    "log10": lambda x: _log(x) / np.log(10.0),
    "log1p": lambda x: _chain(
        x, np.log1p(x.value), 1.0 / (1.0 + x.value), -1.0 / (1.0 + x.value) ** 2
    ),
    "sqrt": lambda x: _power(x, 0.5),
    "square": lambda x: _multiply(x, x),
    "reciprocal": lambda x: _divide(1.0, x),
    "tanh": _tanh,
    "absolute": _absolute,
    "maximum": _maximum,
    "minimum": _minimum,
    "logaddexp": _logaddexp,
}
"""How numpy's functions act on jets; one that is not here is refused by name."""
_OPERATORS = ["add", "subtract", "multiply", "divide", "power", "negative", "positive"]
