"""A law of the whole loss curve under a learning-rate schedule, so that every logged step is
evidence.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Curve(Law):
    """L(s) = L0 + A S1^-alpha - C S2  (Tissue et al. 2024, eq. 1), for one size.

    S1 is the sum of learning rates up to step s, S2 the annealing area:
    `llmscale.explain.curve_table` computes both."""

    L0: float
    A: float
    C: float
    alpha: float

    equation = "L = L0 + A/S1^alpha - C S2"
    source = "Tissue et al. 2024, eq. 1"
    published = (2.6, 0.45, 0.6, 0.5)
    inputs = ("lr_area", "annealing_area")
    may_be_zero = ("annealing_area",)
    floor = "L0"
    exponents = ("alpha",)

    def loss(self, *inputs: Any) -> Any:
        S1, S2 = inputs
        return self.L0 + self.A / S1**self.alpha - self.C * S2

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(lr_area=np.geomspace(0.5, 20.0, 12), annealing_area=(0.0, 0.1, 0.3, 0.5))
        return {**runs, "params": np.full(48, 1e8), "tokens": 1e6 * runs["lr_area"]}
