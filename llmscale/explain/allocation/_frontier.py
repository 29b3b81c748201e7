"""The frontier N*(C) and D*(C) as power laws, from a law or by regression on optima."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note
from llmscale.explain.laws import Array, Law
from llmscale.notes.predicting import FLOPS_NOT_6ND, NOT_A_POWER_LAW

_NEAR_6ND = FLOPS_NOT_6ND.limit
"""FLOPs this near to 6ND in the middle of a table count as 6ND, as digitised tables are off."""


@dataclass(frozen=True)
class Frontier:
    """N* = exp(log_params) C^a and D* = C/(k N*), with C = k N D; many frontiers if arrays."""

    a: Any
    log_params: Any
    flops_factor: float = 6.0

    @property
    def b(self) -> Any:
        """The exponent of D* ∝ C^b."""
        return 1.0 - self.a

    def params(self, flops: Any) -> Any:
        """N* at a budget of C FLOPs."""
        with np.errstate(over="ignore"):
            return np.exp(self.log_params + self.a * np.log(flops))

    def tokens(self, flops: Any) -> Any:
        """D* at a budget of C FLOPs."""
        return flops / (self.flops_factor * self.params(flops))


def flops_factor(frame: pd.DataFrame) -> tuple[float, tuple[Note, ...]]:
    """k in C = k N D: 6, or the table's own median if its FLOPs are more than 10% away from 6ND."""
    ratio = float(np.median(frame["flops"] / (6.0 * frame["params"] * frame["tokens"])))
    if not np.isfinite(ratio):
        raise InputError(
            "the compute-optimal allocation needs tokens or FLOPs, and the table has neither",
            "add a column tokens or flops to the table",
        )
    if abs(np.log(ratio)) <= _NEAR_6ND:
        return 6.0, ()
    message = (
        f"the table's FLOPs are {ratio:.2f} × 6ND in the middle: optima use C = {6 * ratio:.2f} N "
        "D, taken to hold at every size"
    )
    return 6.0 * ratio, (FLOPS_NOT_6ND.note(message),)


def regress(log_flops_BK: Array, log_params_BK: Array, weight_BK: Array) -> Array:
    """Weighted least squares of ln N* on ln C for each of B sets of K optima: (B, 2) of a and ln N*
    at one FLOP.

    Optima of weight zero do not count; NaN if fewer than two count.
    """
    weight = np.where(np.isfinite(log_params_BK) & np.isfinite(log_flops_BK), weight_BK, 0.0)
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x = np.where(weight > 0, weight * log_flops_BK, 0.0).sum(axis=1) / total
        mean_y = np.where(weight > 0, weight * log_params_BK, 0.0).sum(axis=1) / total
        x = np.where(weight > 0, log_flops_BK - mean_x[:, None], 0.0)
        y = np.where(weight > 0, log_params_BK - mean_y[:, None], 0.0)
        slope = (weight * x * y).sum(axis=1) / (weight * x * x).sum(axis=1)
    slope[(weight > 0).sum(axis=1) < 2] = np.nan
    return np.stack([slope, mean_y - slope * mean_x], axis=1)


def of_law(law: Law, flops: float, factor: float) -> tuple[Frontier, tuple[Note, ...]]:
    """The frontier of a law in N and D under C = k N D, through its optimum at `flops`, with notes.

    `law` may hold arrays of coefficients, one frontier each. If its optimum is no power law of C,
    the one through its optima at `flops` and at a hundred times as many. Raises InputError if the
    law has no optimum."""
    with np.errstate(all="ignore"):
        best, further = law.optimal(6.0 * flops / factor), law.optimal(600.0 * flops / factor)
    if best is None or further is None:
        raise InputError(
            f"{law.name} is no law in N and D, and has no compute-optimal allocation",
            "use a law in N and D: --law chinchilla",
        )
    notes: tuple[Note, ...] = ()
    log_params, exponents = np.log(best[0]), law.compute_optimal()
    if exponents is not None and np.isnan(exponents["a"]).all():
        raise InputError(
            f"the {law.name} fitted to these runs falls with neither N nor D, and has no optimum",
            "look at the losses of the table: larger and longer runs should be better",
        )
    if exponents is not None:
        a = np.broadcast_to(np.asarray(exponents["a"], dtype=float), log_params.shape)
    else:
        a = (np.log(further[0]) - log_params) / np.log(100.0)
        message = (
            f"the optimum of {law.name} is no power law of C: a is its mean slope from the "
            "largest budget to 100 times that"
        )
        notes = (NOT_A_POWER_LAW.note(message),)
    return Frontier(a[()], (log_params - a * np.log(flops))[()], factor), notes
