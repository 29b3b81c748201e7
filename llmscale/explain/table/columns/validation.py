"""Losses of validation whose columns are not called losses: `val` next to `loss`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmscale.explain.table.columns.names import only_validation
from llmscale.explain.table.columns.units import counts_of

_FEWEST = 3
_TOGETHER = 0.7
"""The least rank correlation of such a column and a loss: seeds scatter both."""


def under_a_word(raw: pd.DataFrame, losses: Sequence[str]) -> list[str]:
    """Columns named `val`, `eval` or so that hold what can be a loss next to one of `losses`.
    Such a column may hold shares, flags or names, too."""
    words = [name for name in map(str, raw.columns) if only_validation(name)]
    return [name for name in words if any(_goes_with(raw[name], raw[loss]) for loss in losses)]


def _goes_with(given: pd.Series, loss: pd.Series) -> bool:
    """Whether most rows have values near a loss, which rise and fall with it."""
    pair = pd.DataFrame({"one": counts_of(given), "other": counts_of(loss)})
    pair = pair[np.isfinite(pair).all(axis=1) & (pair > 0).all(axis=1)]
    if len(pair) < max(_FEWEST, len(given) / 2) or (pair.nunique() < 2).any():
        return False
    near = 0.5 < float((pair["one"] / pair["other"]).median()) < 2
    return near and float(pair["one"].rank().corr(pair["other"].rank())) > _TOGETHER
