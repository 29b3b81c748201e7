"""Validation loss: the same tokens for every run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from llmscale.measure.train.batches import Windows
from llmscale.measure.train.examples import Examples
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.processes import Processes


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats per token, and its standard error over sequences."""

    loss: float
    stderr: float
    parts: "Mapping[str, Evaluation]" = field(default_factory=dict)
    """The same over parts of the text, by name."""

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(min(self.loss, 700.0))


def evaluate(
    passes: Passes, text: Windows | Examples, parts: Mapping[str, range] | None = None
) -> list[Evaluation]:
    """The loss of each model of `passes` (one, unless stacked) over all windows of a text, and over
    those of its `parts`."""
    count, for_each, processes = len(text), passes.model.for_each, passes.processes
    mine = _part(count, processes)
    order, read = text.order(mine), []
    with passes.unchanged():
        at_a_time = passes.evaluated_at_a_time
        for first in range(0, len(mine), at_a_time):
            inputs_BT, targets_BT = text.read(order[first : first + at_a_time])
            read.append(passes.sequence_losses(for_each(inputs_BT), for_each(targets_BT)))
    by_sequence = _of_all(torch.cat(read), count, processes).view(count, -1)
    if isinstance(text, Examples):
        return _over_examples(by_sequence, text.counts())
    found = _means(by_sequence)
    for name, windows in (parts or {}).items():
        of_part = _means(by_sequence[windows.start : windows.stop])
        for number, mean in enumerate(of_part):
            one = found[number]
            found[number] = replace(one, parts={**one.parts, name: mean})
    return found


def _means(losses_NS: torch.Tensor) -> list[Evaluation]:
    """The mean of each model over N sequences, at least one, and its standard error."""
    count, models = losses_NS.shape
    spread_S = torch.zeros(models)
    if count > 1:
        spread_S = losses_NS.std(dim=0)
    loss_S, stderr_S = losses_NS.mean(dim=0), spread_S / math.sqrt(count)
    return list(map(Evaluation, loss_S.tolist(), stderr_S.tolist()))


def _over_examples(means_NS: torch.Tensor, counts_N: torch.Tensor) -> list[Evaluation]:
    """The mean over all tokens that count, by the mean and the count of each of N examples; its
    error is that of a ratio of two sums (Cochran 1977, eq. 2.46)."""
    counts_N1, examples = counts_N.to(means_NS.device)[:, None], len(counts_N)
    loss_S = (means_NS * counts_N1).sum(dim=0) / counts_N1.sum()
    stderr_S = torch.zeros_like(loss_S)
    if examples > 1:
        squares_S = ((means_NS - loss_S) * counts_N1).square().sum(dim=0)
        stderr_S = (squares_S * examples / (examples - 1)).sqrt() / counts_N1.sum()
    return list(map(Evaluation, loss_S.tolist(), stderr_S.tolist()))


def _part(count: int, processes: Processes) -> np.ndarray:
    """The windows that this process reads: as many in each, some twice if they are uneven."""
    each = processes.largest_part(count)
    return np.minimum(processes.rank * each + np.arange(each), count - 1)


def _of_all(losses: torch.Tensor, count: int, processes: Processes) -> torch.Tensor:
    """The losses of all `count` windows, of which this process has read its part."""
    if processes.size == 1:
        return losses
    start, own = processes.part(count)
    every = losses.new_zeros(count)
    every[start : start + own] = losses[:own]
    return processes.sum(every)


def bits_per_byte(loss: float, tokens: int, utf8_bytes: int) -> float:
    """loss · tokens / (bytes · ln 2), which compares models with different tokenizers."""
    return loss * tokens / (utf8_bytes * math.log(2))
