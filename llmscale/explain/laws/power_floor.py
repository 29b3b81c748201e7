"""A power law in one of N, D and C above a floor, the loss that no size gets below."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import OneVariableLaw
from llmscale.explain.laws._sum_of_powers import SumOfPowers


@dataclass(frozen=True)
class PowerFloor(OneVariableLaw, SumOfPowers):
    """L(N) = E + A/N^alpha  (Henighan et al. 2020)."""

    E: float
    A: float
    alpha: float

    equation = "L = E + A/{x}^alpha"
    source = "Henighan et al. 2020"
    published = (1.7, 400.0, 0.34)
    floor = "E"
    exponents = ("alpha",)
    without_floor = "power"
    terms = (("E", {}), ("A", {0: "alpha"}))

    def loss(self, *inputs: Any) -> Any:
        (N,) = inputs
        return self.E + self.A / N**self.alpha
