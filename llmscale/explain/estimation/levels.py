"""What counts as one size, one budget or one point of a table."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.explain.laws import Array

WORDS = {
    "params": ("size", "sizes"),
    "tokens": ("token budget", "token budgets"),
    "flops": ("budget", "budgets"),
}
SAME = 0.01
"""Values of N, D or C within 1% of the smallest are one size or one budget."""

MEASURED = ("task_loss",)
"""Inputs that nobody chose: values near each other are no repeats, and none is a budget."""


def levels(values: Array) -> NDArray[np.int_]:
    """For each value the index of its size or budget, smallest first; zeros are one level."""
    order = np.argsort(values, kind="stable")
    ordered = values[order].tolist()
    known = len(ordered) - int(np.isnan(values).sum())  # NaN comes last, and is one level
    # From the smallest of each level, not from neighbour to neighbour: many scattered sizes are not
    # one.
    firsts, first = [0], 0
    while first < known and (
        first := bisect_right(ordered, ordered[first] * (1 + SAME), first, known)
    ) < len(ordered):
        firsts.append(first)
    index = np.empty(len(values), dtype=int)
    index[order] = np.searchsorted(firsts, np.arange(len(values)), side="right") - 1
    return index


def count_levels(values: Array) -> int:
    """How many sizes or budgets there are; 0 if values are missing."""
    return int(levels(values).max()) + 1 if len(values) and np.isfinite(values).all() else 0


def distinct(levels_of: Sequence[NDArray[np.int_]]) -> NDArray[np.int_]:
    """The index of each row's combination of levels."""
    key = np.zeros(len(levels_of[0]), dtype=np.int64)
    for index in levels_of:
        key = np.unique(key * (int(index.max()) + 1) + index, return_inverse=True)[1].reshape(-1)
    return key


def points(frame: pd.DataFrame, inputs: tuple[str, ...]) -> NDArray[np.int_]:
    """For each row its point: runs that differ only in seed, or steps of one run, share one."""
    if has_steps(frame):
        return np.asarray(pd.factorize(frame["run_id"])[0])
    return distinct([_levels_of(name, numbers(frame, name)) for name in inputs])


def _levels_of(name: str, values: Array) -> NDArray[np.int_]:
    if name in MEASURED:
        return np.unique(values, return_inverse=True)[1].reshape(-1)
    return levels(values)


def in_order(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows sorted by columns of numbers, then by run: alike in whatever order they come."""
    run = pd.factorize(frame["run_id"], sort=True)[0]
    keys = [run, *(numbers(frame, name) for name in reversed(names))]
    return frame.take(np.lexsort(keys)).reset_index(drop=True)


def has_steps(frame: pd.DataFrame) -> bool:
    """Whether rows are steps of runs, several a run."""
    return bool(frame["run_id"].duplicated().any())


def describe_levels(frame: pd.DataFrame, name: str) -> str:
    """`5 sizes`, `1 token budget`."""
    number = count_levels(numbers(frame, name))
    return f"{number} {words(name, number)}"


def words(name: str, number: int) -> str:
    return WORDS.get(name, (f"value of {name}", f"values of {name}"))[number != 1]


def numbers(frame: pd.DataFrame, name: str) -> Array:
    """A column as numbers, NaN for what is none."""
    column = frame[name]
    if column.dtype.kind not in "fiu":
        column = pd.to_numeric(column, errors="coerce")
    return np.asarray(column.to_numpy(dtype=float))
