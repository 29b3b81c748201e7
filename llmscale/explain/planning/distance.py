"""How far the nearest shape that can be built is from the best size, and what that costs."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import LossSurface

_TOLD_FROM = 1.05
"""Times the best size, or less by as much: built-in shapes lie closer unless heads are shared."""


@dataclass(frozen=True)
class Distance:
    """A shape has so many `times` the best size, which costs so much loss at equal C = 6ND."""

    times: float
    costs: Estimate

    @property
    def is_told(self) -> bool:
        """Whether the shape is far enough from the best size that a reader should know."""
        return max(self.times, 1.0 / self.times) > _TOLD_FROM

    def said(self, metric: str) -> str:
        """`12% larger than the best size, which costs 0.0031 of loss`; empty if it is near."""
        if not self.is_told:
            return ""
        larger = self.times > 1.0
        by = f"{self.times:.3g} times" if self.times > 2 else f"{abs(self.times - 1.0):.0%}"
        than = "" if self.times > 2 else " larger than" if larger else " smaller than"
        return f"{by}{than} the best size, which costs {self.costs.written(_short)} of {metric}"

    def to_json(self) -> dict[str, Any]:
        return {"times_best_size": self.times, "costs": self.costs.to_json()}


def _short(value: float) -> str:
    return f"{value:.2g}"


def distance_of(judge: Judge, own: float, best: float, flops: float) -> Distance:
    """That of a size from the best one of a budget."""

    def above(surface: LossSurface) -> Any:
        return surface.loss(own, flops / (6.0 * own)) - surface.loss(best, flops / (6.0 * best))

    return Distance(own / best, judge.estimate(above))
