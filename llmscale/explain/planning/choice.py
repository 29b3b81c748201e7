"""One run that may be trained, with the loss to expect of it."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.planning.cost import Cost
from llmscale.explain.planning.estimate import Estimate


@dataclass(frozen=True)
class Run:
    """A run to be judged; without `flops` it takes C = 6ND."""

    name: str
    params: float
    tokens: float
    flops: float | None = None


@dataclass(frozen=True)
class Choice:
    """A run that may be trained. The interval of its loss is where a new run would fall."""

    name: str
    params: float
    tokens: float
    flops: float
    loss: Estimate
    cost: Cost | None = None

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "params": self.params,
            "tokens": self.tokens,
            "tokens_per_param": self.tokens_per_param,
            "flops": self.flops,
            "loss": self.loss.value,
            "interval": self.loss.to_json()["interval"],
            "cost": self.cost and self.cost.to_json(),
        }
