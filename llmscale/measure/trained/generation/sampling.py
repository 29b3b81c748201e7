"""How the next token is drawn from what a model says of it."""

import torch
from torch import Tensor

from llmscale.measure.trained.generation.spec import Sampling


def next_probabilities(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities (B, V), float64, with which each token is drawn next.

    The temperature comes first, then the `top_k` likeliest, then of these, their probabilities
    summing to 1 again, the fewest likeliest with at least `top_p`. Greedy: 1 for the likeliest."""
    logits_BV = logits_BV.double()
    if sampling.is_greedy:
        likeliest_B = logits_BV.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits_BV).scatter_(-1, likeliest_B, 1.0)
    # Less the largest: however low the temperature, nothing overflows.
    logits_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits_BV.shape[-1]:
        kept_BK = logits_BV.topk(sampling.top_k, dim=-1)
        left_out_BV = torch.full_like(logits_BV, -torch.inf)
        logits_BV = left_out_BV.scatter_(-1, kept_BK.indices, kept_BK.values)
    chances_BV = logits_BV.softmax(dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        chances_BV = _nucleus(chances_BV, sampling.top_p)
    return chances_BV


def draw(chances_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The token (B,) at which the sum of the chances passes each of `uniform_B`, from 0 to 1."""
    sums_BV = chances_BV.cumsum(dim=-1)
    # Of the sum that there is: rounding may leave it next to 1.
    passed_B1 = (uniform_B * sums_BV[:, -1]).unsqueeze(-1)
    return torch.searchsorted(sums_BV, passed_B1, right=True).squeeze(-1)


def _nucleus(chances_BV: Tensor, top_p: float) -> Tensor:
    """The fewest likeliest whose sum is `top_p` at least, their probabilities summing to 1."""
    sorted_BV, order_BV = chances_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
    sorted_BV[before_BV >= top_p] = 0
    kept_BV = torch.zeros_like(chances_BV).scatter_(-1, order_BV, sorted_BV)
    return kept_BV / kept_BV.sum(dim=-1, keepdim=True)
