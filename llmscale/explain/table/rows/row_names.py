"""Columns as what may tell rows apart: names as texts, counters, and steps."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.explain.table.columns.names import last_part, plain, spellings
from llmscale.explain.table.rows.step_names import bare_step

OWN_ROW = ("_index", "index", "unnamed_0", "row")
OF_A_ROW = spellings(
    """
    time timestamp date datetime runtime seconds hours wall_time elapsed created _timestamp _runtime
    datetime_start datetime_complete created_at grad_norm lr learning_rate tokens_per_second mfu
    throughput loss_stderr perplexity ppl epoch
    """
)
"""Columns that differ between checkpoints of one run."""
_EXACT = 2**53
"""Whole numbers below it are exact as floats."""


def called(name: str) -> str:
    return plain(last_part(name))


def texts_of(given: pd.Series) -> pd.Series:
    """Names as texts, `row 3` for a missing one."""
    rows = numbered(given.to_frame())
    if pd.api.types.is_float_dtype(given.dtype):
        given = given.astype(object).map(_as_name, na_action="ignore")
    return given.astype(object).where(given.notna(), rows).astype(str).astype(object)


def _as_name(value: float) -> str:
    """A number as people name it: 3 for 3.0, and what cannot be a whole number as it stands."""
    return (
        str(int(value)) if float(value).is_integer() and abs(value) < _EXACT else repr(float(value))
    )


def numbered(raw: pd.DataFrame) -> pd.Series:
    return pd.Series(
        [f"row {number}" for number in range(1, len(raw) + 1)], index=raw.index, dtype=object
    )


def is_unique(given: pd.Series, usable: NDArray[np.bool_]) -> bool:
    values = given[usable]
    return bool(len(values)) and not values.dropna().duplicated().any()


def is_counter(given: pd.Series) -> bool:
    """Whether a column only counts rows."""
    if not pd.api.types.is_integer_dtype(given.dtype) or not len(given):
        return False
    return bool((given.diff().dropna() == 1).all())


def step_numbers(given: pd.Series) -> NDArray[np.float64] | None:
    """The steps that a column holds as numbers or as `step1000`; None for another column."""
    if pd.api.types.is_bool_dtype(given.dtype):
        return None
    if pd.api.types.is_numeric_dtype(given.dtype):
        return given.to_numpy(dtype=float, na_value=np.nan)
    steps = {value: bare_step(str(value)) for value in pd.unique(given.dropna())}
    if not steps or any(step is None for step in steps.values()):
        return None
    return given.map(steps).to_numpy(dtype=float)
