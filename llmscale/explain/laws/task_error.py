"""Error on tasks in the loss of a model: the second of two steps from size and tokens to tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law


@dataclass(frozen=True)
class TaskError(Law):
    """Error(L) = epsilon - k exp(-gamma L)  (Gadre et al. 2024, eq. 5).

    L, the column `task_loss`, is the loss on a text; epsilon is the error of a model that knows
    nothing. Residuals are differences of errors."""

    epsilon: float
    k: float
    gamma: float

    equation = "S = epsilon - k exp(-gamma task_loss)"
    source = "Gadre et al. 2024, eq. 5"
    published = (0.85, 2.08, 0.756)
    inputs = ("task_loss",)
    metric = "error"
    plain = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"gamma": (0.02, 20.0)}

    def loss(self, *inputs: Any) -> Any:
        (loss,) = inputs
        return self.epsilon - self.k * np.exp(-self.gamma * loss)

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return {"task_loss": np.linspace(2.2, 4.2, 24)}

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Slopes that suit how far the losses lie apart."""
        raw_SK = super().guesses(unit_SK, inputs, loss)
        raw_SK[:, 2] /= float(np.ptp(inputs[0])) or 1.0
        return raw_SK
