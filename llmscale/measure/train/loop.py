"""The training loop: one function, from a job and tokens to a loss."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.optimizers import allocate_state, build_optimizer, set_learning_rate
from llmscale.measure.train.async_values import Mark, Reading
from llmscale.measure.train.batches import Batches, Windows
from llmscale.measure.train.checkpoint import (
    FILE_NAME,
    Checkpoint,
    load_branch_point,
    load_checkpoint,
)
from llmscale.measure.train.checkpoint_writer import Saver
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.evaluate import Evaluation, evaluate
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import Job
from llmscale.measure.train.memory import holding, keep_freed_memory, peak_memory
from llmscale.measure.train.processes import ALONE, Processes
from llmscale.measure.train.resumable import beginning_of, first_steps, own_state
from llmscale.measure.train.sharded_checkpoint import (
    gathered,
    load_sharded,
    read_sharded,
    save_sharded,
    take_over,
)
from llmscale.runs.run import CurvePoint

EXPLODED = 1.0
"""A run has diverged when its training loss is this many nats above that of a uniform guess,
ln(vocab_size).
"""
UNREAD = {"cpu": 0, "cuda": 1}
"""Logged steps that stay unread until a later one is logged, by device: on a GPU the host runs
ahead of it so.
"""


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


@dataclass(frozen=True)
class Logged:
    """A step to log, whose numbers the device may not know yet.

    Sums are over what was trained since the last one.
    """

    step: int
    lr: float
    steps: int
    sequences: int
    since: Mark
    """Where in the device's queue the first of these steps begins."""
    numbers: Reading
    """The sum of the training losses, and the gradient's norm at this step."""

    @property
    def sequences_per_second(self) -> float:
        """Of training alone: evaluations come before `since` or after the numbers."""
        return self.sequences / max(self.numbers.mark.seconds_since(self.since), 1e-9)


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
    begin: Callable[[str, Sequence[CurvePoint]], None] = lambda run_id, curve: None,
    processes: Processes = ALONE,
) -> Outcome:
    """Train `job`, going on from the checkpoint in `folder` where there is one.

    `start` is the branch point of a run that begins like this one, to go on from: its rows begin
    this run's curve, and the first row after it is over all steps since the last. Where it is
    missing, all steps are trained here. After each step that `branch_points` names, the state is
    saved there for such runs.

    Calls `begin` with the run and what it logged before, `report` with each logged step, and `warn`
    where what was saved is damaged. When `stop()` turns true, saves a checkpoint and raises
    TrainingInterrupted. All `processes` of a run call it, and each gets the same outcome."""
    device, context = conditions.device, job.shape.context
    keep_freed_memory()
    text = Windows(
        train_tokens[: job.text_tokens], context, device, vocab_size=job.shape.vocab_size
    )
    batches = Batches(text, context, job.seed, device, job.shuffled_sequences)
    validation = Windows(validation_tokens, context, device, vocab_size=job.shape.vocab_size)
    operations = conditions.ops
    if conditions.compile or processes.size > 1:
        operations = "plain"
    elif operations == "auto":
        operations = pick_operations(device)
    ops = build_operations(operations, job.dtype)
    schedule = job.learning_rates()
    evaluated_steps = job.evaluated_steps

    saved = [
        load_checkpoint(folder, warn, objection=own_state(job)),
        load_branch_point(start, warn, first_steps(job)) if start else None,
    ]
    checkpoint = max(filter(None, saved), key=lambda state: state.step, default=None)
    source = start if start and saved[0] is not checkpoint else folder / FILE_NAME
    together = read_sharded(folder, warn, own_state(job))
    if together is not None and (checkpoint is None or together[1].step > checkpoint.step):
        source, checkpoint = together
    with holding(job.shape):
        model = processes.build(job, ops, device, conditions.shard)
        optimizer = build_optimizer(
            job.optimizer,
            model,
            lr=job.lr,
            beta2=job.beta2,
            weight_decay=job.weight_decay,
            dtype=job.dtype,
            compile=conditions.compile,
        )
        if together is not None and checkpoint is together[1]:
            load_sharded(source, model, optimizer)
        elif checkpoint is not None:
            take_over(checkpoint, source, model, optimizer)
        else:
            allocate_state(optimizer)
    passes = Passes(
        model,
        conditions.micro_batch,
        threads=conditions.threads,
        compile=conditions.compile,
        processes=processes,
        evaluation_batch=conditions.evaluation_batch,
    )

    curve: list[CurvePoint] = []
    first_step, seconds_before = 0, 0.0
    parent, parent_step, parent_seconds = None, 0, 0.0
    loss_sum, steps_summed = torch.zeros((), device=device), 0
    if checkpoint is not None:
        curve = [CurvePoint(**{**row, "run_id": job.run_id}) for row in checkpoint.curve]
        first_step, seconds_before = checkpoint.step, checkpoint.seconds
        loss_sum += checkpoint.loss_sum / processes.size
        steps_summed = checkpoint.steps_summed
        parent, parent_step, parent_seconds = (
            checkpoint.parent,
            checkpoint.parent_step,
            checkpoint.parent_seconds,
        )
        passes.go_on_with([checkpoint])
    del saved, checkpoint, together
    begin(job.run_id, [point for point in curve if point.step > parent_step])

    started, since = time.perf_counter(), Mark(device)
    sequences_timed = 0
    logged: list[Logged] = []
    evaluation: Evaluation | None = None
    saver = Saver(conditions.checkpoint_seconds)

    def seconds() -> float:
        return seconds_before + time.perf_counter() - started

    def state(step: int) -> Checkpoint:
        rows = [asdict(point) for point in curve]
        tensors = model.state_dict(), optimizer.state_dict()
        total = processes.sum(loss_sum.clone())
        now = Checkpoint(
            step,
            seconds(),
            *tensors,
            rows,
            total,
            steps_summed,
            parent,
            parent_step,
            parent_seconds,
        )
        return replace(now, **passes.reduced_to, run_id=job.run_id)

    def outcome(status: str, error: str | None = None) -> Outcome:
        reached = evaluation if status == "done" else None
        own_seconds = seconds() - parent_seconds
        return Outcome(
            status,
            tuple(curve),
            reached,
            own_seconds,
            peak_memory(device),
            error,
            parent,
            parent_step,
        )

    def diverged(unread: int = 0) -> str | None:
        """Read and report logged steps, but for the last `unread` ones; why the run has diverged at
        one, or None.
        """
        nonlocal evaluation, since
        while len(logged) > unread:
            one = logged.pop(0)
            (loss,), (grad_norm,) = one.numbers.values()
            speed = one.sequences_per_second * context
            evaluating = one.step in evaluated_steps
            if evaluating:
                (evaluation,) = evaluate(passes, validation)
                since = Mark(device)
            numbers = (
                loss / one.steps,
                evaluation if evaluating else None,
                one.lr,
                grad_norm,
                speed,
                seconds(),
            )
            point = curve_point(job, one.step, *numbers)
            curve.append(point)
            report(point)
            if problem := divergence(point, job):
                return problem
        return None

    with saver:
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
            if done in evaluated_steps or done % job.log_every == 0:
                numbers = Reading(processes.sum(loss_sum.clone()), grad_norm)
                logged.append(Logged(done, lr, steps_summed, sequences_timed, since, numbers))
                since = numbers.mark
                loss_sum.zero_()
                steps_summed = sequences_timed = 0
                if problem := diverged(unread=0 if done in evaluated_steps else UNREAD[device]):
                    return outcome("diverged", problem)

            if done < job.steps:
                branching = branch_points is not None and done in branch_points
                asked_to_stop, due = processes.any(stop(), saver.due)
                if (branching or asked_to_stop or due) and (problem := diverged()):
                    return outcome("diverged", problem)
                if branch_points and branching:
                    now = state(done)
                    now = replace(
                        now, parent=job.run_id, parent_step=done, parent_seconds=now.seconds
                    )
                    given = gathered(replace(now, beginning=beginning_of(job)))
                    if processes.first:
                        saver.save([(branch_points[done], given)])
                if (asked_to_stop or due) and processes.size == 1:
                    saver.save([(folder / FILE_NAME, state(done))])
                elif asked_to_stop or due:
                    saver.saved(save_sharded(folder, state(done), processes))
                if asked_to_stop:
                    saver.wait()
                    raise TrainingInterrupted
                saver.check()
    return outcome("done")


def curve_point(
    job: Job,
    step: int,
    train_loss: float,
    evaluation: Evaluation | None,
    lr: float,
    grad_norm: float,
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
        grad_norm=grad_norm,
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
        return (
            f"training loss rose to {point.train_loss:.2f} at step {point.step}; a uniform "
            f"guess has {uniform:.2f}"
        )
    return None
