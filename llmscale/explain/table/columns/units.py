"""Numbers as sources write them, and their units: millions, PFLOP/s-days, bits, perplexity."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.table.columns.names import count_unit, nearest, quantity_of, spellings
from llmscale.explain.table.columns.pairs import parse_pairs
from llmscale.quantity import SUFFIXES, parse_amount

Array = NDArray[np.float64]

LOSS_UNITS = (
    *("nats", "bits", "perplexity", "accuracy", "percent", "hundredths"),
    *("ln", "log10", "log2", "log-likelihood"),
)
"""What a loss may be given in: nats or bits per token, exp(nats), an accuracy (read as 1 -
accuracy, or 1 - accuracy/100 if one is above 1), a metric of 100 (read as 1 - metric/100), a score
in percent (read as a share, score/100), a logarithm of nats, or minus nats."""

LOGARITHMS = {"ln": math.e, "log": math.e, "log2": 2.0, "log10": 10.0}
"""Logarithms that a column may be given in, by their base."""

_PETAFLOP_DAY = 8.64e19  # 1e15 FLOP/s for 86,400 s
_DAYS = spellings("pfdays pfday pf-days pflop-days petaflop-days petaflop/s-days pflop/s-days")
_PREFIXES = {"m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}
_NATS = {
    **dict.fromkeys(("nats", "nat"), 1.0),
    **dict.fromkeys(("bits", "bit"), math.log(2)),
    "hundredths": 0.01,
    **dict.fromkeys(("log-likelihood", "loglikelihood", "logprob", "negative"), -1.0),
}
_PER_BYTE = ("bits_per_byte", "bits-per-byte", "bits/byte", "bpb")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")


def parse_units(text: str | None) -> dict[str, str]:
    """`params=M,tokens=B` as {"params": "M", "tokens": "B"}. Raises InputError for unknown ones."""
    units: dict[str, str] = {}
    if text is None:
        return units
    for name, unit in parse_pairs(text, "--units", "quantity=unit", "params=M,tokens=B"):
        if quantity_of(name) in units:
            raise InputError(f"--units {text!r} gives {name} twice", "give each quantity one unit")
        units[quantity_of(name)] = unit
    return known_units(units)


def known_units(units: Mapping[str, str]) -> dict[str, str]:
    """The same units by quantity. Raises InputError for one that is not known for its quantity."""
    if not isinstance(units, Mapping):
        raise InputError(
            f"units is a {type(units).__name__}", 'give a mapping: units={"params": "M"}'
        )
    for name, unit in units.items():
        number = isinstance(unit, (int, float)) and not isinstance(unit, bool)
        if not (isinstance(name, str) and (isinstance(unit, str) or number)):
            raise InputError(
                f"units gives {name!r} in {unit!r:.40}", 'name units: units={"params": "M"}'
            )
    by_quantity = {quantity_of(name): str(unit) for name, unit in units.items()}
    for quantity, unit in by_quantity.items():
        to_base(np.ones(1), quantity, unit)
    return by_quantity


def to_base(values: Array, quantity: str, unit: str) -> Array:
    """Values in `unit` as nats per token (loss), FLOPs, or plain counts.
    Raises InputError for an unknown unit, and for one that makes values overflow."""
    with np.errstate(over="ignore"):
        base = _to_base(values, quantity, unit)
    beyond = np.isfinite(values) & np.isinf(base) & (values > 0)
    if beyond.any():
        raise InputError(
            f"{quantity} is {values[beyond][0]:.4g} in units of {unit}, which is more than a "
            "number can be",
            "give the unit that the column is in, as in --units "
            f"{quantity}={'bits' if quantity == 'loss' else 'M'}",
        )
    return base


def _to_base(values: Array, quantity: str, unit: str) -> Array:
    low = unit.lower()
    if quantity == "loss":
        return _to_nats(values, low, unit)
    if low in LOGARITHMS:
        return _from_log(values, low)
    if "flop" in quantity.lower():
        letter = re.fullmatch(r"([a-z])(f|flop|flops)?", low)
        if low in _DAYS:
            return values * _PETAFLOP_DAY
        if letter and letter[1] in _PREFIXES:
            return values * _PREFIXES[letter[1]]
        known = "M, G, T, PF, EF, ZF, PFdays or a number"
    else:
        known = "K, M, B, G, T, log10 or a number"
    low = (count_unit(low.rstrip(".")) or low).lower()
    factor = float(SUFFIXES[low]) if low in SUFFIXES else _as_float(low)
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(
            f"there is no unit {unit!r} for {quantity}",
            f"use {known}, as in --units params=M,tokens=B",
        )
    return values * factor


def numbers_of(given: pd.Series, *, counts: bool, truths: bool = False) -> tuple[Array, bool]:
    """The column as float64, NaN for no number, and whether a value had a suffix (`125M`).
    `counts` reads texts like `125M` and `1,000,000`; `truths` reads True and False as 1 and 0."""
    kind = pd.api.types
    if kind.is_bool_dtype(given.dtype) and not truths:
        return np.full(len(given), np.nan), False
    if kind.is_numeric_dtype(given.dtype) and not kind.is_complex_dtype(given.dtype):
        return given.to_numpy(dtype="float64", na_value=np.nan), False
    values = np.empty(len(given))
    suffixed = False
    for row, value in enumerate(given.astype(object)):
        if isinstance(value, (bool, np.bool_)):
            values[row] = float(value) if truths else np.nan
            continue
        values[row] = _as_float(value)
        if counts and isinstance(value, str) and math.isnan(values[row]):
            values[row], suffix = _as_count(value)
            suffixed |= suffix
    return values, suffixed


def above_one(values: Array) -> bool:
    """Whether accuracies are in percent, as one of them is above 1."""
    return bool((values[np.isfinite(values)] > 1).any())


def counts_of(given: pd.Series) -> Array:
    """The column as float64, texts like `125M` read, NaN where it holds no number."""
    return numbers_of(given, counts=True)[0]


def _to_nats(values: Array, low: str, unit: str) -> Array:
    if low in _PER_BYTE:
        raise InputError(
            "bits per byte cannot be turned into nats per token without the tokenizer's bytes "
            "per token",
            "multiply the column by ln 2 times the bytes per token, and give that as the loss in "
            "nats",
        )
    if low in _NATS:
        return values * _NATS[low]
    if low in ("perplexity", "ppl"):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(values)
    if low in ("accuracy", "acc"):
        return 1.0 - values / (100.0 if above_one(values) else 1.0)
    if low == "percent":
        return 1.0 - values / 100.0
    if low in LOGARITHMS:
        return _from_log(values, low)
    raise InputError(
        f"there is no unit {unit!r} for loss",
        f"use {', '.join(LOSS_UNITS)}{nearest(unit, LOSS_UNITS)}",
    )


def _from_log(values: Array, low: str) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.power(LOGARITHMS[low], values))


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _as_count(text: str) -> tuple[float, bool]:
    """A count with separated thousands or a suffix, and whether it was a suffix."""
    if _THOUSANDS.fullmatch(text.strip()):
        return float(text.replace(",", "")), False
    try:
        return parse_amount(text), True
    except (InputError, OverflowError):
        return math.nan, False
