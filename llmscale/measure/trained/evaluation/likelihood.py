"""How likely a model finds what follows a beginning: many at once, the longest first."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llmscale.measure.trained.evaluation.windows import windows_at_a_time
from llmscale.measure.trained.model import TrainedModel


@dataclass(frozen=True)
class Continuation:
    """Tokens that follow others, of which there is at least one."""

    before: Sequence[int]
    tokens: Sequence[int]


@dataclass(frozen=True)
class Likelihood:
    """ln of the probability of a continuation, in nats."""

    log_probability: float
    is_greedy: bool
    """Whether each of its tokens is the likeliest one."""
    cut: bool = False
    """Whether what stands before it did not fit, and lost its beginning."""


@torch.no_grad()
def likelihoods(trained: TrainedModel, asked: Sequence[Continuation]) -> list[Likelihood]:
    """The likelihood of each continuation, of which no more than `context` tokens are read."""
    order = sorted(range(len(asked)), key=lambda place: -_length(asked[place]))
    found: dict[int, Likelihood] = {}
    first = 0
    while first < len(order):
        longest = min(_length(asked[order[first]]), trained.context)
        count = windows_at_a_time(longest, trained.shape.vocab_size)
        places = order[first : first + count]
        parts = _together(trained, [asked[place] for place in places])
        found.update(zip(places, parts, strict=True))
        first += count
    return [found[place] for place in range(len(asked))]


def _length(one: Continuation) -> int:
    """Tokens that are read: the last one is only predicted."""
    return len(one.before) + len(one.tokens) - 1


def _together(trained: TrainedModel, asked: Sequence[Continuation]) -> list[Likelihood]:
    """What is behind the end of a sequence is not seen by it, whatever stands there."""
    rows = [[*one.before, *one.tokens][-trained.context - 1 :] for one in asked]
    inputs_BT = torch.zeros(len(rows), max(map(len, rows)) - 1, dtype=torch.int64)
    for place, row in enumerate(rows):
        inputs_BT[place, : len(row) - 1] = torch.tensor(row[:-1])
    logits_BTV = trained.model(inputs_BT.to(trained.device)).float()
    found = []
    for one, row, logits_TV in zip(asked, rows, logits_BTV, strict=True):
        count = min(len(one.tokens), len(row) - 1)
        targets_K = torch.tensor(row[-count:], device=logits_TV.device)
        logits_KV = logits_TV[len(row) - 1 - count : len(row) - 1]
        each_K = logits_KV.log_softmax(-1).gather(-1, targets_K[:, None]).double()
        is_greedy = bool((logits_KV.argmax(-1) == targets_K).all())
        cut = _length(one) > trained.context
        found.append(Likelihood(float(each_K.sum()), is_greedy, cut))
    return found
