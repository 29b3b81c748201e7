"""Loss of mixtures of experts in total size, tokens, and the share of parameters that work on a
token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Moe(Law):
    """L(N, D, S) = e + a/N^alpha + b/D^beta + c/(1-S)^lam + d/((1-S)^delta N^gamma)  (Abnar et al.
    2025, eq. 6).

    N counts all parameters, and 1 - S = active/total. The paper finds lam < 0: at equal N, sparser
    is better by the fourth term and worse by the fifth."""

    e: float
    a: float
    b: float
    c: float
    d: float
    alpha: float
    beta: float
    lam: float
    delta: float
    gamma: float

    equation = (
        "L = e + a/N^alpha + b/D^beta + c/(1-S)^lam + d/((1-S)^delta N^gamma), 1-S = active/total"
    )
    source = "Abnar et al. 2025, eq. 6"
    published = (0.94, 16612.5, 5455.67, 0.4598, 17.26, 0.5962, 0.3954, -0.1666, 0.1603, 0.1595)
    inputs = ("params_total", "params_active", "tokens")
    explained = ("arch", "architecture")
    floor = "e"
    exponents = ("alpha", "beta", "lam", "delta", "gamma")
    signed = ("lam",)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.05, 2.0),
        "beta": (0.05, 2.0),
        "lam": (-1.0, 1.0),
        "delta": (0.02, 1.0),
        "gamma": (0.02, 1.0),
    }

    def loss(self, *inputs: Any) -> Any:
        N, active, D = inputs
        share = active / N
        return (
            self.e
            + self.a / N**self.alpha
            + self.b / D**self.beta
            + self.c * share**-self.lam
            + self.d * share**-self.delta / N**self.gamma
        )

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(
            params_total=np.geomspace(1e8, 3e10, 5),
            sparsity=(0.0, 0.5, 0.9, 0.98),
            tokens=np.geomspace(2e9, 2e11, 3),
        )
        active = runs["params_total"] * (1 - runs.pop("sparsity"))
        return {**runs, "params_active": active, "params": active}
