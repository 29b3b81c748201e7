"""A score that rises with size as a power law towards a ceiling."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import OneVariableLaw


@dataclass(frozen=True)
class Score(OneVariableLaw):
    """S(N) = top - A/N^alpha  (Henighan et al. 2020's law, of what is still missing).

    For accuracies and other scores of any scale; residuals are differences of scores."""

    top: float
    A: float
    alpha: float

    equation = "S = top - A/{x}^alpha"
    source = "Henighan et al. 2020, of the distance from the top"
    published = (0.82, 40.0, 0.31)
    exponents = ("alpha",)
    plain = True
    rises = True

    def loss(self, *inputs: Any) -> Any:
        (x,) = inputs
        return self.top - self.A * x**-self.alpha
