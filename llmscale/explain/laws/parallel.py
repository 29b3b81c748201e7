"""Loss in size and the number of parallel streams whose outputs a model combines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Parallel(Law):
    """L(N, P) = E + (A/(N (k ln P + 1)))^alpha  (Chen et al. 2025, "Parallel Scaling Law", eq. 5).

    P streams are worth as much as k ln P + 1 times the parameters. The coefficients here are of the
    paper's kind."""

    E: float
    A: float
    k: float
    alpha: float

    equation = "L = E + (A/(N (k ln P + 1)))^alpha, P parallel streams"
    source = "Chen et al. 2025, eq. 5"
    published = (1.29, 1.97e8, 0.35, 0.196)
    inputs = ("params", "parallel_size")
    floor = "E"
    exponents = ("alpha",)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"A": (1e3, 1e12), "k": (0.02, 2.0)}

    def loss(self, *inputs: Any) -> Any:
        N, streams = inputs
        worth = np.log(N) + np.log(self.k * np.log(streams) + 1.0)
        return self.E + np.exp(self.alpha * (np.log(self.A) - worth))

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(params=np.geomspace(5e8, 5e9, 6), parallel_size=(1.0, 2.0, 4.0, 8.0))
