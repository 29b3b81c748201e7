"""The first joint law of size and tokens: no floor, and two pure power laws at its edges."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law


@dataclass(frozen=True)
class Kaplan(Law):
    """L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D  (Kaplan et al. 2020, eq. 1.5).

    With endless tokens it is (N_c/N)^alpha_N, with endless size (D_c/D)^alpha_D. The paper finds
    alpha_N = 0.076, alpha_D = 0.103, N_c = 6.4e13 and D_c = 1.8e13, N without embeddings."""

    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float

    equation = "L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D"
    source = "Kaplan et al. 2020, eq. 1.5"
    published = (6.4e13, 1.8e13, 0.076, 0.103)
    inputs = ("params", "tokens")
    exponents = ("alpha_N", "alpha_D")

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        return ((self.N_c / N) ** (self.alpha_N / self.alpha_D) + self.D_c / D) ** self.alpha_D

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Exponents from 0.02 to 1, and scales that lead the law through the middle of the runs."""
        N, D, L = (np.exp(np.log(values).mean()) for values in (*inputs, loss))
        share, _, alpha_N, alpha_D = unit_SK.T
        alpha_N, alpha_D = 0.02 * 50.0**alpha_N, 0.02 * 50.0**alpha_D
        # In logarithms, since L^(1/alpha) is beyond floats for small alpha and large losses.
        inner = np.log(L) / alpha_D
        N_c = np.exp(np.log(N) + (np.log(share) + inner) * alpha_D / alpha_N)
        D_c = np.exp(np.log(D) + np.log1p(-share) + inner)
        return np.stack([N_c, D_c, alpha_N, alpha_D], axis=1)

    def compute_optimal(self) -> dict[str, Any]:
        """a = alpha_D/(alpha_N + alpha_D), with C = 6ND (the paper's 0.73 rests on its L(N, S))."""
        total = self.alpha_N + self.alpha_D
        return {"a": self.alpha_D / total, "b": self.alpha_N / total}
