"""Grids with a row a size and a column a budget, which are turned into a row a run."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.explain.table.columns.units import counts_of
from llmscale.quantity import parse_count

_LEAST = 1000
"""Smaller numbers as names are places of columns."""
_MOST_LOSS = 100.0
_LEAST_FLOPS = 1e14
"""Amounts from here on are FLOPs and not tokens."""


def refuse_wide(raw: pd.DataFrame, taken: Collection[str], source: Path) -> None:
    """Raise InputError if several columns are named by amounts, and losses stand below them.
    `taken` are the sizes that were found in other columns."""
    amounts = {name: _amount(name) for name in map(str, raw.columns)}
    budgets = [name for name, amount in amounts.items() if amount >= _LEAST]
    if len(budgets) < 2 or not all(_holds_losses(raw[name]) for name in budgets):
        return
    across = "tokens"
    if "params" not in taken and taken:
        across = "params"
    elif min(amounts[name] for name in budgets) >= _LEAST_FLOPS:
        across = "flops"
    table = "table"
    if source.suffix.lower() == ".csv":
        table = f"pandas.read_csv({str(source)!r})"
    kept = [name for name in map(str, raw.columns) if name not in budgets]
    fix = f"{table}.melt({kept!r}, var_name={across!r}, value_name='loss')"
    if table != "table":
        fix += ".to_csv('runs.csv', index=False)"
    raise InputError(
        f"{source} is a wide grid, with losses below each of {listed(budgets)}, and a law needs a "
        "row a run",
        f"turn it: {fix}",
    )


def _amount(name: str) -> float:
    """The amount that a column's name is, 0 for another name."""
    try:
        return parse_count(name)
    except InputError:
        return 0.0


def _holds_losses(given: pd.Series) -> bool:
    values = counts_of(given)
    values = values[np.isfinite(values)]
    return bool(len(values) and ((values > 0) & (values < _MOST_LOSS)).all())
