"""The best run of each point, for --best-of: a law describes tuned runs, and not every run of a
search."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.table.columns.resolve import resolve

_HOW = "write it like --best-of params,tokens"


def columns_said(best_of: object) -> tuple[str, ...]:
    """The columns that stand between commas, or one by one. Raises InputError."""
    given = () if best_of is None else best_of
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"best_of is {best_of!r:.40}, which names no columns", _HOW)
    names = tuple(part.strip() for part in parts)
    if not all(names):
        raise InputError(f"best_of is {best_of!r:.40}, and one of its columns has no name", _HOW)
    return names


def others_of_point(
    frame: pd.DataFrame, columns: Sequence[str], kept: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The rows of those kept that a row of the same values in `columns` has a lower loss than; of
    equal losses all but the first. Without columns none. Raises InputError for an unknown one."""
    others = np.zeros(len(frame), dtype=bool)
    names = [resolve(name, frame) for name in columns]
    if names:
        rows = np.flatnonzero(kept)
        order = rows[np.argsort(frame["loss"].to_numpy(dtype=float)[rows], kind="stable")]
        others[order] = frame.iloc[order].duplicated(names).to_numpy()
    return others
