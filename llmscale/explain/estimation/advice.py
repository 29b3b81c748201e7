"""Commands to measure more runs by: their sizes and budgets follow from the runs that are there."""

import numpy as np
import pandas as pd

from llmscale.errors.command_lines import command_line
from llmscale.explain.laws import Array
from llmscale.quantity import format_count
from llmscale.runs.shape import LARGEST, SMALLEST, USUAL_CONTEXT, shape_for

_LEAST, _SPAN = 10.0, 30.0
"""From the smallest to the largest: exponents want a factor of 10 or, better, 30."""
_FACTOR = 3.0
"""The largest size to ask for, against the largest measured."""
_SOME_SIZES, _SOME_BUDGETS = "10k,30k,100k,300k", "5x,20x,80x"
"""Asked for where the table does not say what is feasible: minutes on any machine."""


def more_sizes(frame: pd.DataFrame, number: int = 5) -> str:
    """A sweep of `number` sizes up to the largest of the table, on its largest token budget."""
    budget = _largest(frame, "tokens")
    tokens = [] if budget is None else ["--tokens", _text(budget)]
    return command_line("llmscale", "sweep", "--sizes", _sizes(frame, number), *tokens)


def more_budgets(frame: pd.DataFrame, sizes: int = 4, number: int = 4) -> str:
    """A sweep of sizes and token budgets that are crossed, up to the largest of the table."""
    return command_line(
        "llmscale",
        "sweep",
        "--sizes",
        _sizes(frame, sizes),
        "--tokens",
        _budgets(frame, max(number, 2)),
    )


def _sizes(frame: pd.DataFrame, number: int) -> str:
    # What --sizes counts has no output projection.
    largest = _largest(frame, "params_non_embedding") or _largest(frame, "params")
    if largest is None:
        return _SOME_SIZES
    high = min(max(largest, SMALLEST), LARGEST)
    low = max(high / _SPAN, SMALLEST)
    # The ladder begins at `low`, and N also counts the output projection: there may be room only
    # upwards.
    most = max(_FACTOR * high, _LEAST * low)
    while high < most and _counted(high, frame) < _LEAST * _counted(low, frame):
        high = min(1.2 * high, most)
    return _spaced(low, high, number)


def _counted(size: float, frame: pd.DataFrame) -> float:
    """N of a size, with the output projection that the table's vocabulary gives it."""
    vocabulary = _largest(frame, "vocab_size")
    if vocabulary is None:
        return size
    return float(shape_for(_text(size), vocab_size=int(vocabulary), context=USUAL_CONTEXT).params)


def _budgets(frame: pd.DataFrame, number: int) -> str:
    largest = _largest(frame, "tokens")
    return _SOME_BUDGETS if largest is None else _spaced(largest / _SPAN, largest, number)


def _spaced(low: float, high: float, number: int) -> str:
    """Numbers from `low` to `high` by equal factors, as options take them, to two digits."""
    return ",".join(dict.fromkeys(_text(value) for value in np.geomspace(low, high, number)))


def _text(value: float) -> str:
    return format_count(float(f"{value:.2g}"))


def _largest(frame: pd.DataFrame, name: str) -> float | None:
    """The largest positive number of a column, or None."""
    if name not in frame:
        return None
    values: Array = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    values = values[np.isfinite(values) & (values >= 1)]
    return float(values.max()) if len(values) else None
