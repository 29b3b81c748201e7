"""When more compute is worth next to nothing: the text is used up, or the size may not grow."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import LossSurface
from llmscale.explain.search import crossing
from llmscale.quantity import MOST

_ENDLESS = float(MOST) / 100.0
"""FLOPs beyond which nothing is left to gain of any text."""


@dataclass(frozen=True)
class Enough:
    """No compute gets below `least_loss`, and beyond `flops` (`tokens` in the best run) all compute
    that there is gains less than a share `within` of it."""

    within: float
    least_loss: Estimate
    flops: float
    tokens: float

    def to_json(self) -> dict[str, Any]:
        return {
            "within": self.within,
            "least_loss": self.least_loss.to_json(),
            "enough_flops": self.flops,
            "enough_tokens": self.tokens,
        }


def enough_of(judge: Judge, within: float, most_params: float = math.inf) -> Enough:
    """How much compute is enough on the text of a judge, with so many parameters at the most."""

    def loss(surface: LossSurface, C: Any) -> Any:
        return surface.loss(*_best(surface, C, most_params))

    least = judge.estimate(lambda surface: loss(surface, _ENDLESS))
    allowed = least.value + within * abs(least.value)

    def above(log_C: Any) -> Any:
        return loss(judge.surface, np.exp(log_C)) - allowed

    flops = float(np.exp(crossing(above, np.log(6.0), np.log(_ENDLESS))))
    tokens = float(_best(judge.surface, flops, most_params)[1])
    return Enough(within, least, flops, tokens)


def _best(surface: LossSurface, C: Any, most_params: float) -> tuple[Any, Any]:
    """N and D of the lowest loss: left of the valley's lowest point larger is better."""
    N, D = surface.best(C)
    held = np.minimum(N, most_params)
    return held, D * (N / held)
