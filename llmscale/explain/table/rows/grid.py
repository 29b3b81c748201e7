"""Whether rows are a grid of runs at shared budgets, or checkpoints at equal steps."""

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_SAME = 1.02
"""Budgets nearer than this factor are one budget."""
_FULL = 0.6
"""Of the places of a grid, the share that is filled: some of its runs may have failed."""
_MOST_BUDGETS = 10
"""Runs of more budgets at one size are hardly a grid, but checkpoints on a log scale may be."""
_LEAST_CHECKPOINTS = 4


def is_grid(
    group: NDArray[np.int_], along: NDArray[np.float64], params: NDArray[np.float64]
) -> bool:
    """Whether the rows of each group are runs of their own, at the budgets (or ratios, or FLOPs) of
    all groups.

    Checkpoints share their steps, too, but lie equal steps apart: then, from four a run on, it is
    no grid."""
    several = np.bincount(group)[group] > 1
    group, along, params = group[several], along[several], params[several]
    if not len(group) or (along <= 0).any() or stepwise(group, along):
        return False
    of_each = [np.unique(along[group == one]) for one in np.unique(group)]
    if max(map(len, of_each)) > _MOST_BUDGETS:
        return False
    if len(of_each) == 1:
        ratio = of_each[0][1:] / of_each[0][:-1]
        return len(ratio) > 1 and bool(ratio.max() <= 1.3 * ratio.min())
    scales = [along]
    if np.isfinite(params).all() and (params > 0).all():
        scales += [along / params, along * params]
    return any(_shared(group, scale) for scale in scales)


def stepwise(group: NDArray[np.int_], along: NDArray[np.float64]) -> bool:
    """Whether most groups of at least four rows have gaps that are mostly equal."""
    found = []
    for one in np.unique(group):
        values = np.unique(along[group == one])
        if len(values) >= _LEAST_CHECKPOINTS:
            gaps = np.diff(values)
            found.append(float((np.abs(gaps / np.median(gaps) - 1) < _SAME - 1).mean()) >= _FULL)
    return bool(found) and float(np.mean(found)) > 0.5


def share_steps(group: NDArray[np.int_], step: NDArray[np.float64]) -> bool:
    """Whether most steps stand in several groups, as those of checkpoints by one rule do. Runs of
    equal FLOPs or tokens a parameter end at steps of their own."""
    groups = pd.DataFrame({"step": step, "group": group}).dropna().groupby("step")["group"]
    return bool((groups.nunique() > 1).mean() > 0.5)


def _shared(group: NDArray[np.int_], scale: NDArray[np.float64]) -> bool:
    """Whether the groups have the same values."""
    order = np.sort(np.log(scale))
    levels = 1 + int((np.diff(order) > np.log(_SAME)).sum())
    filled = len(
        pd.DataFrame({"group": group, "scale": np.round(np.log(scale), 2)}).drop_duplicates()
    )
    return filled >= _FULL * levels * len(np.unique(group))


def one_after_another(names: pd.Series) -> bool:
    """Whether names are one word and a number that counts the rows: run0, run1, run2."""
    parts = [re.fullmatch(r"(\D*)(\d+)", name) for name in names]
    if len(parts) < 2 or any(part is None for part in parts):
        return False
    words = {part[1] for part in parts if part}
    numbers = {int(part[2]) for part in parts if part}
    return len(words) == 1 and len(numbers) == len(parts) == max(numbers) - min(numbers) + 1
