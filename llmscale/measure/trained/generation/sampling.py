"""How the next token is drawn from what a model says of it."""

import torch
from torch import Tensor

from llmscale.measure.trained.generation.spec import Sampling


def next_probabilities(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities (B, V), float64, with which each token is drawn next.

    The temperature comes first, then the `top_k` likeliest, then of these, their probabilities
    summing to 1 again, the fewest likeliest with at least `top_p`. Greedy: 1 for the likeliest."""
    if sampling.is_greedy:
        found_BV = torch.zeros_like(logits_BV, dtype=torch.float64)
        return found_BV.scatter_(-1, logits_BV.argmax(dim=-1, keepdim=True), 1.0)
    candidates_BK = _candidates(logits_BV, sampling)
    if candidates_BK is None:
        return _chances(logits_BV, sampling)
    chances_BK = _chances(logits_BV.gather(-1, candidates_BK), sampling)
    found_BV = torch.zeros_like(logits_BV, dtype=torch.float64)
    return found_BV.scatter_(-1, candidates_BK, chances_BK)


def choose(logits_BV: Tensor, sampling: Sampling, uniform_B: Tensor) -> Tensor:
    """The next token (B,) of each row, drawn from `next_probabilities` by a number from 0 to 1."""
    if sampling.is_greedy:
        return logits_BV.argmax(dim=-1)
    candidates_BK = _candidates(logits_BV, sampling)
    if candidates_BK is None:
        return _draw(_chances(logits_BV, sampling), uniform_B)
    places_B = _draw(_chances(logits_BV.gather(-1, candidates_BK), sampling), uniform_B)
    return candidates_BK.gather(-1, places_B.unsqueeze(-1)).squeeze(-1)


def _candidates(logits_BV: Tensor, sampling: Sampling) -> Tensor | None:
    """The `top_k` likeliest tokens (B, K); None if that are all.

    They are in the order of their numbers: by likelihood, rounding could exchange two of them."""
    if sampling.top_k is None or sampling.top_k >= logits_BV.shape[-1]:
        return None
    return logits_BV.topk(sampling.top_k, dim=-1, sorted=False).indices.sort(dim=-1).values


def _chances(logits_BK: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities (B, K) of candidates after temperature and `top_p`."""
    # Less the largest: however low the temperature, nothing overflows.
    logits_BK = logits_BK.double() - logits_BK.amax(dim=-1, keepdim=True)
    chances_BK = (logits_BK / sampling.temperature).softmax(dim=-1)
    if sampling.top_p is None or sampling.top_p == 1:
        return chances_BK
    sorted_BK, order_BK = chances_BK.sort(dim=-1, descending=True, stable=True)
    before_BK = sorted_BK.cumsum(dim=-1) - sorted_BK
    sorted_BK = sorted_BK.masked_fill(before_BK >= sampling.top_p, 0)
    kept_BK = torch.zeros_like(chances_BK).scatter_(-1, order_BK, sorted_BK)
    return kept_BK / kept_BK.sum(dim=-1, keepdim=True)


def _draw(chances_BK: Tensor, uniform_B: Tensor) -> Tensor:
    """The place (B,) at which the sum of the chances passes each of `uniform_B`."""
    sums_BK = chances_BK.cumsum(dim=-1)
    # Of the sum that there is: rounding may leave it next to 1.
    passed_B1 = (uniform_B * sums_BK[:, -1]).unsqueeze(-1)
    return torch.searchsorted(sums_BK, passed_B1, right=True).squeeze(-1)
