"""The model that costs least over its life, training and serving together (Sardana et al. 2024)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.choice import Judge
from llmscale.explain.planning.estimate import Estimate, estimated
from llmscale.explain.planning.search import lowest
from llmscale.explain.planning.surface import LossSurface

_LEAST_SHARE = 0.01
"""Of N*: no smaller model is looked at."""
_NEVER = 1e300
"""FLOPs of a size that reaches the loss with no tokens: the search goes to larger ones."""


@dataclass(frozen=True)
class Serving:
    """The least 6 N D + 2 N D_inference at the loss of the compute-optimal run (Sardana et al.
    2024, eq. 3), D_inference being `served`: prompts and answers alike.

    `lifetime_flops` are those of training and serving, and `saved` the share of what the
    compute-optimal run takes for both that they save."""

    served: float
    params: Estimate
    tokens: Estimate
    lifetime_flops: float
    saved: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "inference_tokens": self.served,
            "params": self.params.to_json(),
            "tokens": self.tokens.to_json(),
            "lifetime_flops": self.lifetime_flops,
            "saved": self.saved.to_json(),
        }


def serving_of(judge: Judge, flops: float, served: float) -> Serving:
    """The run of least lifetime FLOPs that reaches the loss of the best run of a budget."""
    asked = (judge.fit, judge.unique, judge.level)
    params = estimated(*asked, lambda surface: _cheapest(surface, flops, served)[0])
    tokens = estimated(*asked, lambda surface: _cheapest(surface, flops, served)[1])
    saved = estimated(*asked, lambda surface: _saved(surface, flops, served))
    total = lifetime_flops(params.value, tokens.value, served)
    return Serving(served, params, tokens, total, saved)


def lifetime_flops(N: Any, D: Any, served: float) -> Any:
    """6 N D to train and 2 N for each token served (Kaplan et al. 2020, section 2.1)."""
    return N * (6.0 * D + 2.0 * served)


def _cheapest(surface: LossSurface, flops: float, served: float) -> tuple[Any, Any]:
    """N and D of the least lifetime FLOPs at the lowest loss of a budget."""
    N, D = surface.best(flops)
    loss = surface.loss(N, D)

    def tokens(share: Any) -> Any:
        # At most the compute-optimal size: a larger one costs more both to train and to serve.
        return surface.tokens_for(share * N, loss, D)

    def total(log_share: Any) -> Any:
        share = np.exp(log_share)
        need = tokens(share)
        cost = lifetime_flops(share * N, need, served)
        return np.where(np.isfinite(need), cost, _NEVER / share)

    shape = np.shape(np.atleast_2d(N))
    share = np.exp(lowest(total, np.full(shape, np.log(_LEAST_SHARE)), np.zeros(shape)))
    return share * N, tokens(share)


def _saved(surface: LossSurface, flops: float, served: float) -> Any:
    best = lifetime_flops(*surface.best(flops), served)
    return 1.0 - lifetime_flops(*_cheapest(surface, flops, served), served) / best
