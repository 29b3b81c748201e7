"""Loss in size and tokens of fine-tuning: pre-training is worth extra tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed
from llmscale.explain.laws.kaplan import Kaplan


@dataclass(frozen=True)
class Transfer(Law):
    """D_T = k D_F^alpha N^beta  (Hernandez et al. 2021, eq. 1.1), in L(N, D_E) of Kaplan et al.
    2020, eq. 1.5.

    D_F is the tokens of the target text, D_E = D_F + D_T for a pretrained model and D_F from
    scratch. The paper's law holds if D_F is small compared with what a model from scratch needs.
    From text to Python it finds k = 1.9e4, alpha = 0.18 and beta = 0.38, D in characters."""

    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float
    k: float
    alpha: float
    beta: float

    equation = (
        "L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D_E]^alpha_D, D_E = D + pretrained k D^alpha N^beta"
    )
    source = "Hernandez et al. 2021, eq. 1.1"
    published = (6.4e13, 1.8e13, 0.076, 0.103, 19000.0, 0.18, 0.38)
    inputs = ("params", "tokens", "pretrained")
    may_be_zero = ("pretrained",)
    stand_ins: ClassVar[Mapping[str, str]] = {"tokens": "task_tokens"}
    exponents = ("alpha_N", "alpha_D", "alpha", "beta")

    def loss(self, *inputs: Any) -> Any:
        N, D, pretrained = inputs
        effective = D + pretrained * self.k * D**self.alpha * N**self.beta
        return (
            (self.N_c / N) ** (self.alpha_N / self.alpha_D) + self.D_c / effective
        ) ** self.alpha_D

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Kaplan's law, and pre-training worth 0.1 to 1e4 times the tokens of the middle run."""
        N, D = (np.exp(np.log(values).mean()) for values in inputs[:2])
        worth, alpha, beta = unit_SK[:, 4:].T
        k = 0.1 * 1e5**worth * D ** (1.0 - alpha) / N**beta
        return np.column_stack([Kaplan.guesses(unit_SK[:, :4], inputs[:2], loss), k, alpha, beta])

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(
            params=np.geomspace(1e6, 1e9, 6),
            tokens=np.geomspace(1e5, 1e9, 5),
            pretrained=(0.0, 1.0),
        )
