"""What to measure next: sizes and budgets follow from the runs that are there.

As a command, if the runs are a sweep's own and this machine can train what is missing within a day;
else in words, for whoever trained them. Of a results folder it is the sweep's own command, with the
sizes or the token budgets that it does not have yet."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors.command_lines import command_line
from llmscale.explain.table.run_table import FOLDER
from llmscale.machine import available_cores, device_name
from llmscale.notes.fitting import FEW_STEPS
from llmscale.quantity import format_count
from llmscale.runs.own_command import sweep_of
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
_NEAR = 1.5
"""Sizes and budgets within this factor are as good as one."""
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
    if is_own(frame) and FOLDER in frame.attrs:
        return _added(frame, _missing_sizes(frame, number), [])
    budget = _largest(frame, "tokens")
    return _asked_for(frame, _sizes(frame, number), [] if budget is None else [budget])


def more_budgets(frame: pd.DataFrame, sizes: int = 4, number: int = 4) -> str:
    """Sizes and token budgets that are crossed, up to the largest of the table."""
    if is_own(frame) and FOLDER in frame.attrs:
        have = len(_levels(frame, "params_non_embedding"))
        missing = _missing_sizes(frame, sizes) if have < sizes else []
        return _added(frame, missing, _missing_budgets(frame, number))
    largest = _largest(frame, "tokens")
    budgets = [] if largest is None else _spaced(largest / _SPAN, largest, max(number, 2))
    return _asked_for(frame, _sizes(frame, sizes), budgets, crossed=True)


def _added(frame: pd.DataFrame, sizes: list[float], budgets: list[float]) -> str:
    """The sweep of the folder with more sizes; or more budgets, at these sizes and its own.
    In words, if the folder does not say how it was made, or if it takes longer than a day."""
    own = _levels(frame, "params_non_embedding")
    asked = [*own, *sizes] if budgets else sizes
    command = None
    if _seconds(frame, asked, budgets or _levels(frame, "tokens")) < _LONGEST_SECONDS:
        names = [*_size_names(frame), *map(_text, sizes)] if budgets else [*map(_text, sizes)]
        command = sweep_of(Path(frame.attrs[FOLDER]), ",".join(names), _listed(budgets))
    return command or _in_words(
        frame, _listed(asked), _listed(budgets or _levels(frame, "tokens")[-1:])
    )


def _missing_sizes(frame: pd.DataFrame, number: int) -> list[float]:
    """Of a ladder of so many sizes those that the table has none near to, and if these are too few
    or none, larger ones."""
    own = _levels(frame, "params_non_embedding")
    found = _far_from(own, _sizes(frame, number))
    while len(own) + len(found) < number or not found:
        found.append(_FACTOR * max([*own, *found]))
    return found


def _missing_budgets(frame: pd.DataFrame, number: int) -> list[float]:
    """Of so many budgets up to the largest, none of too few steps, those that the table has none
    near to; else one that is larger than all."""
    own, batches = _levels(frame, "tokens"), _levels(frame, "batch_tokens")
    least = FEW_STEPS.limit * batches[0] if batches else 0.0
    low = max(own[-1] / _SPAN, least)
    high = own[-1] if own[-1] >= _FACTOR * low else _SPAN * low
    return _far_from(own, _spaced(low, high, max(number, 2))) or [_FACTOR * own[-1]]


def _far_from(own: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Those of `wanted` that are further than a factor of _NEAR from each of `own`."""
    return [
        value
        for value in wanted
        if all(max(value, other) > _NEAR * min(value, other) for other in own)
    ]


def _levels(frame: pd.DataFrame, name: str) -> list[float]:
    """The distinct positive numbers of a column, by size; none if it is not there."""
    if name not in frame:
        return []
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    return sorted({float(value) for value in values if np.isfinite(value) and value >= 1})


def _size_names(frame: pd.DataFrame) -> list[str]:
    """The sizes of a sweep as they were asked for."""
    ordered = frame.sort_values("params_non_embedding", kind="stable")
    if "size" in ordered:
        return list(dict.fromkeys(map(str, ordered["size"])))
    return [_text(value) for value in _levels(frame, "params_non_embedding")]


def _asked_for(
    frame: pd.DataFrame, sizes: list[float], budgets: list[float], crossed: bool = False
) -> str:
    """A sweep of these sizes on these budgets, or a sentence about such runs."""
    size_list, budget_list = _listed(sizes), _listed(budgets)
    if is_own(frame) and _seconds(frame, sizes, budgets) < _LONGEST_SECONDS:
        tokens = budget_list or (_SMALL_BUDGETS if crossed else "")
        options = ["--tokens", tokens] if tokens else []
        return command_line("llmscale", "sweep", "--sizes", size_list, *options)
    if crossed and not budgets:
        return f"{_in_words(frame, size_list, '')}, each on several token budgets"
    return _in_words(frame, size_list, budget_list)


def _in_words(frame: pd.DataFrame, sizes: str, budgets: str) -> str:
    """The runs, of sizes as `_sizes` counts them."""
    letter = "non-embedding N" if _levels(frame, "params_non_embedding") else "N"
    runs = f"runs at {letter} = {sizes.replace(',', ', ')}"
    return f"{runs}, each on D = {budgets.replace(',', ', ')} tokens" if budgets else runs


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
    return max(_levels(frame, name), default=None)
