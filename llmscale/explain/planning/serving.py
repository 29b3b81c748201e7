"""The model that costs least over its life, training and serving together (Sardana et al. 2024)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import LossSurface
from llmscale.explain.search import lowest_above_wall

_LEAST_SHARE = 0.01
"""Of N*: no smaller model is looked at."""
_LEAST_TOKENS = 1.0
_NEVER = 1e300
"""FLOPs of a size that reaches the loss with no tokens: the search goes to larger ones."""


@dataclass(frozen=True)
class Serving:
    """The least 6 N D + 2 N D_inference at the loss of the compute-optimal run (Sardana et al.
    2024), D_inference being `served`: prompts and answers alike.

    `in_budget` are N and D of the lowest loss if the budget of the plan has to pay for serving,
    too; None if it cannot. `lifetime_flops` are those of training and serving, and `saved` the
    share of what the compute-optimal run takes for both that they save."""

    served: float
    params: Estimate
    tokens: Estimate
    lifetime_flops: float
    saved: Estimate
    in_budget: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "inference_tokens": self.served,
            "params": self.params.to_json(),
            "tokens": self.tokens.to_json(),
            "lifetime_flops": self.lifetime_flops,
            "saved": self.saved.to_json(),
            "in_budget": self.in_budget
            and dict(zip(("params", "tokens"), self.in_budget, strict=True)),
        }


def serving_of(judge: Judge, flops: float, served: float) -> Serving:
    """The run of least lifetime FLOPs that reaches the loss of the best run of a budget."""
    params, tokens, saved = judge.estimates(lambda surface: _cheapest(surface, flops, served))
    total = lifetime_flops(params.value, tokens.value, served)
    return Serving(served, params, tokens, total, saved, _in_budget(judge.surface, flops, served))


def lifetime_flops(N: Any, D: Any, served: float) -> Any:
    """6 N D to train and 2 N for each token served (Kaplan et al. 2020, section 2.1); those of
    attention, which depend on the shape, are in what `advise` says."""
    return N * (6.0 * D + 2.0 * served)


def _cheapest(surface: LossSurface, flops: float, served: float) -> tuple[Any, Any, Any]:
    """N and D of the least lifetime FLOPs at the lowest loss of a budget, and the share of those of
    the best run that they save."""
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
    need = tokens(share)
    spent = lifetime_flops(share * N, need, served) / lifetime_flops(N, D, served)
    return share * N, need, 1.0 - spent


def _in_budget(surface: LossSurface, flops: float, served: float) -> tuple[float, float] | None:
    """N and D of the lowest loss at 6 N D + 2 N D_inference = C."""

    def tokens(log_N: Any) -> Any:
        return (flops / np.exp(log_N) - 2.0 * served) / 6.0

    largest = np.log(flops / (2.0 * served + 6.0 * _LEAST_TOKENS))
    if largest <= 0:
        return None
    log_N = lowest(lambda log_N: surface.loss(np.exp(log_N), tokens(log_N)), 0.0, largest)
    return float(np.exp(log_N)), float(tokens(log_N))
