"""Columns that hold logarithms of sizes, tokens or FLOPs, and do not say so by their names."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from llmscale.errors import InputError, both
from llmscale.explain.table.columns.units import to_base
from llmscale.explain.table.doubts.taken import Array, Taken
from llmscale.quantity import format_count

_BASES = ("log10", "ln")
_LOGS = {"params": (4.0, 40.0), "tokens": (5.0, 40.0), "flops": (8.0, 65.0)}
"""Where logarithms of counts lie, to base 10 or e."""
_MOST_SPAN = 2.0
"""Logarithms of a table of runs differ by less than this factor."""
_LEAST_VALUES = 3
"""Two sizes, such as 7 and 13 (billion), are as likely of a unit."""
_PLAUSIBLE = {"params": (2e3, 2e13), "tokens": (1e5, 1e15), "flops": (1e9, 1e28)}
_A_PARAMETER = (0.05, 1e5)
"""Tokens a parameter of runs that have been published."""
_OF_6ND = (0.3, 3.0)
_CHINCHILLA = 20.0
_COUNTS = ("", "K", "M", "B")
"""Units of the columns next to logarithms."""
_LETTERS = {"params": "N", "tokens": "D", "flops": "C"}


def refuse_logarithms(taken: Taken) -> None:
    """Raise InputError for columns that give plausible runs if they are logarithms, with the base
    and what it makes of them. As plain counts such small numbers are never right."""
    suspected = [name for name in _LOGS if taken.has(name) and _may_be_logarithm(taken, name)]
    if not suspected:
        return
    found = min(_readings(taken, suspected), key=lambda reading: reading[0], default=None)
    if found is None:
        return
    units, values = found[1], found[2]
    said = both([f"{taken.columns[name]} {_span(taken.values(name))}" for name in suspected])
    made = both([f"{_LETTERS[name]} {_counts(values[name])}" for name in suspected])
    option = ",".join(f"{name}={unit}" for name, unit in units.items() if unit)
    stand = ",".join(f"{name}=1" for name in suspected)
    may_be = "is no count, and may be a logarithm"
    if len(suspected) > 1:
        may_be = "are no counts, and may be logarithms"
    raise InputError(
        f"{said} of {taken.path} {may_be}",
        f"if so: --units {option}, which gives {made}; if in a unit, such as M, B or EF, name that "
        f"instead (--units {stand} takes the numbers as they stand)",
    )


def _may_be_logarithm(taken: Taken, name: str) -> bool:
    if taken.sure(name) or name in taken.named:
        return False
    values = np.unique(taken.values(name))
    low, high = _LOGS[name]
    if len(values) < _LEAST_VALUES or not (low <= values[0] and values[-1] <= high):
        return False
    return bool(values[-1] < _MOST_SPAN * values[0])


def _readings(
    taken: Taken, suspected: list[str]
) -> Iterator[tuple[float, dict[str, str], dict[str, Array]]]:
    """Units that make plausible runs, a logarithm of each column that is suspected: how unlikely
    they are, the units, and the numbers that they give."""
    there = [name for name in _LOGS if taken.has(name)]
    choices = []
    for name in there:
        given = taken.sure(name) or name in taken.named or name == "flops"
        choices.append(_BASES if name in suspected else _COUNTS[:1] if given else _COUNTS)
    for units in itertools.product(*choices):
        named = dict(zip(there, units, strict=True))
        values = {name: _read(taken, name, unit) for name, unit in named.items()}
        cost = _unlikely(values)
        if cost is not None:
            yield cost + 10.0 * sum(unit in _COUNTS[1:] for unit in units), named, values


def _read(taken: Taken, name: str, unit: str) -> Array:
    values = taken.values(name)
    return to_base(values, name, unit) if unit else values


def _unlikely(values: Mapping[str, Array]) -> float | None:
    """How far runs are from the usual tokens a parameter; None if some can hardly be."""
    for name, counts in values.items():
        if not _all_inside(counts, _PLAUSIBLE[name]):
            return None
    found = dict(values)
    if len(found) == 2 and "flops" in found:
        for name, other in (("params", "tokens"), ("tokens", "params")):
            if name not in found:
                found[name] = found["flops"] / (6.0 * found[other])
    if not {"params", "tokens"} <= found.keys():
        return 0.0
    ratio = found["tokens"] / found["params"]
    if not _all_inside(ratio, _A_PARAMETER):
        return None
    cost = abs(float(np.median(np.log(ratio / _CHINCHILLA))))
    if len(values) == 3:
        of_6ND = values["flops"] / (6.0 * values["params"] * values["tokens"])
        if not _all_inside(of_6ND, _OF_6ND):
            return None
        cost += abs(float(np.median(np.log(of_6ND))))
    return cost


def _all_inside(values: Array, span: tuple[float, float]) -> bool:
    return bool(values.min() >= span[0] and values.max() <= span[1])


def _span(values: Array) -> str:
    return f"from {values.min():.3g} to {values.max():.3g}"


def _counts(values: Array) -> str:
    return f"from {format_count(values.min())} to {format_count(values.max())}"
