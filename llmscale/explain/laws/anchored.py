"""Loss in size and tokens for forecasts: a power law in compute along the best runs of every
budget, and next to it the shape that the loss has around the best."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Law


def best_size(log_A: Any, log_B: Any, alpha: Any, beta: Any, log_ND: Any) -> Any:
    """ln of the N of the least A/N^alpha + B/D^beta at each N D  (Hoffmann et al. 2022, eq. 4)."""
    return (np.log(alpha / beta) + log_A - log_B + beta * log_ND) / (alpha + beta)


@dataclass(frozen=True)
class Anchored(Law):
    """L(N, D) = (E + A/C^gamma) (1 + S(N, D)) / (1 + S_min(C)), C = 6ND.

    S = ((N_S/N)^alpha + (D_S/D)^beta)^k is the shape of `skaling` in units of its floor, and
    S_min(C) the least S of the budget: E + A/C^gamma is the loss of compute-optimal runs, and the
    rest is what a run loses off the optimum. Laws in N and D that are fitted to all runs alike give
    way at the best ones, which are those that get forecast."""

    E: float
    A: float
    gamma: float
    N_S: float
    D_S: float
    alpha: float
    beta: float
    k: float

    equation = (
        "L = (E + A/C^gamma) (1 + S(N, D))/(1 + S_min(C)), S = ((N_S/N)^alpha + (D_S/D)^beta)^k, "
        "S_min its least at C = 6ND"
    )
    source = "llmscale (2026): Hoffmann et al. 2022, approaches 1 and 3 in one"
    published = (1.6, 150.0, 0.12, 1.4e6, 2.4e7, 0.53, 0.51, 0.65)
    inputs = ("params", "tokens")
    floor = "E"
    exponents = ("gamma", "alpha", "beta")
    estimator = "anchor"
    told_by_runs = 5

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        C = 6.0 * N * D
        log_N, log_D = self._best(C)
        lack, least = self._lack(np.log(N), np.log(D)), self._lack(log_N, log_D)
        return (self.E + self.A / C**self.gamma) * (1.0 + lack) / (1.0 + least)

    def excess(self, N: Any, D: Any) -> Any:
        """ln of how far the loss lies above the best of its budget: 0 at the optimum."""
        log_N, log_D = self._best(6.0 * N * D)
        lack, least = self._lack(np.log(N), np.log(D)), self._lack(log_N, log_D)
        return np.log1p(lack) - np.log1p(least)

    def compute_optimal(self) -> dict[str, Any]:
        """Chinchilla's a = beta/(alpha + beta): the optimum is that of S."""
        share = np.divide(self.beta, np.add(self.alpha, self.beta))
        a = float(share) if np.ndim(share) == 0 else share
        return {"a": a, "b": 1.0 - a}

    def optimal(self, C: Any) -> tuple[Any, Any]:
        """N and D of the lowest loss at C = 6ND FLOPs  (Hoffmann et al. 2022, eq. 4)."""
        log_N, log_D = self._best(np.asarray(C, dtype=float))
        return np.exp(log_N), np.exp(log_D)

    def _best(self, C: Any) -> tuple[Any, Any]:
        """ln N and ln D of the least S at each C."""
        of_N, of_D = self.alpha * np.log(self.N_S), self.beta * np.log(self.D_S)
        log_ND = np.log(C / 6.0)
        log_N = best_size(of_N, of_D, self.alpha, self.beta, log_ND)
        return log_N, log_ND - log_N

    def _lack(self, log_N: Any, log_D: Any) -> Any:
        """S."""
        of_N = np.exp(self.alpha * (np.log(self.N_S) - log_N))
        of_D = np.exp(self.beta * (np.log(self.D_S) - log_D))
        return (of_N + of_D) ** self.k
