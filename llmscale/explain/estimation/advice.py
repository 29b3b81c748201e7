"""What to measure next: sizes and budgets follow from the runs that are there.

As a command, if the runs are a sweep's own and this machine can train what is missing within a day;
else in words, for whoever trained them."""

import shutil

import numpy as np
import pandas as pd

from llmscale.errors.command_lines import command_line
from llmscale.explain.laws import Array
from llmscale.machine import available_cores, device_name
from llmscale.quantity import format_count
from llmscale.runs.shape import LARGEST, SMALLEST, USUAL_CONTEXT, shape_for

_LEAST, _SPAN = 10.0, 30.0
"""From the smallest to the largest: exponents want a factor of 10 or, better, 30."""
_FACTOR = 3.0
"""The largest size to ask for, against the largest measured."""
_SMALL_SIZES = (1e4, 3e4, 1e5, 3e5)
_SMALL_BUDGETS = "5x,20x,80x"
"""Asked for if the table does not say what is feasible: minutes on any machine."""
_OWN = {"run_id", "params_non_embedding", "params_total", "batch_tokens", "schedule", "dtype"}
"""Columns that a sweep's table has, and others hardly have together."""
_LONGEST_SECONDS = 24 * 3600.0
_FLOPS_A_CORE = 1e10
"""About what one core trains at, per second, if it was not measured."""


def is_own(frame: pd.DataFrame) -> bool:
    """Whether a sweep of our own made these runs, so that another adds to them."""
    return set(frame.columns) >= _OWN


def sweep_with(frame: pd.DataFrame, options: str) -> str:
    """` (sweep with OPTIONS)` for runs that a sweep made, and nothing for others."""
    return f" (sweep with {options})" if is_own(frame) else ""


def more_sizes(frame: pd.DataFrame, number: int = 5) -> str:
    """`number` sizes up to the largest of the table, on its largest token budget."""
    budget = _largest(frame, "tokens")
    return _asked_for(frame, _sizes(frame, number), [] if budget is None else [budget])


def more_budgets(frame: pd.DataFrame, sizes: int = 4, number: int = 4) -> str:
    """Sizes and token budgets that are crossed, up to the largest of the table."""
    largest = _largest(frame, "tokens")
    budgets = [] if largest is None else _spaced(largest / _SPAN, largest, max(number, 2))
    return _asked_for(frame, _sizes(frame, sizes), budgets, crossed=True)


def _asked_for(
    frame: pd.DataFrame, sizes: list[float], budgets: list[float], crossed: bool = False
) -> str:
    """A sweep of these sizes on these budgets, or a sentence about such runs."""
    size_list, budget_list = _listed(sizes), _listed(budgets)
    if is_own(frame) and _seconds(frame, sizes, budgets) < _LONGEST_SECONDS:
        tokens = budget_list or (_SMALL_BUDGETS if crossed else "")
        options = ["--tokens", tokens] if tokens else []
        return command_line("llmscale", "sweep", "--sizes", size_list, *options)
    runs = f"runs at N = {size_list.replace(',', ', ')}"
    if not budgets:
        return f"{runs}, each on several token budgets" if crossed else runs
    return f"{runs}, each on D = {budget_list.replace(',', ', ')} tokens"


def _seconds(frame: pd.DataFrame, sizes: list[float], budgets: list[float]) -> float:
    """About how long this machine trains these sizes on these budgets, one after the other."""
    flops = 6.0 * sum(sizes) * sum(budgets)
    return flops / _flops_per_second(frame)


def _flops_per_second(frame: pd.DataFrame) -> float:
    """As measured, if it was on this machine; else what its cores do."""
    unmeasured = _FLOPS_A_CORE * available_cores()
    if not {"device", "seconds", "flops"} <= set(frame.columns):
        return unmeasured
    here = frame["device"] == device_name("cpu")
    if shutil.which("nvidia-smi"):
        here = frame["device"].notna()
    seconds, flops = frame["seconds"][here].sum(), frame["flops"][here].sum()
    return float(flops / seconds) if seconds > 0 else unmeasured


def _sizes(frame: pd.DataFrame, number: int) -> list[float]:
    # What --sizes counts has no output projection.
    largest = _largest(frame, "params_non_embedding") or _largest(frame, "params")
    if largest is None:
        return list(_SMALL_SIZES)
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


def _spaced(low: float, high: float, number: int) -> list[float]:
    """Numbers from `low` to `high` by equal factors."""
    return [float(value) for value in np.geomspace(low, high, number)]


def _listed(values: list[float]) -> str:
    """Counts as options take them, to two digits, each once."""
    return ",".join(dict.fromkeys(_text(value) for value in values))


def _text(value: float) -> str:
    return format_count(float(f"{value:.2g}"))


def _largest(frame: pd.DataFrame, name: str) -> float | None:
    """The largest positive number of a column, or None."""
    if name not in frame:
        return None
    values: Array = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    values = values[np.isfinite(values) & (values >= 1)]
    return float(values.max()) if len(values) else None
