"""Validation loss: the same tokens for every run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmscale.train.batches import read_windows


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats per token, and its standard error over sequences."""

    loss: float
    stderr: float

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(min(self.loss, 700.0))


@torch.no_grad()
def evaluate(
    losses_BT: Callable[[Tensor, Tensor], Tensor], tokens: np.ndarray, context: int, sequences: int, device: str
) -> Evaluation:
    """Mean of `losses_BT(inputs, targets)` over all whole windows of `tokens`, `sequences` at a time."""
    starts = list(range(0, len(tokens) - context, context))
    count = len(starts)
    starts += starts[:1] * (-count % sequences)  # every pass has the same shape
    means: list[Tensor] = []
    for first in range(0, len(starts), sequences):
        inputs, targets = read_windows(tokens, starts[first : first + sequences], context)
        losses = losses_BT(inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True))
        means.append(losses.mean(dim=1).double())
    by_sequence = torch.cat(means)[:count]
    spread = float(by_sequence.std()) if len(by_sequence) > 1 else 0.0
    return Evaluation(float(by_sequence.mean()), spread / math.sqrt(len(by_sequence)))


def bits_per_byte(loss: float, tokens: int, utf8_bytes: int) -> float:
    """loss · tokens / (bytes · ln 2), which compares models with different tokenizers."""
    return loss * tokens / (utf8_bytes * math.log(2))
