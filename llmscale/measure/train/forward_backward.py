"""Forward and backward passes over a batch: in parts that fit the memory, on several threads.

What a batch gives does not depend on how it is cut up, but for rounding; and equal cuts give equal
bits."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from llmscale.errors import WorkError
from llmscale.measure.train.batch_parts import (
    Part,
    filled_up,
    halves,
    mean_loss,
    part_sequences,
    sequence_means,
)
from llmscale.measure.train.checkpoint import Checkpoint
from llmscale.measure.train.examples import counted
from llmscale.measure.train.low_precision_weights import WorkingWeights, accumulate
from llmscale.measure.train.processes import ALONE, Processes
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import LanguageModel

if TYPE_CHECKING:
    from llmscale.measure.train.teacher import Teacher

log = logging.getLogger(__name__)


class Sums(NamedTuple):
    """Loss and gradients by weight, of parts of a batch."""

    loss: Tensor
    gradients: list[Tensor]


class Passes:
    """Passes of `model`, at most `micro_batch` sequences at a time; of an evaluation,
    `evaluation_batch`.

    With operations of one thread, `threads` share a batch, each on one core. How it is cut and in
    which order its parts are added up depends on the shape only, so that every number of threads
    gives the same bits. For a stack of S models inputs and targets are (B, S, T), and each result
    has S members.

    Compiled passes are all of one shape: a part that comes out smaller is filled up by sequences of
    weight 0. Of several `processes` each passes its part of a batch, in equally many parts, filled
    up likewise."""

    def __init__(
        self,
        model: LanguageModel | Stack,
        micro_batch: int,
        *,
        threads: int = 1,
        compile: bool = False,
        processes: Processes = ALONE,
        evaluation_batch: int | None = None,
        masked: bool = False,
        teacher: "Teacher | None" = None,
    ) -> None:
        self.model, self.micro_batch = model, micro_batch
        self.evaluation_batch = evaluation_batch or micro_batch
        self.threads = threads if model.ops.one_thread else 1
        self.compiled = compile
        self.processes = processes
        self.masked = masked
        """Whether targets say by their sign which of them count (examples.py)."""
        self.teacher = teacher
        """Whose predictions gradients are of, too."""
        self.reduced = False
        """Whether memory ran out, and the micro-batch is smaller than it was to be."""
        self.evaluation_reduced = False
        """Likewise the evaluation batch."""
        self.losses: Callable[..., tuple[Tensor, Tensor]] = processes.losses(model, compile)
        self._every = [weight for _, weight in model.named_parameters()]
        self._weights = [weight for weight in self._every if weight.requires_grad]
        narrow = torch.float32 if model.ops.one_thread or processes.size > 1 else model.ops.dtype
        self._working = WorkingWeights(model, narrow)
        self._pool = ThreadPoolExecutor(self.threads, initializer=partial(torch.set_num_threads, 1))

    @property
    def evaluated_at_a_time(self) -> int:
        """Sequences that suit one call of `sequence_losses`."""
        return self._part(self.evaluation_batch) * self.threads

    def gradient(self, inputs_BT: Tensor, targets_BT: Tensor, whole: int | None = None) -> Tensor:
        """The mean loss of a batch in nats; its gradient is left in the weights' `grad`.

        Of several processes each gives its part of a batch of `whole` sequences, and gets its share
        of the loss. Out of memory, halves the micro-batch and starts the batch again; when one
        sequence is too much, computes activations again in the backward pass (Chen et al. 2016).
        Raises WorkError when that is too much, too."""
        if self.processes.size > 1:
            size = self._part(self.micro_batch)
            return self._together(self._parts(inputs_BT, targets_BT, size, whole))
        while True:
            parts = self._parts(inputs_BT, targets_BT, self._part(self.micro_batch))
            try:
                return self._gradient(parts)
            except torch.OutOfMemoryError as error:
                problem = str(error).splitlines()[0]
            # Outside of `except`, which keeps the tensors of the failed pass alive.
            self.need_less(problem)

    def sequence_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats of each sequence, of its tokens that count, (B,) float64,
        without gradient.

        Out of memory, halves the evaluation batch and starts again. Raises WorkError when one
        sequence is too much. Of several processes none can do so by itself: the others wait for its
        part."""
        if self.processes.size > 1:
            return self._sequence_losses(inputs_BT, targets_BT)
        while True:
            try:
                return self._sequence_losses(inputs_BT, targets_BT)
            except torch.OutOfMemoryError as error:
                problem = str(error).splitlines()[0]
            self._evaluate_less(problem)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """While this lasts, the weights stay as they are, so that each is cast only once."""
        with self.model.ops.unchanged(self._every), self._working.fresh():
            yield

    @property
    def reduced_to(self) -> dict[str, Any]:
        """What was found to fit the memory after it ran out, by field of a Checkpoint."""
        return {
            "micro_batch": self.micro_batch if self.reduced else None,
            "checkpointing": self.model.checkpointing,
            "evaluation_batch": self.evaluation_batch if self.evaluation_reduced else None,
        }

    def go_on_with(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Take what interrupted runs found to fit the memory, as `reduced_to` said then."""
        trained = [one.micro_batch for one in checkpoints if one.micro_batch is not None]
        if trained:
            self.micro_batch, self.reduced = min(self.micro_batch, *trained), True
        read = [one.evaluation_batch for one in checkpoints if one.evaluation_batch is not None]
        if read:
            self.evaluation_batch, self.evaluation_reduced = min(self.evaluation_batch, *read), True
        if any(one.checkpointing for one in checkpoints):
            self.model.checkpointing = True

    def need_less(self, problem: str) -> None:
        """Take less memory for a batch from here on. Raises WorkError when that cannot be."""
        self._forget()
        if self.micro_batch > 1:
            self.micro_batch //= 2
            less = "out of memory: going on with micro-batches of %d sequences"
            log.warning(less, self.micro_batch)
        elif not self.model.checkpointing:
            self.model.checkpointing = True
            log.warning("out of memory: going on with activations computed twice")
        else:
            raise self._too_much(problem)
        self.reduced = True

    def _part(self, sequences: int) -> int:
        """Sequences of a part, if `sequences` fit at a time."""
        if not self.model.ops.one_thread:
            return sequences
        return min(sequences, part_sequences(self.model.shape))

    def _sequence_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        def losses(part: Part) -> Tensor:
            with torch.no_grad():  # which holds for one thread only
                return sequence_means(self.losses(*part)[1], part[2])

        parts = self._parts(inputs_BT, targets_BT, self._part(self.evaluation_batch))
        run = map if self.threads == 1 else self._pool.map
        with self.unchanged():
            means = list(run(losses, parts))
        return torch.cat(means)[: len(inputs_BT)]

    def _together(self, parts: Sequence[Part]) -> Tensor:
        """Its share of the loss; the last backward pass averages the gradients of all processes."""
        shares = []
        for number, (inputs_BT, targets_BT, weights_B) in enumerate(parts, start=1):
            with self.processes.accumulating(self.model, self.losses, last=number == len(parts)):
                part = inputs_BT, targets_BT, weights_B * self.processes.size
                total, losses = self._trained_losses(part)
                total.backward()
            shares.append(mean_loss(weights_B, losses))
        return torch.stack(shares).sum()

    def _gradient(self, parts: Sequence[Part]) -> Tensor:
        for weight in self._weights:
            weight.grad = None
        with self.unchanged():
            if not self.model.ops.one_thread:
                return self._accumulated(parts)
            if self.threads == 1:
                sums = self._summed(parts)
            else:
                sums = self._on_threads(parts, self.threads)()
        for weight, gradient in zip(self._weights, sums.gradients, strict=True):
            weight.grad = gradient
        return sums.loss

    def _trained_losses(self, part: Part) -> tuple[Tensor, Tensor]:
        """What a gradient is taken of, and the cross-entropies."""
        if self.teacher is None:
            return self.losses(*part)
        return self.losses(*part, soft=self.teacher.says(part[0]))

    def _accumulated(self, parts: Sequence[Part]) -> Tensor:
        """Parts one after another, each added to the gradient in place: only one is held."""
        leaves, losses = self._working.leaves, []
        for part in parts:
            total, losses_BT = self._trained_losses(part)
            losses.append(mean_loss(part[2], losses_BT))
            accumulate(self._weights, torch.autograd.grad(total, leaves))
        return torch.stack(losses).sum(dim=0)

    def _summed(self, parts: Sequence[Part]) -> Sums:
        """Of `parts`, each half summed first, as threads do that hold a gradient each."""
        if len(parts) > 1:
            first, second = halves(parts)
            return _added(self._summed(first), self._summed(second))
        total, losses = self._trained_losses(parts[0])
        # AdamW's fused kernel on the CPU takes strided gradients for contiguous ones.
        slopes = [slope.contiguous() for slope in torch.autograd.grad(total, self._weights)]
        return Sums(mean_loss(parts[0][2], losses), slopes)

    def _on_threads(self, parts: Sequence[Part], threads: int) -> Callable[[], Sums]:
        """Have threads sum up `parts`, halves by halves as `_summed`; what waits for the result."""
        if threads == 1 or len(parts) == 1:
            return self._pool.submit(self._summed, parts).result
        first, second = halves(parts)
        one = self._on_threads(first, threads - threads // 2)
        other = self._on_threads(second, threads // 2)
        return lambda: _added(one(), other())

    def _parts(
        self, inputs_BT: Tensor, targets_BT: Tensor, size: int, whole: int | None = None
    ) -> list[Part]:
        """A batch, or this process's part of one of `whole` sequences, in parts of `size`."""
        count = len(inputs_BT)
        weights_B = torch.full((count,), 1 / (whole or count), device=inputs_BT.device)
        if self.masked:
            targets_BT, weights_B = counted(targets_BT)
            total = weights_B.sum(dim=(0, -1), keepdim=True)
            if whole is not None:
                total = self.processes.sum(total)
            weights_B = weights_B / total.clamp(min=1)
        wanted = count
        if whole is not None:
            wanted = self.processes.largest_part(whole)
        if self.compiled:
            wanted += -wanted % size
        batch = tuple(filled_up(x, wanted) for x in (inputs_BT, targets_BT, weights_B))
        return list(zip(*(x.split(size) for x in batch), strict=True))

    def _evaluate_less(self, problem: str) -> None:
        self._forget()
        if self.evaluation_batch == 1:
            raise self._too_much(problem)
        self.evaluation_batch //= 2
        self.evaluation_reduced = True
        log.warning("out of memory: evaluating %d sequences at a time", self.evaluation_batch)

    def _too_much(self, problem: str) -> WorkError:
        one = f"one sequence of {self.model.shape.context} tokens does not fit the memory"
        return WorkError(f"{one}: {problem}", "train a smaller size, or with a shorter --context")

    def _forget(self) -> None:
        """Free what a pass that failed has left, and the code that was compiled for its shape."""
        for weight in self._weights:
            weight.grad = None
        if self.compiled:
            torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _added(first: Sums, second: Sums) -> Sums:
    """Both together, in the place of the first gradients."""
    torch._foreach_add_(first.gradients, second.gradients)
    return Sums(first.loss + second.loss, first.gradients)
