"""The law of loss curves with a term for the size, so that the curves of a whole ladder are fitted
at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class CurveSize(Law):
    """L(s, N) = L0 + A S1^-alpha + B N^-beta - C S2  (Tissue et al. 2024, eq. 1, with a term for
    the size).

    S1 is the sum of learning rates up to step s, S2 the annealing area:
    `llmscale.explain.curve_table` computes both."""

    L0: float
    A: float
    B: float
    C: float
    alpha: float
    beta: float

    equation = "L = L0 + A/S1^alpha + B/N^beta - C S2"
    source = "Tissue et al. 2024, with a term for the size"
    published = (1.9, 0.45, 90.0, 0.6, 0.5, 0.28)
    inputs = ("lr_area", "annealing_area", "params")
    may_be_zero = ("annealing_area",)
    floor = "L0"
    exponents = ("alpha", "beta")

    def loss(self, *inputs: Any) -> Any:
        S1, S2, N = inputs
        return self.L0 + self.A / S1**self.alpha + self.B / N**self.beta - self.C * S2

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(
            params=np.geomspace(1e6, 1e9, 4),
            lr_area=np.geomspace(0.5, 20.0, 5),
            annealing_area=(0.0, 0.2, 0.5),
        )
        return {**runs, "tokens": 1e6 * runs["lr_area"]}
