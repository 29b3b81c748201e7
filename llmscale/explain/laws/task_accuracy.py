"""Accuracy on a task in the loss of its answers: the second of two steps from size and tokens to a
task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law


@dataclass(frozen=True)
class TaskAccuracy(Law):
    """Acc(L) = b + a/(1 + exp(k (L - L_0)))  (Bhagia et al. 2024, eq. 2, with -k for
    k, so that k > 0).

    L, the column `task_loss`, is the loss of the right answers; b is what chance gives, a + b the
    ceiling. Residuals are differences of accuracies."""

    a: float
    b: float
    k: float
    L_0: float

    equation = "S = b + a/(1 + exp(k (task_loss - L_0)))"
    source = "Bhagia et al. 2024, eq. 2"
    published = (0.7, 0.25, 5.0, 0.9)
    inputs = ("task_loss",)
    metric = "accuracy"
    plain = True

    def loss(self, *inputs: Any) -> Any:
        (loss,) = inputs
        return self.b + self.a * (0.5 - 0.5 * np.tanh(0.5 * self.k * (loss - self.L_0)))

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return {"task_loss": np.linspace(0.4, 1.6, 24)}

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Halfway among the losses or a little below, between a nearly straight line and a step."""
        low, whole = float(inputs[0].min()), float(np.ptp(inputs[0])) or 1.0
        raw_SK = np.abs(unit_SK)
        raw_SK[:, 2] = 0.5 * 100.0 ** unit_SK[:, 2] / whole
        raw_SK[:, 3] = np.maximum(low + whole * (1.5 * unit_SK[:, 3] - 0.5), 0.01 * low)
        return raw_SK
