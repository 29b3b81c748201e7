"""Loss in size, tokens and unique tokens: repeated tokens and excess parameters lose their worth
exponentially.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class DataConstrained(Law):
    """L(N, D, U) = E + A/N'^alpha + B/D'^beta  (Muennighoff et al. 2023).

    D' = U_D + U_D R_D_star (1 - exp(-R_D/R_D_star)) with the repetitions R_D = D/U_D - 1, and N'
    alike from U_N, the size that U_D unique tokens are compute-optimal for, with R_N = N/U_N - 1.
    R_D_star is after how many repetitions new passes are worth 1/e of new text."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    R_D_star: float
    R_N_star: float

    equation = (
        "L = E + A/N'^alpha + B/D'^beta, D' = U_D (1 + R_D_star (1 - exp(-R_D/R_D_star))), N' "
        "alike with R_N_star"
    )
    source = "Muennighoff et al. 2023"
    published = (1.869, 521.0, 1487.0, 0.3527, 0.3527, 15.39, 5.31)
    inputs = ("params", "tokens", "unique_tokens")
    floor = "E"
    exponents = ("alpha", "beta")

    def loss(self, *inputs: Any) -> Any:
        N, D, unique = inputs
        U_D = np.minimum(unique, D)
        # N = G (C/6)^a and D = (C/6)^b / G are optimal together, so U_N = (U_D G)^(beta/alpha) G;
        # in logarithms.
        G = (np.log(self.alpha * self.A) - np.log(self.beta * self.B)) / (self.alpha + self.beta)
        U_N = np.minimum(N, np.exp((np.log(U_D) + G) * (self.beta / self.alpha) + G))
        return (
            self.E
            + self.A / _worth(U_N, N / U_N - 1.0, self.R_N_star) ** self.alpha
            + self.B / _worth(U_D, D / U_D - 1.0, self.R_D_star) ** self.beta
        )

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Terms that are plausible shares of the middle run's loss, and 0.5 to 50 repetitions."""
        N, D, L = (np.exp(np.log(values).mean()) for values in (*inputs[:2], loss))
        raw_SK = np.empty_like(unit_SK)
        raw_SK[:, 0] = L * unit_SK[:, 0]
        raw_SK[:, [3, 4]] = 0.1 * 10.0 ** unit_SK[:, [3, 4]]
        raw_SK[:, 1] = 0.5 * L * unit_SK[:, 1] * N ** raw_SK[:, 3]
        raw_SK[:, 2] = 0.5 * L * unit_SK[:, 2] * D ** raw_SK[:, 4]
        raw_SK[:, [5, 6]] = 0.5 * 100.0 ** unit_SK[:, [5, 6]]
        return raw_SK

    def compute_optimal(self) -> dict[str, Any]:
        """Chinchilla's exponents, which hold while no token is seen twice."""
        return {
            "a": self.beta / (self.alpha + self.beta),
            "b": self.alpha / (self.alpha + self.beta),
        }

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(
            unique_tokens=(1e8, 4e8, 1.5e9, 4e9),
            epochs=(1.0, 4.0, 15.0, 60.0),
            params=(7e6, 7e7, 7e8, 7e9),
        )
        tokens = runs["unique_tokens"] * runs.pop("epochs")
        return {**runs, "tokens": tokens}


def _worth(unique: Any, repetitions: Any, scale: Any) -> Any:
    """What `unique` and its repetitions together are worth, in unique ones."""
    return unique * (1.0 - scale * np.expm1(-repetitions / scale))
