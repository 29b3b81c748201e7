"""The column of weights: rows of weight zero are left out, and extreme weights made ordinary."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.table.columns.find import WEIGHT

NO_WEIGHT = "weight 0"
"""Why a row was left out."""
_LARGEST = 1e50
"""The squares of weights beyond this, or below one over it, are beyond what numbers hold."""


def without_weight(
    frame: pd.DataFrame, column: str | None, usable: NDArray[np.bool_], path: Path
) -> NDArray[np.bool_]:
    """Which usable rows (R,) count for nothing by the source's `column` of weights, if one was
    asked for. Raises InputError if all of them do."""
    if column is None:
        return np.zeros(len(frame), dtype=bool)
    zero = usable & (pd.to_numeric(frame[WEIGHT], errors="coerce") == 0).to_numpy()
    if zero.any() and (zero == usable).all():
        raise InputError(
            f"every finished run of {path} has the weight 0 in column {column!r}",
            "give one a weight above zero, or leave weight out of --columns",
        )
    return zero


def with_ordinary_weights(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with weights of at most 1 if theirs are extreme: only their ratios matter."""
    weight = pd.to_numeric(frame[WEIGHT], errors="coerce")
    largest = weight.max()
    if not np.isfinite(largest) or largest <= 0 or 1 / _LARGEST < largest < _LARGEST:
        return frame
    return frame.assign(**{WEIGHT: weight / largest})
