"""A law that knows what repeated text is worth, by the formula that parts/text_law.js has of it: a
grid would need a third axis."""

import math
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.laws import Array
from llmscale.explain.page.widening import numbers, widening

FORMULAS = ("data-constrained", "bounded")
"""Laws in N, D and unique tokens that a page has a formula of."""

Ends = tuple[float, float]


def text_law(
    fit: Fit, params: Ends, tokens: Ends, *, level: float, check: Tested | None
) -> dict[str, Any]:
    """The coefficients of the law and of its refits, and by what an interval is widened, between
    these ends. `check` as in `forecast`."""
    corners = [np.repeat(params, 4), np.tile(np.repeat(tokens, 2), 2), np.tile(tokens, 4)]
    furthest = fit.reach.beyond(fit.law.inputs, corners).max(initial=0.0)
    coefficients = np.array(list(fit.law.coefficients().values()), dtype=float)
    return {
        "formula": fit.law.name,
        "plain": bool(fit.law.plain),
        "ends": {"params": _logs(params), "tokens": _logs(tokens)},
        "coefficients": coefficients.tolist(),
        "refits": _rows(fit.replicates),
        "noise": numbers(fit.noise),
        "widening": widening(fit, float(furthest), level, check),
    }


def _logs(ends: Ends) -> list[float]:
    return [math.log(end) for end in ends]


def _rows(values: Array) -> list[list[float | None]]:
    return [numbers(row) for row in values]
