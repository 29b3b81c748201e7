"""Approach 3: fit one law L(N, D) to every run, and minimise it at each budget."""

import numpy as np
import pandas as pd

from llmscale.explain.allocation import _frontier
from llmscale.explain.allocation._allocation import Allocation
from llmscale.explain.estimation.result import with_coefficients
from llmscale.explain.fit import Fit, Options, fit_law
from llmscale.explain.laws import Law
from llmscale.explain.table import RunTable
from llmscale.notes.predicting import REFITS_WITHOUT_OPTIMUM

SOURCE = "Hoffmann et al. 2022, approach 3"
_COLUMNS = ["flops", "params", "tokens", "loss", "low", "high"]
_COLUMNS += ["n_runs", "n_sizes", "used", "reason"]


def allocate(
    table: RunTable,
    options: Options,
    *,
    law: str | type[Law] | None = "chinchilla",
    curves: pd.DataFrame | None = None,
) -> Allocation:
    """N* and D* of the least loss at C = k N D; chinchilla: N* = G (C/6)^(beta/(alpha + beta))."""
    return of_fit(fit_law(table, law or "chinchilla", options, holdout="none"))


def of_fit(fit: Fit) -> Allocation:
    """The allocation of a law that is already fitted. Raises InputError if it has no optimum."""
    factor, notes = _frontier.flops_factor(fit.table.frame)
    flops = float(fit.table.frame["flops"].max())
    frontier, more = _frontier.of_law(fit.law, flops, factor)
    notes += more
    refits = np.empty((0, 2))
    if len(fit.replicates):
        many, _ = _frontier.of_law(with_coefficients(fit.law, fit.replicates), flops, factor)
        every = np.stack([np.ravel(many.a), np.ravel(many.log_params)], axis=1)
        refits = every[np.isfinite(every).all(axis=1)]
        if len(refits) < len(every):
            message = (
                f"{len(every) - len(refits)} of {len(every)} bootstrap refits have no optimum and "
                "were left out"
            )
            notes += (REFITS_WITHOUT_OPTIMUM.note(message),)
    return Allocation(
        method="parametric",
        source=SOURCE,
        table=fit.table,
        frontier=frontier,
        refits=refits,
        level=fit.level,
        budgets=pd.DataFrame(columns=_COLUMNS),
        notes=(*fit.notes, *notes),
        law=fit.law,
    )
