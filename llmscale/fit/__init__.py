"""Fit laws to a table of runs, with intervals that say what they rest on."""

from llmscale.fit.forecast import Forecast
from llmscale.fit.identify import default_laws
from llmscale.fit.options import Objective, Options
from llmscale.fit.parametric import as_table, fit_law, fit_laws
from llmscale.fit.result import Fit, Holdout, to_json, write_fits

__all__ = [
    "Fit",
    "Forecast",
    "Holdout",
    "Objective",
    "Options",
    "as_table",
    "default_laws",
    "fit_law",
    "fit_laws",
    "to_json",
    "write_fits",
]
