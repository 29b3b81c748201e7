"""The training loop: one function, from a job and tokens to a loss."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmscale.job import Job
from llmscale.models import build_model
from llmscale.optimizers import build_optimizer
from llmscale.runs import CurvePoint
from llmscale.train.batches import Batches
from llmscale.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from llmscale.train.evaluate import Evaluation, evaluate

LOGGED_STEPS = 400
"""Rows of a run's curve, at most."""
EXPLODED = 1.0
"""A run has diverged when its training loss is this many nats above that of a uniform guess, ln(vocab_size)."""


@dataclass(frozen=True)
class Conditions:
    """How a job is run: what changes its speed and its rounding, but nothing else."""

    device: str
    micro_batch: int
    """Sequences in one forward and backward pass; a step accumulates as many as its batch needs."""
    compile: bool = False
    peak_flops: float | None = None
    """FLOP/s of large matrix products here, for MFU."""
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `status` is `done` or `diverged`, with the reason in `error`."""

    status: str
    curve: tuple[CurvePoint, ...]
    evaluation: Evaluation | None
    seconds: float
    peak_memory_bytes: int
    error: str | None = None


class TrainingInterrupted(Exception):  # noqa: N818 - it is a wish, not a mistake
    """Training stopped because it was asked to; the checkpoint holds the rest."""


def train(
    job: Job,
    conditions: Conditions,
    train_tokens: np.ndarray,
    validation_tokens: np.ndarray,
    folder: Path,
    report: Callable[[CurvePoint], None] = lambda point: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train `job`, going on from the checkpoint in `folder` where there is one.

    Calls `report` with each logged step. When `stop()` turns true, saves a checkpoint and raises TrainingInterrupted.
    """
    device, context = conditions.device, job.shape.context
    batches = Batches(train_tokens[: job.text_tokens], context, job.seed)
    model = build_model(job.shape, job.seed).to(device)
    optimizer = build_optimizer(job.optimizer, model, lr=job.lr, beta2=job.beta2, weight_decay=job.weight_decay)
    losses_BT = token_losses(model, job.dtype, device)
    if conditions.compile:
        losses_BT = torch.compile(losses_BT)
    schedule = job.learning_rates()
    log_every = max(1, job.steps // LOGGED_STEPS)
    evaluated_steps = {round(job.steps * (i + 1) / job.evaluations) for i in range(job.evaluations)}

    curve: list[CurvePoint] = []
    first_step, seconds_before = 0, 0.0
    loss_sum, steps_summed = torch.zeros((), device=device), 0
    checkpoint = load_checkpoint(folder, device)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        curve = [CurvePoint(**row) for row in checkpoint.curve]
        first_step, seconds_before = checkpoint.step, checkpoint.seconds
        loss_sum += checkpoint.loss_sum
        steps_summed = checkpoint.steps_summed

    started = last_saved = last_logged = time.perf_counter()
    sequences_timed = 0
    evaluation: Evaluation | None = None

    def seconds() -> float:
        return seconds_before + time.perf_counter() - started

    def save(step: int) -> None:
        rows = [asdict(point) for point in curve]
        state = Checkpoint(
            step, seconds(), model.state_dict(), optimizer.state_dict(), rows, float(loss_sum), steps_summed
        )
        save_checkpoint(folder, state)

    def outcome(status: str, error: str | None = None) -> Outcome:
        reached = evaluation if status == "done" else None
        return Outcome(status, tuple(curve), reached, seconds(), _peak_memory(device), error)

    for step in range(first_step, job.steps):
        # One optimiser step over `count` sequences, in micro-batches of equal shape: the last is filled up with
        # sequences of weight 0, so that the gradient is the mean over `count` whatever the micro-batch.
        first = step * job.batch_sequences
        count = min(job.batch_sequences, job.sequences - first)
        lr = job.lr * schedule.fraction(step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for offset in range(0, count, conditions.micro_batch):
            inputs_BT, targets_BT = batches.read(first + offset, conditions.micro_batch)
            weights_B = (torch.arange(conditions.micro_batch) < count - offset).float() / count
            losses = losses_BT(inputs_BT.to(device), targets_BT.to(device))
            loss = (losses.mean(dim=1) * weights_B.to(device)).sum()
            loss.backward()
            loss_sum += loss.detach()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), job.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps_summed += 1
        sequences_timed += count

        done = step + 1
        evaluating = done in evaluated_steps
        if evaluating or done % log_every == 0:
            # Only here does the host wait for the device.
            train_loss = float(loss_sum) / steps_summed
            speed = sequences_timed * context / (time.perf_counter() - last_logged)
            if evaluating:
                evaluation = evaluate(losses_BT, validation_tokens, context, conditions.micro_batch, device)
            tokens = min(done * job.batch_sequences, job.sequences) * context
            point = CurvePoint(
                run_id=job.run_id,
                step=done,
                tokens=tokens,
                flops=float(tokens) * job.shape.flops_per_token,
                train_loss=train_loss,
                train_perplexity=math.exp(min(train_loss, 700.0)),
                loss=evaluation.loss if evaluation and evaluating else None,
                perplexity=evaluation.perplexity if evaluation and evaluating else None,
                lr=lr,
                grad_norm=float(grad_norm),
                tokens_per_second=speed,
                seconds=seconds(),
            )
            curve.append(point)
            report(point)
            problem = _divergence(point, job)
            if problem:
                return outcome("diverged", problem)
            loss_sum.zero_()
            steps_summed = sequences_timed = 0
            last_logged = time.perf_counter()

        if done < job.steps:
            asked_to_stop = stop()
            if asked_to_stop or time.perf_counter() - last_saved > conditions.checkpoint_seconds:
                save(done)
                last_saved = time.perf_counter()
            if asked_to_stop:
                raise TrainingInterrupted
    return outcome("done")


def token_losses(model: nn.Module, dtype: str, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from inputs and targets, both (B, T), to cross-entropies in nats (B, T), computed in `dtype`."""

    def losses(inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        autocast = torch.autocast(device, torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()
        with autocast:
            logits_BTV = model(inputs_BT)
        losses_BT = F.cross_entropy(logits_BTV.float().flatten(0, 1), targets_BT.flatten(), reduction="none")
        return losses_BT.view_as(targets_BT)

    return losses


def _divergence(point: CurvePoint, job: Job) -> str | None:
    """Why the run has diverged at `point`, or None."""
    for name, value in (("training loss", point.train_loss), ("validation loss", point.loss)):
        if value is not None and not math.isfinite(value):
            return f"{name} is {value} at step {point.step}"
    uniform = math.log(job.shape.vocab_size)
    if point.step > job.warmup_steps and point.train_loss > uniform + EXPLODED:
        return f"training loss rose to {point.train_loss:.2f} at step {point.step}; a uniform guess has {uniform:.2f}"
    return None


def _peak_memory(device: str) -> int:
    """The most bytes held so far: on the GPU by tensors, on the CPU by the process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
