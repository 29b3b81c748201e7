"""What makes a run a distillation: the trained model that it learns from (Hinton et al. 2015).

    (1 - w) · cross-entropy + w T² · KL(softmax(z_teacher / T) || softmax(z / T))

of each position, with the logits z; T² keeps the second term's gradient as large as the first's
(section 2). Only training sees it: the losses that a run shows are cross-entropies."""

import math
from dataclasses import dataclass, replace
from typing import Any

from llmscale.runs.checked import WrongValue, typed
from llmscale.runs.shape import Shape

FORWARD_SHARE = 1 / 3
"""FLOPs of a forward pass, as a share of training's."""


@dataclass(frozen=True)
class Distillation:
    """Part of a job, all of it in the run's id."""

    teacher: str
    """The run that teaches."""
    weights: str
    """The digest of its weights."""
    shape: Shape
    parametrization: str
    weight: float
    """w: 0 would be training without a teacher."""
    temperature: float
    """T: how soft both predictions are made."""

    def flops_per_token(self, context: int) -> float:
        """What the teacher computes for each token of a sequence: a forward pass."""
        return FORWARD_SHARE * replace(self.shape, context=context).flops_per_token


def read_distillation(payload: Any, where: str) -> Distillation:
    """From a JSON object. Raises WrongValue."""
    found: Distillation = typed(Distillation, payload, where)
    if not (0 < found.weight <= 1 and 0 < found.temperature < math.inf):
        raise WrongValue(f"{where} has weight {found.weight}, temperature {found.temperature}")
    return found
