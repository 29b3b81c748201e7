"""Which runs to hold out: the largest by default, or those of a rule like `flops>1e19`."""

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.estimation.levels import levels
from llmscale.quantity import parse_count

_RULE = re.compile(r"\s*(?P<column>[a-z]+)\s*(?P<sign>>=|<=|>|<)\s*(?P<value>.+)", re.IGNORECASE)
_COLUMNS = {
    "params": "params",
    "n": "params",
    "tokens": "tokens",
    "d": "tokens",
    "flops": "flops",
    "c": "flops",
}
LARGEST_BUDGETS = 0.5
"""For laws in N and D the largest budgets are those above this share of the largest FLOPs, ..."""
_LEAST_SHARE = 0.05
"""... or above this share's powers, until they are this share of the runs: one run says little."""


def held_out(frame: pd.DataFrame, inputs: tuple[str, ...], rule: str) -> NDArray[np.bool_]:
    """The runs that `rule` holds out.

    `largest` is the largest size, or for laws in N and D every run within a factor of 2 of the
    largest budget, or of 4, 8 and so on if that is fewer than one run in twenty. Of tables with the
    steps of curves it is every step of such runs.
    """
    if rule == "none":
        return np.zeros(len(frame), dtype=bool)
    if rule == "largest" and len(inputs) == 1:
        index = levels(frame[inputs[0]].to_numpy())
        return np.asarray(index == index.max())
    if rule == "largest":
        flops = frame.groupby("run_id")["flops"].transform("max").to_numpy(dtype=float)
        if not np.isfinite(flops).all():
            index = levels(frame[inputs[0]].to_numpy(dtype=float))
            return np.asarray(index == index.max())
        least = LARGEST_BUDGETS * flops.max()
        while (flops >= least).sum() < int(_LEAST_SHARE * len(frame)):
            least *= LARGEST_BUDGETS
        return np.asarray(flops >= least)
    match = _RULE.fullmatch(rule)
    column = _COLUMNS.get(match["column"].lower()) if match else None
    if match is None or column is None:
        raise InputError(
            f"hold-out rule {rule!r} is not understood",
            "use none, largest, or a rule like flops>1e19 or params>=10M",
        )
    values, limit = frame[column].to_numpy(), parse_count(match["value"], "hold-out limit")
    held = {">": values > limit, ">=": values >= limit, "<": values < limit, "<=": values <= limit}[
        match["sign"]
    ]
    if not held.any() or held.all():
        raise InputError(
            f"hold-out rule {rule!r} holds out {'every run' if held.any() else 'no run'}",
            f"{column} goes from {values.min():.4g} to {values.max():.4g}; or use --holdout "
            "largest",
        )
    return np.asarray(held)
