"""Loss of routed models in the size of the dense model and the number of experts, above a floor."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, crossed
from llmscale.explain.laws._sum_of_powers import SumOfPowers


@dataclass(frozen=True)
class RoutedFloor(SumOfPowers):
    """L(N, M) = E + A/(N^alpha M^beta), M experts  (the separable law of Clark et al. 2022 with a
    floor).

    Experts are worth the same factor at every size: 10^beta times fewer excess nats for 10 times as
    many. Beyond the paper's range of sizes the floor forecasts better than its own curved law."""

    E: float
    A: float
    alpha: float
    beta: float

    equation = "L = E + A/(N^alpha M^beta), M experts"
    source = "Clark et al. 2022, with a floor"
    published = (1.6, 43.0, 0.2, 0.075)
    inputs = ("params", "n_experts")
    explained = ("arch", "architecture", "params_total", "params_active")
    floor = "E"
    exponents = ("alpha", "beta")
    terms = (("E", {}), ("A", {0: "alpha", 1: "beta"}))

    def loss(self, *inputs: Any) -> Any:
        N, experts = inputs
        return self.E + self.A / (N**self.alpha * experts**self.beta)

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(params=np.geomspace(1e7, 1e9, 6), n_experts=(1.0, 4.0, 16.0, 64.0, 256.0))
