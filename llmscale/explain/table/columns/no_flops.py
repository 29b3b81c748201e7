"""Whether a column C counts FLOPs, by what it holds next to N and D."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from llmscale.explain.table.columns.units import counts_of

_LEAST_FLOPS = 1e9
"""A column C of smaller numbers that do not follow N times D counts something else."""


def no_flops(raw: pd.DataFrame, columns: Mapping[str, str]) -> str | None:
    """Why the column taken for C holds no FLOPs, or None if it may, or N or D is not known."""
    if not {"params", "tokens"} <= columns.keys():
        return None
    N, D, C = (counts_of(raw[columns[name]]) for name in ("params", "tokens", "flops"))
    known = np.isfinite(N) & np.isfinite(D) & np.isfinite(C)
    if known.sum() < 3:
        return None
    work = (N * D)[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        scattered = np.ptp(np.log(C[known] / work)) > np.log(30)
    constant = np.ptp(C[known]) == 0 and work.max() > 2 * work.min()
    small = not constant and C[known].max() < _LEAST_FLOPS and scattered
    if constant:
        return f"{C[known][0]:g} in every row: no FLOPs"
    if small and np.corrcoef(C[known], work)[0, 1] < 0.5:
        return f"at most {C[known].max():g}: no FLOPs"
    return None
