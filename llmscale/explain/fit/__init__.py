"""Fit laws to a table of runs, with intervals that say what they rest on."""

from llmscale.explain.estimation.holdout import Holdout
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import default_laws
from llmscale.explain.fit.parametric import fit_law, fit_laws
from llmscale.explain.fit.sources import as_table

__all__ = [
    "Fit",
    "Holdout",
    "Objective",
    "Options",
    "as_table",
    "default_laws",
    "fit_law",
    "fit_laws",
]
