"""Loss in size and tokens where the gain from tokens depends on the size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, Surface
from llmscale.explain.laws._farseer import FarseerSurface


@dataclass(frozen=True)
class Farseer(Law):
    """L(N, D) = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1)  (Li et al.
    2025, eq. 3).

    Every coefficient may have either sign. Tokens must be counted one by one: unlike in the other
    laws, no change of coefficients makes up for another unit of D."""

    a1: float
    b1: float
    alpha: float
    a2: float
    b2: float
    beta: float
    a3: float
    b3: float
    gamma: float

    equation = "L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1)"
    source = "Li et al. 2025, eq. 3"
    published = (-0.124, 0.424, 0.123, 88.01, -6.287, -0.1, -0.021, -0.091, 0.169)
    inputs = ("params", "tokens")
    signed = ("a1", "b1", "alpha", "a2", "b2", "beta", "a3", "b3", "gamma")

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        exponent = np.exp(self.a1 * N**self.alpha + self.b1)
        amplitude = np.exp(self.a2 * N**self.beta + self.b2)
        return np.exp(self.a3 * N**self.gamma + self.b3) + amplitude * np.exp(-exponent * np.log(D))

    @classmethod
    def surface(cls, inputs: Sequence[Array], loss: Array, **settings: Any) -> Surface:
        return FarseerSurface(inputs, loss)
