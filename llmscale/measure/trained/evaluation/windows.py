"""A loss for each token of a text of any length: windows that move on by a stride.

Each window is `context` tokens of which the last `stride` are counted, the first counts all its
tokens: as in Hugging Face's guide to the perplexity of fixed-length models. Every token is counted
once, whatever the stride; the last window ends with the text, and reads more context if needed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from llmscale.measure.transformer import LanguageModel

_TOKENS_AT_A_TIME: Final = 8192
_LOGITS_AT_A_TIME: Final = 1 << 25
"""128 MiB of float32."""


@dataclass(frozen=True)
class Window:
    """Tokens `begin` to `end` of the targets are read, and those from `counted` on are counted."""

    begin: int
    counted: int
    end: int


def windows(targets: int, context: int, stride: int) -> list[Window]:
    """The windows over so many tokens to predict."""
    found = [Window(0, 0, min(context, targets))]
    while found[-1].end < targets:
        before = found[-1].end
        end = min(before + stride, targets)
        found.append(Window(end - context, before, end))
    return found


@torch.no_grad()
def token_losses(
    model: LanguageModel, tokens: np.ndarray, context: int, stride: int, device: str = "cpu"
) -> np.ndarray:
    """The cross-entropy in nats (float64) of each of `tokens` but the first, which is only
    context."""
    losses = np.empty(len(tokens) - 1)
    planned = windows(len(losses), context, stride)
    at_a_time = windows_at_a_time(context, model.shape.vocab_size)
    for first in range(0, len(planned), at_a_time):
        part = planned[first : first + at_a_time]
        cut = np.stack([tokens[one.begin : one.end + 1] for one in part]).astype(np.int64)
        read_BT = torch.from_numpy(cut).to(device)
        inputs_BT, targets_BT = read_BT[:, :-1].contiguous(), read_BT[:, 1:].contiguous()
        each = torch.full((len(part),), 1 / len(part), device=device)
        losses_BT = model.losses(inputs_BT, targets_BT, each)[1].double().cpu().numpy()
        for window, row in zip(part, losses_BT, strict=True):
            losses[window.counted : window.end] = row[window.counted - window.begin :]
    return losses


def windows_at_a_time(context: int, vocab_size: int) -> int:
    """How many sequences are computed together, so that their logits fit in memory."""
    tokens = min(_TOKENS_AT_A_TIME, _LOGITS_AT_A_TIME // vocab_size)
    return max(1, tokens // context)
