"""Loss of mixtures of experts in active size, tokens and the number of experts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, crossed
from llmscale.explain.laws._experts import effective_experts


@dataclass(frozen=True)
class JointMoe(Law):
    """L(N, D, E_hat) = a E_hat^delta N^(alpha + gamma ln E_hat) + b E_hat^omega D^(beta + zeta ln
    E_hat) + c  (Ludziejewski et al. 2025).

    N is the number of active parameters; E_hat is the number of experts M between E_start and E_max
    (their eq. 4, of Clark et al. 2022). alpha and beta are negative."""

    a: float
    b: float
    c: float
    alpha: float
    beta: float
    gamma: float
    delta: float
    omega: float
    zeta: float
    E_start: float
    E_max: float

    equation = (
        "L = a E_hat^delta N^(alpha + gamma ln E_hat) + b E_hat^omega D^(beta + zeta ln E_hat) + c,"
        " 1/E_hat = 1/(M - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max, M experts"
    )
    source = "Ludziejewski et al. 2025"
    published = (35.91, 35.98, 1.364, -0.1889, -0.1775, 0.0098, -0.2285, 0.5529, -0.0259, 2.07, 290)
    inputs = ("params_active", "tokens", "n_experts")
    explained = ("arch", "architecture", "params_total")
    floor = "c"
    signed = ("alpha", "beta", "gamma", "delta", "omega", "zeta")

    def loss(self, *inputs: Any) -> Any:
        N, D, experts = inputs
        worth = np.log(effective_experts(experts, self.E_start, self.E_max))
        of_size = self.delta * worth + (self.alpha + self.gamma * worth) * np.log(N)
        of_tokens = self.omega * worth + (self.beta + self.zeta * worth) * np.log(D)
        return self.a * np.exp(of_size) + self.b * np.exp(of_tokens) + self.c

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Exponents from 0.05 to 0.6, by which experts change little at the middle of the runs."""
        N, D = (np.log(values).mean() for values in inputs[:2])
        raw_SK = unit_SK.copy()
        raw_SK[:, [3, 4]] = -0.05 * 12.0 ** unit_SK[:, [3, 4]]
        raw_SK[:, [5, 8]] = 0.06 * (unit_SK[:, [5, 8]] - 0.5)
        raw_SK[:, 6] = 0.3 * (unit_SK[:, 6] - 0.8) - raw_SK[:, 5] * N
        raw_SK[:, 7] = 0.6 * (unit_SK[:, 7] - 0.5) - raw_SK[:, 8] * D
        raw_SK[:, 9] = 1.0 + 10.0 ** (2 * unit_SK[:, 9] - 1.5)
        raw_SK[:, 10] = inputs[2].max() * 10.0 ** (2 * unit_SK[:, 10] - 0.5)
        return raw_SK

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(
            params_active=np.geomspace(3e6, 3e10, 5),
            tokens=np.geomspace(1e8, 1e12, 5),
            n_experts=(1.0, 2.0, 4.0, 16.0, 64.0, 512.0),
        )
