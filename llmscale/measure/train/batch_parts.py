"""Parts of a batch: how large they are, and how they are cut and put together again."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from llmscale.runs.shape import Shape

PART_TOKENS, PART_FLOPS = 2048, 5e9
"""Tokens and FLOPs (about 0.03 s) from which on a part of a batch is worth a thread."""
Part = tuple[Tensor, Tensor, Tensor]
"""Inputs and targets, both (B, T), and the weight of each sequence, (B,), or token, (B, T)."""


def part_sequences(shape: Shape) -> int:
    """Sequences of a thread's part, a power of two: PART_TOKENS and PART_FLOPS at least."""
    sequences = max(PART_TOKENS, PART_FLOPS / shape.flops_per_token) / shape.context
    return int(2 ** max(0, math.ceil(math.log2(sequences))))


def mean_loss(weights_B: Tensor, losses_BT: Tensor) -> Tensor:
    """sum_b weights_b · mean_t loss, or sum_bt weights_bt · loss; of a stack, each member's."""
    if weights_B.dim() > 1:
        return (weights_B * losses_BT).sum(dim=(0, -1))
    return torch.tensordot(weights_B, losses_BT.mean(dim=-1), dims=1)


def sequence_means(losses_BT: Tensor, weights_B: Tensor) -> Tensor:
    """The mean loss of each sequence, of its tokens that have a weight if each has one, float64."""
    if weights_B.dim() == 1:
        return losses_BT.mean(dim=-1, dtype=torch.float64)
    counts_BT = weights_B > 0
    sums_B = (losses_BT * counts_BT).sum(dim=-1, dtype=torch.float64)
    return sums_B / counts_BT.sum(dim=-1).clamp(min=1)


def filled_up(x: Tensor, count: int) -> Tensor:
    """`x` with zeros to `count` rows, contiguous: compiled code is of one layout."""
    if missing := count - len(x):
        x = torch.cat((x, x.new_zeros(missing, *x.shape[1:])))
    return x.contiguous()


def halves(parts: Sequence[Part]) -> tuple[Sequence[Part], Sequence[Part]]:
    """The first of several parts, the largest power of two below their number, and the others."""
    half = int(2 ** ((len(parts) - 1).bit_length() - 1))
    return parts[:half], parts[half:]
