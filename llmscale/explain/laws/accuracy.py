"""A score that rises from chance to a ceiling, a sigmoid in the logarithm of size or compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, OneVariableLaw


@dataclass(frozen=True)
class Accuracy(OneVariableLaw):
    """S(N) = low + gain/(1 + (m/N)^k)  (Owen 2024; Ruan et al. 2024, eq. 2,
    in compute).

    low is what chance gives, low + gain the ceiling, m the size halfway. Residuals are differences
    of scores."""

    low: float
    gain: float
    m: float
    k: float

    equation = "S = low + gain/(1 + (m/{x})^k)"
    source = "Owen 2024; Ruan et al. 2024"
    published = (0.25, 0.55, 2e8, 0.9)
    metric = "accuracy"
    plain = True
    rises = True
    most = 1.0

    def loss(self, *inputs: Any) -> Any:
        (x,) = inputs
        steps = self.k * (np.log(x) - np.log(self.m))
        return self.low + self.gain * (0.5 + 0.5 * np.tanh(0.5 * steps))

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Halfway among the runs or up to ten times beyond, between a nearly straight line and a
        step."""
        low, high = inputs[0].min(), inputs[0].max()
        raw_SK = np.abs(unit_SK)
        raw_SK[:, 2] = low * (10.0 * high / low) ** unit_SK[:, 2]
        raw_SK[:, 3] = 0.05 * 100.0 ** unit_SK[:, 3]
        return raw_SK
