"""Jobs and text of no meaning, and the steps of the training loop one at a time, for what must look
inside them.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.optimizers import allocate_state, build_optimizer, set_learning_rate
from llmscale.measure.train.batches import Batches
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import Job
from llmscale.measure.train.throughput import throughput_job
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import Shape

LEARNING_RATE = 3e-3
TEXT_TOKENS = 50_000


def job_for(
    shape: Shape,
    *,
    batch_sequences: int,
    optimizer: str = "adamw",
    dtype: str = "float32",
    **more: Any,
) -> Job:
    """A job by the usual recipe on a text of TEXT_TOKENS, with a learning rate that moves weights
    at once.
    """
    job = throughput_job(shape, batch_sequences, dtype, optimizer)
    short = {"text_tokens": TEXT_TOKENS, "lr": LEARNING_RATE, "warmup_steps": 0, "evaluations": 1}
    return replace(job, **{**short, **more})


def sums_of_steps(vocab_size: int) -> np.ndarray:
    """A text that can be learnt: running sums of random steps, modulo the vocabulary; TEXT_TOKENS
    of uint16.
    """
    steps = np.random.default_rng(0).integers(0, 64, TEXT_TOKENS, dtype=np.uint64)
    return (steps.cumsum() % vocab_size).astype(np.uint16)


class Steps:
    """Whole training steps of a job, as train.loop makes them."""

    def __init__(self, job: Job, conditions: Conditions, tokens: np.ndarray) -> None:
        picked = pick_operations(conditions.device) if conditions.ops == "auto" else conditions.ops
        self.job = job
        self.batches = Batches(tokens, job.shape.context, job.seed, conditions.device)
        ops = build_operations(picked, job.dtype)
        self.model = build_model(job.shape, job.seed, job.parametrization, ops).to(
            conditions.device
        )
        self.optimizer = build_optimizer(
            job.optimizer,
            self.model,
            lr=job.lr,
            beta2=job.beta2,
            weight_decay=job.weight_decay,
            dtype=job.dtype,
            compile=conditions.compile,
        )
        allocate_state(self.optimizer)
        set_learning_rate(self.optimizer, job.lr)
        self.passes = Passes(
            self.model,
            conditions.micro_batch,
            threads=conditions.threads,
            compile=conditions.compile,
        )
        self.taken = 0

    def take(self) -> Tensor:
        """One more step; its mean loss in nats, on the device."""
        batch = self.job.batch_sequences
        loss = self.passes.gradient(*self.batches.read(self.taken * batch, batch))
        self.model.clip_gradient(self.job.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.taken += 1
        return loss

    def weights(self) -> Tensor:
        """All weights as one vector on the CPU."""
        return torch.cat(
            [weight.detach().flatten().cpu() for weight in self.model.parameters()]
        ).clone()
