"""A law of the whole loss curve under a learning-rate schedule, so that every logged step is
evidence.
"""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import Law


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
    inputs = ("lr_area", "annealing_area")
    may_be_zero = ("annealing_area",)
    floor = "L0"
    exponents = ("alpha",)

    def loss(self, *inputs: Any) -> Any:
        S1, S2 = inputs
        return self.L0 + self.A / S1**self.alpha - self.C * S2
