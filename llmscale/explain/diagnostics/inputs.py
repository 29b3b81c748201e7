"""What a law knows of a column, by its own inputs, and which laws know of one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmscale.errors import InputError
from llmscale.explain.diagnostics.evidence import known
from llmscale.explain.estimation.identifiability import unusable, why_not
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import inputs_of
from llmscale.explain.laws import LAWS, Law

_ROUNDED = 0.01
"""Columns such as epochs are often rounded, by less than this share."""


def is_product(frame: pd.DataFrame, name: str, inputs: Sequence[str]) -> bool:
    """Whether a column is a product of powers of these, as epochs = tokens/unique_tokens are:
    whoever knows them knows it."""
    if not known(frame, name) or not all(known(frame, one) for one in inputs):
        return False
    value_R = np.log(frame[name].to_numpy(dtype=float))
    logs = [np.log(frame[one].to_numpy(dtype=float)) for one in inputs]
    shapes = np.stack([*logs, np.ones_like(value_R)], axis=1)
    if len(np.unique(shapes, axis=0)) <= shapes.shape[1]:
        return False  # so few points lie on a plane by themselves
    powers = np.linalg.lstsq(shapes, value_R, rcond=None)[0]
    return float(np.abs(value_R - shapes @ powers).max()) < _ROUNDED


def laws_taking(fit: Fit, column: str) -> list[str]:
    """The laws that take a column which this fit does not, and that its runs can tell: those with a
    floor first, which hold beyond the runs, and simple ones before others."""
    taking = [name for name in LAWS if _takes(LAWS.find(name), fit, column)]

    def order(name: str) -> tuple[bool, int]:
        law = LAWS.find(name)
        return law.floor is None, len(law.coefficient_names())

    return sorted(taking, key=order)


def _takes(law: type[Law], fit: Fit, column: str) -> bool:
    frame = fit.table.frame
    if law.plain != fit.law.plain or law.estimator is not None:
        return False
    try:
        law = law.suited_to(frame)
    except InputError:
        return False
    inputs = inputs_of(law, fit.options.variable)
    if column not in inputs and not is_product(frame, column, inputs):
        return False
    return unusable(law, frame, inputs) is None and why_not(law, frame, inputs) is None
