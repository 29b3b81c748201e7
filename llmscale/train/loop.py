"""The training loop: one function, from a job and tokens to a loss."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmscale.errors import InputError
from llmscale.job import Job
from llmscale.ops import build_operations, pick_operations
from llmscale.optimizers import build_optimizer, set_learning_rate
from llmscale.runs import CurvePoint
from llmscale.train.batches import Batches
from llmscale.train.checkpoint import FILE_NAME, Checkpoint, load_branch_point, load_checkpoint, save_checkpoint
from llmscale.train.evaluate import Evaluation, evaluate
from llmscale.train.memory import keep_freed_memory, peak_memory
from llmscale.train.passes import Passes
from llmscale.train.processes import ALONE, SHARDING, Processes
from llmscale.train.sharded_checkpoint import gathered, load_sharded, read_sharded, save_sharded, take_over

EXPLODED = 1.0
"""A run has diverged when its training loss is this many nats above that of a uniform guess, ln(vocab_size)."""


@dataclass(frozen=True)
class Conditions:
    """How a job is run: what changes its speed and its rounding, but nothing else."""

    device: str
    micro_batch: int
    """Sequences in one forward and backward pass, at most; a step accumulates as many as its batch needs."""
    compile: bool = False
    ops: str = "auto"
    """`plain` or `native`, of ops/; `auto` takes the faster one that runs here."""
    threads: int = 1
    """CPU threads that share a batch, with native operations; torch's own spread over torch.get_num_threads()."""
    deterministic: bool = False
    """Only kernels that give the same bits every time: a choice on the GPU alone."""
    peak_flops: float | None = None
    """FLOP/s of large matrix products here, for MFU."""
    checkpoint_seconds: float = 60.0
    shard: str = "never"
    """One of train.processes.SHARDING: where several processes keep the weights."""

    def __post_init__(self) -> None:
        if self.shard not in SHARDING:
            raise InputError(f"shard is {self.shard!r}", f"choose one of {', '.join(SHARDING)}")


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `status` is `done` or `diverged`, with the reason in `error`."""

    status: str
    curve: tuple[CurvePoint, ...]
    evaluation: Evaluation | None
    seconds: float
    """Of this run's own steps, without its parent's."""
    peak_memory_bytes: int
    error: str | None = None
    parent: str | None = None
    """The run that trained the first `parent_step` steps, where another one did."""
    parent_step: int = 0


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
    warn: Callable[[str], None] = lambda text: None,
    *,
    start: Path | None = None,
    branch_points: Mapping[int, Path] | None = None,
    processes: Processes = ALONE,
) -> Outcome:
    """Train `job`, going on from the checkpoint in `folder` where there is one.

    `start` is the branch point of a run that begins like this one, to go on from: its rows begin this run's curve, and
    the first row after it is over all steps since the last. Where it is missing, all steps are trained here. After each
    step that `branch_points` names, the state is saved there for such runs.

    Calls `report` with each logged step, and `warn` where what was saved is damaged. When `stop()` turns true, saves a
    checkpoint and raises TrainingInterrupted. All `processes` of a run call it, and each gets the same outcome.
    """
    device, context = conditions.device, job.shape.context
    keep_freed_memory()
    batches = Batches(train_tokens[: job.text_tokens], context, job.seed, device, job.shuffled_sequences)
    picked = pick_operations(device) if conditions.ops == "auto" else conditions.ops
    ops = build_operations(picked if processes.size == 1 else "plain", job.dtype)
    model = processes.build(job, ops, device, conditions.shard)
    settings = {"lr": job.lr, "beta2": job.beta2, "weight_decay": job.weight_decay}
    optimizer = build_optimizer(job.optimizer, model, **settings, dtype=job.dtype)
    cut = {"threads": conditions.threads, "compile": conditions.compile, "processes": processes}
    passes = Passes(model, conditions.micro_batch, **cut)  # type: ignore[arg-type]
    schedule = job.learning_rates()
    evaluated_steps = job.evaluated_steps

    curve: list[CurvePoint] = []
    first_step, seconds_before = 0, 0.0
    parent, parent_step, parent_seconds = None, 0, 0.0
    loss_sum, steps_summed = torch.zeros((), device=device), 0
    holder = device if processes.size == 1 or conditions.shard == "never" else "cpu"
    saved = [load_checkpoint(folder, holder, warn), load_branch_point(start, holder, warn) if start else None]
    checkpoint = max(filter(None, saved), key=lambda state: state.step, default=None)
    together = read_sharded(folder)
    if together is not None and (checkpoint is None or together[1].step > checkpoint.step):
        path, checkpoint = together
        load_sharded(path, model, optimizer)
    elif checkpoint is not None:
        take_over(checkpoint, model, optimizer)
    if checkpoint is not None:
        curve = [CurvePoint(**{**row, "run_id": job.run_id}) for row in checkpoint.curve]
        first_step, seconds_before = checkpoint.step, checkpoint.seconds
        loss_sum += checkpoint.loss_sum / processes.size
        steps_summed = checkpoint.steps_summed
        parent, parent_step, parent_seconds = checkpoint.parent, checkpoint.parent_step, checkpoint.parent_seconds
    del saved, checkpoint, together

    started = last_saved = last_logged = time.perf_counter()
    sequences_timed = 0
    evaluation: Evaluation | None = None

    def seconds() -> float:
        return seconds_before + time.perf_counter() - started

    def state(step: int) -> Checkpoint:
        rows = [asdict(point) for point in curve]
        tensors = model.state_dict(), optimizer.state_dict()
        sums = float(processes.sum(loss_sum.clone())), steps_summed
        return Checkpoint(step, seconds(), *tensors, rows, *sums, parent, parent_step, parent_seconds)

    def outcome(status: str, error: str | None = None) -> Outcome:
        reached = evaluation if status == "done" else None
        own_seconds = seconds() - parent_seconds
        return Outcome(status, tuple(curve), reached, own_seconds, peak_memory(device), error, parent, parent_step)

    for step in range(first_step, job.steps):
        first = step * job.batch_sequences
        count = min(job.batch_sequences, job.sequences - first)
        lr = job.lr * schedule.fraction(step)
        set_learning_rate(optimizer, lr)
        before, own = processes.part(count)
        loss_sum += passes.gradient(*batches.read(first + before, own), whole=count)
        grad_norm = model.clip_gradient(job.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps_summed += 1
        sequences_timed += count

        done = step + 1
        evaluating = done in evaluated_steps
        if evaluating or done % job.log_every == 0:
            # Only here does the host wait for the device.
            train_loss = float(processes.sum(loss_sum)) / steps_summed
            speed = sequences_timed * context / (time.perf_counter() - last_logged)
            if evaluating:
                (evaluation,) = evaluate(passes, validation_tokens, context, device)
            point = curve_point(
                job, done, train_loss, evaluation if evaluating else None, lr, grad_norm, speed, seconds()
            )
            curve.append(point)
            report(point)
            problem = divergence(point, job)
            if problem:
                return outcome("diverged", problem)
            loss_sum.zero_()
            steps_summed = sequences_timed = 0
            last_logged = time.perf_counter()

        if done < job.steps:
            if branch_points and done in branch_points:
                now = state(done)
                given = gathered(replace(now, parent=job.run_id, parent_step=done, parent_seconds=now.seconds))
                if processes.first:
                    save_checkpoint(branch_points[done], given)
            due = time.perf_counter() - last_saved > conditions.checkpoint_seconds
            asked_to_stop, due = processes.any(stop(), due)
            if asked_to_stop or due:
                if processes.size == 1:
                    save_checkpoint(folder / FILE_NAME, state(done))
                else:
                    save_sharded(folder, state(done), processes)
                last_saved = time.perf_counter()
            if asked_to_stop:
                raise TrainingInterrupted
    return outcome("done")


def curve_point(
    job: Job,
    step: int,
    train_loss: float,
    evaluation: Evaluation | None,
    lr: float,
    grad_norm: Tensor,
    tokens_per_second: float,
    seconds: float,
) -> CurvePoint:
    """The row of a run's curve after `step` steps."""
    tokens = min(step * job.batch_sequences, job.sequences) * job.shape.context
    return CurvePoint(
        run_id=job.run_id,
        step=step,
        tokens=tokens,
        flops=float(tokens) * job.shape.flops_per_token,
        train_loss=train_loss,
        train_perplexity=math.exp(min(train_loss, 700.0)),
        loss=evaluation.loss if evaluation else None,
        perplexity=evaluation.perplexity if evaluation else None,
        lr=lr,
        grad_norm=float(grad_norm),
        tokens_per_second=tokens_per_second,
        seconds=seconds,
    )


def divergence(point: CurvePoint, job: Job) -> str | None:
    """Why the run has diverged at `point`, or None."""
    for name, value in (("training loss", point.train_loss), ("validation loss", point.loss)):
        if value is not None and not math.isfinite(value):
            return f"{name} is {value} at step {point.step}"
    uniform = math.log(job.shape.vocab_size)
    if point.step > job.warmup_steps and point.train_loss > uniform + EXPLODED:
        return f"training loss rose to {point.train_loss:.2f} at step {point.step}; a uniform guess has {uniform:.2f}"
    return None
