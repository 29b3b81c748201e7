"""Loss in size and tokens: a floor, a term for too few parameters, a term for too few tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws._sum_of_powers import SumOfPowers


@dataclass(frozen=True)
class Chinchilla(SumOfPowers):
    """L(N, D) = E + A/N^alpha + B/D^beta  (Hoffmann et al. 2022, eq. 2)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    equation = "L = E + A/N^alpha + B/D^beta"
    source = "Hoffmann et al. 2022, eq. 2"
    published = (1.8172, 477.8, 2143.4, 0.3473, 0.3672)
    floor = "E"
    exponents = ("alpha", "beta")
    terms = (("E", {}), ("A", {0: "alpha"}), ("B", {1: "beta"}))

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("params", "tokens")

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        return self.E + self.A / N**self.alpha + self.B / D**self.beta

    def compute_optimal(self) -> dict[str, Any]:
        """a = beta/(alpha + beta) and b = alpha/(alpha + beta), with C = 6ND  (Hoffmann et al.
        2022, eq. 4)."""
        with np.errstate(invalid="ignore"):
            # NaN if the loss falls with neither: no optimum.
            a = np.divide(self.beta, np.add(self.alpha, self.beta))
        a = float(a) if a.ndim == 0 else a
        return {"a": a, "b": 1.0 - a}
