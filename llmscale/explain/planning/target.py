"""The loss that a plan is asked for, in what its table gives losses in."""

import math
from dataclasses import dataclass

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.estimation.result import Fit
from llmscale.explain.table import to_base

_SHARES = {"accuracy": 1.0, "acc": 1.0, "percent": 100.0}
"""Units of which the loss is what is missing, and the most of each."""


@dataclass(frozen=True)
class Target:
    """A `loss` as the law gives it, and how it was asked for: `perplexity 5 = 1.609 nats`."""

    loss: float
    said: str


def target_of(fit: Fit, asked: float) -> Target:
    """The loss that `asked` is in the table of a fit. Raises InputError for what is none there."""
    unit = fit.origin.loss_unit
    if unit is None:
        raise InputError(
            f"{fit.kept} was kept by an older llmscale, and does not say what its losses are in",
            "fit again: llmscale fit TABLE",
        )
    return target_in(unit, fit.metric, asked)


def target_in(unit: str, metric: str, asked: float) -> Target:
    """The same in a unit, empty if it is that of the law. Raises InputError for what is none."""
    if not unit:
        return Target(asked, f"a {metric} of {asked:g}")
    most = _SHARES.get(unit, math.inf)
    loss = math.nan
    if asked <= most:
        loss = float(to_base(np.array([asked]), "loss", "percent" if most == 100.0 else unit)[0])
    if not math.isfinite(loss):
        raise InputError(
            f"{asked:g} is no {unit}, which the losses of the table are given in",
            "give it as the table does",
        )
    amount = f"{loss:.4g} in {metric}" if unit in _SHARES else f"{loss:.4g} nats"
    return Target(loss, f"{unit} {asked:g} = {amount}")
