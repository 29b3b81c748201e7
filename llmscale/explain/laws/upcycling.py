"""Loss of a mixture of experts that a trained dense model was made into, in both trainings."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Upcycling(Law):
    """L(N, D_1, D_2) = A D_1^-alpha_1 D_2^(-alpha_2 + alpha_3 ln D_1) + B N^-beta + E  (Liew et al.
    2025, joint form).

    D_1 is the tokens of the dense training, `dense_tokens`, D_2 those after it, `tokens`; N is the
    size of the dense model. With alpha_3 > 0 the more the dense model has seen, the less the tokens
    after it bring. The coefficients here are of the paper's kind."""

    A: float
    B: float
    E: float
    alpha_1: float
    alpha_2: float
    alpha_3: float
    beta: float

    equation = "L = A D_1^-alpha_1 D_2^(-alpha_2 + alpha_3 ln D_1) + B N^-beta + E"
    source = "Liew et al. 2025"
    published = (60.0, 250.0, 1.6, 0.06, 0.22, 0.0052, 0.33)
    inputs = ("params", "dense_tokens", "tokens")
    explained = ("arch", "architecture")
    floor = "E"
    exponents = ("beta",)
    signed = ("alpha_1", "alpha_2", "alpha_3")

    def loss(self, *inputs: Any) -> Any:
        N, first, second = inputs
        log_first = np.log(first)
        rate = self.alpha_3 * log_first - self.alpha_2
        tokens = np.exp(rate * np.log(second) - self.alpha_1 * log_first)
        return self.A * tokens + self.B * N**-self.beta + self.E

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Any, loss: Array) -> Array:
        """Both trainings with exponents from 0 to 0.6 at the middle of the runs."""
        first, second = (float(np.log(values).mean()) for values in inputs[1:])
        raw_SK = 0.02 * 200.0**unit_SK
        raw_SK[:, 5] = 0.03 * (unit_SK[:, 5] - 0.3)
        raw_SK[:, 3] = 0.6 * unit_SK[:, 3] + raw_SK[:, 5] * second
        raw_SK[:, 4] = 0.6 * unit_SK[:, 4] + raw_SK[:, 5] * first
        return raw_SK

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(
            params=np.geomspace(1e7, 1e9, 4),
            dense_tokens=np.geomspace(1e9, 1e12, 5),
            tokens=np.geomspace(1e9, 1e12, 5),
        )
