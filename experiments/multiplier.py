"""A law of two recipes, of which one is worth a multiple of its compute: cleaning.py,
distillation.py and optimizers.py fit it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmscale.explain.fit import Fit, Options, fit_law
from llmscale.explain.laws import Law

LEVEL = 0.9


@dataclass(frozen=True)
class Multiplied(Law):
    """Two recipes on one law of compute, of which the second is worth `k` times its compute: to
    reach any loss it takes 1/k of that of the first."""

    E: float
    A: float
    alpha: float
    k: float

    equation = "L = E + A/(k^second C)^alpha"
    source = "after Volkova et al. 2026"
    inputs = ("flops", "second")
    may_be_zero = ("second",)
    floor = "E"
    exponents = ("alpha",)

    def loss(self, *inputs: Any) -> Any:
        C, second = inputs
        return self.E + self.A / (self.k**second * C) ** self.alpha


def multiplied(runs: pd.DataFrame, second: "pd.Series[bool]") -> Fit:
    """The law on `runs`, of which some are of the `second` recipe. The interval of k is by
    bootstrap."""
    options = Options(variable="flops", level=LEVEL, holdout="none")
    return fit_law(runs.assign(second=second.astype(float)), Multiplied, options)


def worth(fit: Fit) -> str:
    """`1.34 times its compute (90% interval 0.67 to 2.48)`."""
    low, high = fit.intervals["k"]
    value = fit.law.coefficients()["k"]
    return f"{value:.2f} times its compute ({LEVEL:.0%} interval {low:.2f} to {high:.2f})"


def side_by_side(pair: pd.DataFrame, column: str, first: str, second: str) -> str:
    """The beginning of a line of a report on runs of one size and budget: which they are, and the
    mean losses of those whose `column` is `first` and `second`."""
    run, mean = pair.iloc[0], pair.groupby(column)[["flops", "loss"]].mean()
    one, other = mean["loss"][first], mean["loss"][second]
    cells = (
        f"{run['size']} | {run['params']:,} | {run['tokens']:,} | {mean['flops'][first]:.2e}",
        f"{one:.4f} | {other:.4f} | {other - one:+.4f}",
    )
    return " | ".join(cells)
