"""The share of problems solved, whose logarithm is a power law."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import OneVariableLaw


@dataclass(frozen=True)
class PassRate(OneVariableLaw):
    """S(N) = exp(-A/N^alpha)  (OpenAI 2023, "GPT-4 Technical Report", section 3.2, in compute).

    From 0 to 1, the chance that a sample passes; residuals are differences of rates."""

    A: float
    alpha: float

    equation = "S = exp(-A/{x}^alpha)"
    source = "OpenAI 2023, section 3.2"
    published = (260.0, 0.28)
    exponents = ("alpha",)
    metric = "pass rate"
    plain = True
    rises = True
    most = 1.0

    def loss(self, *inputs: Any) -> Any:
        (x,) = inputs
        return np.exp(-self.A * x**-self.alpha)
