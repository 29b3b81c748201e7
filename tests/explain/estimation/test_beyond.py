"""A law that overflows or rises a little beyond its runs is named, and not ranked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmscale.explain.estimation.beyond import nonsense
from llmscale.explain.fit import fit_law
from llmscale.explain.fit.compare import compare
from llmscale.explain.laws import Law


@dataclass(frozen=True)
class Turning(Law):
    """L = E + A/N^alpha + G N/D: more parameters than tokens can teach are a loss."""

    E: float
    A: float
    G: float
    alpha: float

    equation = "L = E + A/N^alpha + G N/D"
    inputs = ("params", "tokens")
    floor = "E"

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        return self.E + self.A / N**self.alpha + self.G * N / D


def runs() -> pd.DataFrame:
    N, D = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(3e9, 1e11, 5))
    )
    return pd.DataFrame(
        {"params": N, "tokens": D, "loss": Turning(1.8, 400.0, 0.5, 0.34).loss(N, D)}
    )


def test_a_law_that_rises_beyond_its_runs_is_said_to() -> None:
    fit = fit_law(runs(), Turning, bootstrap=0, holdout="none", diagnostics=False)
    assert "rises with N" in str(nonsense(fit))
    usual = fit_law(runs(), "chinchilla", bootstrap=0, holdout="none", diagnostics=False)
    assert nonsense(usual) is None


def test_such_a_law_is_not_ranked_unless_it_stands_alone() -> None:
    both = compare(runs(), ["power", Turning], bootstrap=0)
    assert [fit.law.name for fit in both] == ["power"]
    assert "not ranked: its loss rises" in dict(both.unsuitable)["Turning"]
    assert len(compare(runs(), [Turning], bootstrap=0)) == 1
