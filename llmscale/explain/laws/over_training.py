"""Loss in compute and tokens a parameter, with one exponent for both: over-training moves the
curve, not its slope.
"""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import Law


@dataclass(frozen=True)
class OverTraining(Law):
    """L(C, M) = E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6ND  (Gadre et al. 2024, eq. 4).
    It is Chinchilla's law with alpha = beta = 2 eta."""

    E: float
    a: float
    b: float
    eta: float

    equation = "L = E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6ND"
    source = "Gadre et al. 2024, eq. 4"
    published = (1.51, 141.0, 190.0, 0.121)
    inputs = ("params", "tokens")
    floor = "E"
    exponents = ("eta",)

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        M, C = D / N, 6.0 * N * D
        return self.E + (self.a * M**self.eta + self.b * M**-self.eta) * C**-self.eta

    def compute_optimal(self) -> dict[str, Any]:
        """a = b = 1/2: the best tokens a parameter, (b/a)^(1/(2 eta)), are the same everywhere."""
        return {"a": 0.5, "b": 0.5}
