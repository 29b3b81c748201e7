"""Loss of routed models in the size of the dense model and the number of experts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed
from llmscale.explain.laws._experts import effective_experts


@dataclass(frozen=True)
class Routed(Law):
    """log L = a log N + b log E_hat + c log N log E_hat + d, base 10  (Clark et al. 2022).

    N is the size of the dense model, M its number of experts (1 for the model itself); E_hat is M
    between E_start and E_max. Written so that the dense model has N^a 10^d."""

    a: float
    b: float
    c: float
    d: float
    E_start: float
    E_max: float

    equation = (
        "L = 10^(a log10 N + b log10 E_hat + c log10 N log10 E_hat + d), "
        "1/E_hat = 1/(M - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max, M experts"
    )
    source = "Clark et al. 2022"
    published = (-0.082, -0.108, 0.009, 1.104, 1.847, 314.478)
    inputs = ("params", "n_experts")
    explained = ("arch", "architecture", "params_total", "params_active")
    signed = ("a", "b", "c", "d")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "a": (-0.5, 0.0),
        "b": (-0.5, 0.2),
        "c": (-0.05, 0.05),
        "d": (0.3, 3.0),
    }

    def loss(self, *inputs: Any) -> Any:
        N, experts = inputs
        log_N = np.log10(N)
        worth = np.log10(effective_experts(experts, self.E_start, self.E_max))
        exponent = self.a * log_N + (self.b + self.c * log_N) * worth + self.d
        return np.exp(np.log(10.0) * exponent)

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Slopes of the paper's size about the middle of the runs; experts that saturate late."""
        raw_SK = super().guesses(unit_SK, inputs, loss)
        middle, level = np.log10(inputs[0]).mean(), np.log10(loss).mean()
        raw_SK[:, 1] -= raw_SK[:, 2] * middle
        raw_SK[:, 3] = level - raw_SK[:, 0] * middle
        raw_SK[:, 4] = 1.0 + 10.0 ** (2 * unit_SK[:, 4] - 1.5)
        raw_SK[:, 5] = inputs[1].max() * 10.0 ** (3 * unit_SK[:, 5] - 0.5)
        return raw_SK

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(
            params=np.geomspace(1.5e7, 1.3e9, 6), n_experts=(1.0, 2.0, 4.0, 8.0, 32.0, 128.0, 512.0)
        )
