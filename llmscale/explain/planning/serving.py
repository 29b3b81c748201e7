"""The model that costs least over its life, training and serving together (Sardana et al. 2024)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import MOST_TIMES, LossSurface
from llmscale.explain.search import lowest, lowest_above_wall

LEAST_SHARE = 0.01
"""Of N*: no smaller model is looked at."""
_NEXT_TO = 1.01
"""An answer next to where the search ended is not where the cost is lowest."""
_LEAST_COUNT = 10.0
"""Parameters, and tokens: no model has fewer."""
_NEVER = 1e300
"""FLOPs of a size that reaches the loss with no tokens: the search goes to larger ones."""


@dataclass(frozen=True)
class Serving:
    """The least 6 N D + 2 N D_inference at the loss of the compute-optimal run (Sardana et al.
    2024), D_inference being `served`: prompts and answers alike.

    `in_budget` are N and D of the lowest loss if the budget of the plan has to pay for serving,
    too; None if it cannot. `lifetime_flops` are those of training and serving, and `saved` the
    share of what the compute-optimal run takes for both that they save. `share` is N as a share of
    that of the compute-optimal run. `ended` says of which an answer lies where the search ended:
    the `size` or the `tokens`, an end of their `interval`, or nothing."""

    served: float
    share: Estimate
    params: Estimate
    tokens: Estimate
    lifetime_flops: float
    saved: Estimate
    ended: str = ""
    in_budget: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "inference_tokens": self.served,
            "share_of_params": self.share.to_json(),
            "searched": {"least_share": LEAST_SHARE, "most_times_tokens": MOST_TIMES},
            "search_ended_at": self.ended or None,
            "params": self.params.to_json(),
            "tokens": self.tokens.to_json(),
            "lifetime_flops": self.lifetime_flops,
            "saved": self.saved.to_json(),
            "in_budget": self.in_budget
            and dict(zip(("params", "tokens"), self.in_budget, strict=True)),
        }


def serving_of(judge: Judge, flops: float, served: float) -> Serving:
    """The run of least lifetime FLOPs that reaches the loss of the best run of a budget."""
    share, params, tokens, saved = judge.estimates(
        lambda surface: _cheapest(surface, flops, served)
    )
    total = lifetime_flops(params.value, tokens.value, served)
    most = MOST_TIMES * float(judge.surface.best(flops)[1])
    return Serving(
        served=served,
        share=share,
        params=params,
        tokens=tokens,
        lifetime_flops=total,
        saved=saved,
        ended=_ended(share, tokens, most),
        in_budget=_in_budget(judge.surface, flops, served),
    )


def _ended(share: Estimate, tokens: Estimate, most: float) -> str:
    """What of an answer lies where the search ended."""
    if share.value <= _NEXT_TO * LEAST_SHARE:
        return "size"
    if tokens.value >= most / _NEXT_TO:
        return "tokens"
    if share.low <= _NEXT_TO * LEAST_SHARE or tokens.high >= most / _NEXT_TO:
        return "interval"
    return ""


def lifetime_flops(N: Any, D: Any, served: float) -> Any:
    """6 N D to train and 2 N for each token served (Kaplan et al. 2020, section 2.1); those of
    attention, which depend on the shape, are in what `advise` says."""
    return N * (6.0 * D + 2.0 * served)


def _cheapest(surface: LossSurface, flops: float, served: float) -> tuple[Any, Any, Any, Any]:
    """The share of N*, N and D of the least lifetime FLOPs at the lowest loss of a budget, and the
    share of those of the best run that they save."""
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

    low_B1 = np.full(np.shape(np.atleast_2d(N)), np.log(LEAST_SHARE))
    share = np.exp(lowest_above_wall(total, low_B1, np.zeros_like(low_B1)))
    need = tokens(share)
    spent = lifetime_flops(share * N, need, served) / lifetime_flops(N, D, served)
    # If the text is used up, no smaller model reaches the loss: it is the best run itself.
    saves, one = spent < 1.0, N / N  # NaN of a refit without a best run
    share, need = np.where(saves, share, one), np.where(saves, need, D)
    return share, share * N, need, np.where(saves, 1.0 - spent, 0.0 * one)


def _in_budget(surface: LossSurface, flops: float, served: float) -> tuple[float, float] | None:
    """N and D of the lowest loss at 6 N D + 2 N D_inference = C; None if no model is so small."""

    def tokens(log_N: Any) -> Any:
        return (flops / np.exp(log_N) - 2.0 * served) / 6.0

    least, largest = np.log(_LEAST_COUNT), np.log(flops / (2.0 * served + 6.0 * _LEAST_COUNT))
    if largest <= least:
        return None
    log_N = lowest(lambda log_N: surface.loss(np.exp(log_N), tokens(log_N)), least, largest)
    return float(np.exp(log_N)), float(tokens(log_N))
