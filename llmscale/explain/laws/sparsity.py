"""Loss of models most of whose weights are zero: sparsity, non-zero weights, tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Sparsity(Law):
    """L(S, N, D) = (a_S (1-S)^b_S + c_S) N^-b_N + (a_D/D)^b_D + c  (Frantar et al. 2024).

    N counts the weights that are not zero, or that work on a token, and 1 - S is their share of all
    weights. At equal N, sparser is better, down to c_S."""

    a_S: float
    b_S: float
    c_S: float
    b_N: float
    a_D: float
    b_D: float
    c: float

    equation = "L = (a_S (1-S)^b_S + c_S)/N^b_N + (a_D/D)^b_D + c, S sparsity"
    source = "Frantar et al. 2024"
    published = (16.8, 0.722, 45.0, 0.245, 6.9e8, 0.203, 0.651)
    inputs = ("sparsity", "params", "tokens")
    may_be_zero = ("sparsity",)
    explained = ("arch", "architecture")
    floor = "c"
    exponents = ("b_S", "b_N", "b_D")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"a_D": (1e3, 1e12)}

    def loss(self, *inputs: Any) -> Any:
        sparsity, N, D = inputs
        density = np.log1p(-sparsity)
        of_size = (self.a_S * np.exp(self.b_S * density) + self.c_S) * N**-self.b_N
        return of_size + np.exp(self.b_D * (np.log(self.a_D) - np.log(D))) + self.c

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(
            sparsity=(0.0, 0.5, 0.75, 0.875),
            params=np.geomspace(1e6, 1e9, 5),
            tokens=np.geomspace(1e9, 1e11, 4),
        )
