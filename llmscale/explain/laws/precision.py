"""Loss in size, tokens and the bits a number has in training: fewer bits act like fewer
parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Precision(Law):
    """L(N, D, P) = E + A/[N (1 - exp(-P/gamma))^3]^alpha + B/D^beta  (Kumar et al. 2024, eq. 5).

    P is the bits of weights, activations and attention's keys and values alike (hence the cube),
    gamma in bits."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    gamma: float

    equation = "L = E + A/[N (1 - exp(-P/gamma))^3]^alpha + B/D^beta"
    source = "Kumar et al. 2024, eq. 5"
    published = (1.94, 4299.0, 18060.0, 0.4965, 0.4, 2.0)
    inputs = ("params", "tokens", "bits")
    floor = "E"
    exponents = ("alpha", "beta")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"gamma": (0.3, 10.0)}

    def loss(self, *inputs: Any) -> Any:
        N, D, P = inputs
        effective = N * (-np.expm1(-P / self.gamma)) ** 3
        return self.E + self.A / effective**self.alpha + self.B / D**self.beta

    def compute_optimal(self) -> dict[str, Any]:
        """Chinchilla's exponents: at a fixed precision both optima are only scaled (eq. 6)."""
        return {
            "a": self.beta / (self.alpha + self.beta),
            "b": self.alpha / (self.alpha + self.beta),
        }

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(
            params=np.geomspace(3e7, 2e9, 4),
            tokens=np.geomspace(1.5e9, 5e10, 3),
            bits=np.arange(3.0, 8.0),
        )
        kept = (np.arange(60) % 5 < 3) | (runs["bits"] > 5)
        return {name: values[kept] for name, values in runs.items()}
