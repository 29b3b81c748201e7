"""The pure power law in one of N, D and C: a straight line on log axes, without a floor."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import OneVariableLaw
from llmscale.explain.laws._sum_of_powers import SumOfPowers


@dataclass(frozen=True)
class Power(OneVariableLaw, SumOfPowers):
    """L(N) = A/N^alpha  (Kaplan et al. 2020, eq. 1.1, with A = N_c^alpha)."""

    A: float
    alpha: float

    equation = "L = A/{x}^alpha"
    source = "Kaplan et al. 2020, eq. 1.1"
    published = (15.0, 0.095)
    exponents = ("alpha",)
    terms = (("A", {0: "alpha"}),)

    def loss(self, *inputs: Any) -> Any:
        (N,) = inputs
        return self.A / N**self.alpha
