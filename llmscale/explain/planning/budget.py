"""What may be spent: FLOPs, however they were said."""

import math
from dataclasses import dataclass
from typing import Any

from llmscale.explain.planning.estimate import Estimate


@dataclass(frozen=True)
class Budget:
    """The FLOPs of a plan, with an interval if they follow from a `loss` to be reached."""

    flops: Estimate
    said: str
    loss: float | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether some compute is sure to be enough."""
        return not math.isinf(self.flops.high)

    def to_json(self) -> dict[str, Any]:
        return {"said": self.said, "flops": self.flops.to_json(), "loss": self.loss}
