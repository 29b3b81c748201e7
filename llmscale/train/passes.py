"""Forward and backward passes over a batch: in parts that fit the memory, on several threads.

What a batch gives does not depend on how it is cut up, but for rounding; and equal cuts give equal bits.
"""

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from llmscale.errors import WorkError
from llmscale.models import LanguageModel
from llmscale.shape import Shape
from llmscale.train.processes import ALONE, Processes
from llmscale.train.stack import Stack

PART_TOKENS, PART_FLOPS = 2048, 5e9
"""A part of a batch is large enough for a thread of its own from so many tokens and FLOPs (about 0.03 s) on."""
Part = tuple[Tensor, Tensor, Tensor]
"""Inputs and targets, both (B, T), and the weight of each sequence, (B,)."""
log = logging.getLogger(__name__)


def part_sequences(shape: Shape) -> int:
    """Sequences of a part of a batch that a thread takes, a power of two: of PART_TOKENS and PART_FLOPS, at least."""
    sequences = max(PART_TOKENS, PART_FLOPS / shape.flops_per_token) / shape.context
    return int(2 ** max(0, math.ceil(math.log2(sequences))))


class Sums(NamedTuple):
    """Loss and gradients by weight, of parts of a batch."""

    loss: Tensor
    gradients: list[Tensor]


class Passes:
    """Passes of `model`, at most `micro_batch` sequences at a time.

    With operations of one thread, `threads` share a batch, each on one core. How it is cut and in which order its parts
    are added up depends on the shape alone, so that every number of threads gives the same bits. For a stack of S
    models inputs and targets are (B, S, T), and each result has S members.

    Of several `processes` each passes its part of a batch, in equally many parts, filled up by sequences of weight 0.
    """

    def __init__(
        self,
        model: LanguageModel | Stack,
        micro_batch: int,
        *,
        threads: int = 1,
        compile: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.micro_batch = model, micro_batch
        self.threads = threads if model.ops.one_thread else 1
        self.fill = compile
        """Whether every part is equally large, by sequences of weight 0, as what is compiled sees one shape."""
        self.processes = processes
        self.losses: Callable[..., tuple[Tensor, Tensor]] = processes.losses(model, compile)
        self._weights = [weight for _, weight in model.named_parameters()]
        self._pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))

    @property
    def part(self) -> int:
        """Sequences of a part."""
        if not self.model.ops.one_thread:
            return self.micro_batch
        return min(self.micro_batch, part_sequences(self.model.shape))

    def gradient(self, inputs_BT: Tensor, targets_BT: Tensor, whole: int | None = None) -> Tensor:
        """The mean loss of a batch in nats; its gradient is left in the weights' `grad`.

        Of several processes each gives its part of a batch of `whole` sequences, and gets its share of the loss.
        Out of memory, halves the micro-batch and starts the batch again; when one sequence is too much, computes
        activations again in the backward pass (Chen et al. 2016). Raises WorkError when that is too much, too.
        """
        if self.processes.size > 1:
            return self._together(self._parts(inputs_BT, targets_BT, whole))
        while True:
            try:
                return self._gradient(self._parts(inputs_BT, targets_BT))
            except torch.OutOfMemoryError as error:
                problem = str(error).splitlines()[0]
            self._need_less(problem)  # outside `except`, which keeps the tensors of the failed pass alive

    def sequence_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats of each sequence, (B,) float64, without gradient."""

        def losses(part: Part) -> Tensor:
            with torch.no_grad():  # which holds for one thread alone
                return self.losses(*part)[1].mean(dim=-1, dtype=torch.float64)

        parts = self._parts(inputs_BT, targets_BT)
        with self.model.ops.unchanged(self._weights):
            means = list(map(losses, parts) if self.threads == 1 else self._pool.map(losses, parts))
        return torch.cat(means)[: len(inputs_BT)]

    def _together(self, parts: Sequence[Part]) -> Tensor:
        """Its share of the loss, where the gradients of all processes are averaged in the last backward pass."""
        shares = []
        for number, (inputs_BT, targets_BT, weights_B) in enumerate(parts, start=1):
            with self.processes.accumulating(self.model, self.losses, last=number == len(parts)):
                total, losses = self.losses(inputs_BT, targets_BT, weights_B * self.processes.size)
                total.backward()
            shares.append(torch.tensordot(weights_B, losses.mean(dim=-1), dims=1))
        return torch.stack(shares).sum()

    def _gradient(self, parts: Sequence[Part]) -> Tensor:
        with self.model.ops.unchanged(self._weights):
            sums = self._summed(parts) if self.threads == 1 else self._on_threads(parts, self.threads)()
        for weight, gradient in zip(self._weights, sums.gradients, strict=True):
            weight.grad = gradient
        return sums.loss

    def _summed(self, parts: Sequence[Part]) -> Sums:
        """Of `parts`, each half summed before."""
        if len(parts) > 1:
            first, second = _halves(parts)
            return _added(self._summed(first), self._summed(second))
        total, losses = self.losses(*parts[0])
        loss = torch.tensordot(parts[0][2], losses.mean(dim=-1), dims=1)
        # AdamW's fused kernel on the CPU takes strided gradients for contiguous ones.
        return Sums(loss, [slope.contiguous() for slope in torch.autograd.grad(total, self._weights)])

    def _on_threads(self, parts: Sequence[Part], threads: int) -> Callable[[], Sums]:
        """Have so many threads sum up `parts`, halves by halves as `_summed` does; what waits for the result."""
        if threads == 1 or len(parts) == 1:
            return self._pool.submit(self._summed, parts).result
        first, second = _halves(parts)
        one, other = self._on_threads(first, threads - threads // 2), self._on_threads(second, threads // 2)
        return lambda: _added(one(), other())

    def _parts(self, inputs_BT: Tensor, targets_BT: Tensor, whole: int | None = None) -> list[Part]:
        """A batch, or this process's part of one of `whole` sequences, cut into parts."""
        count, size = len(inputs_BT), self.part
        weights_B = torch.full((count,), 1 / (whole or count), device=inputs_BT.device)
        wanted = self.processes.largest_part(whole) if whole else count
        if missing := wanted - count + (-wanted % size if self.fill else 0):
            inputs_BT, targets_BT = (
                torch.cat((x, x.new_zeros(missing, *x.shape[1:]))) for x in (inputs_BT, targets_BT)
            )
            weights_B = torch.cat((weights_B, weights_B.new_zeros(missing)))
        return list(zip(*(x.split(size) for x in (inputs_BT, targets_BT, weights_B)), strict=True))

    def _need_less(self, problem: str) -> None:
        for weight in self._weights:
            weight.grad = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.micro_batch > 1:
            self.micro_batch //= 2
            log.warning("out of memory: going on with micro-batches of %d sequences", self.micro_batch)
        elif not self.model.checkpointing:
            self.model.checkpointing = True
            log.warning("out of memory: going on with activations computed twice")
        else:
            raise WorkError(
                f"one sequence of {self.model.shape.context} tokens does not fit the memory: {problem}",
                "train a smaller size, or with a shorter --context",
            )


def _halves(parts: Sequence[Part]) -> tuple[Sequence[Part], Sequence[Part]]:
    """The first of two or more parts, as many as the largest power of two below their number, and the others."""
    half = int(2 ** ((len(parts) - 1).bit_length() - 1))
    return parts[:half], parts[half:]


def _added(first: Sums, second: Sums) -> Sums:
    """Both together, in the place of the first gradients."""
    torch._foreach_add_(first.gradients, second.gradients)
    return Sums(first.loss + second.loss, first.gradients)
