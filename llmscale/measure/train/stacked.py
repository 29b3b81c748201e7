"""The training loop of a stack: runs that differ in their seed alone, trained as one batched
model.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmscale.measure.models import build_model
from llmscale.measure.ops import build_operations
from llmscale.measure.optimizers import allocate_state, build_optimizer, set_learning_rate
from llmscale.measure.train.async_values import Mark, Reading
from llmscale.measure.train.batches import Batches, Windows
from llmscale.measure.train.checkpoint import FILE_NAME, Checkpoint, load_checkpoint, saved_steps
from llmscale.measure.train.checkpoint_writer import Saver
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.evaluate import Evaluation, evaluate
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import Job
from llmscale.measure.train.loop import (
    UNREAD,
    Logged,
    Outcome,
    TrainingInterrupted,
    curve_point,
    divergence,
)
from llmscale.measure.train.memory import holding, keep_freed_memory, peak_memory
from llmscale.measure.train.resumable import own_state
from llmscale.measure.train.stack import Stack
from llmscale.runs.run import CurvePoint


def can_stack(jobs: Sequence[Job], folders: Sequence[Path]) -> bool:
    """Whether `train_stack` can train `jobs`: alike but for the seed, and with checkpoints after
    the same step.
    """
    alike = len({replace(job.unnamed, seed=0) for job in jobs}) == 1
    return alike and _common_step(jobs, folders) is not None


def _common_step(jobs: Sequence[Job], folders: Sequence[Path]) -> int | None:
    """The last step after which every run has a checkpoint, 0 where none has any; None where there
    is no such step.

    A process that was killed while it saved leaves some runs with a new checkpoint, and all with
    the one before."""
    steps = [
        saved_steps(folder, own_state(job)) or [0]
        for job, folder in zip(jobs, folders, strict=True)
    ]
    return max(set(steps[0]).intersection(*steps), default=None)


def train_stack(
    jobs: Sequence[Job],
    conditions: Conditions,
    train_tokens: np.ndarray,
    validation_tokens: np.ndarray,
    folders: Sequence[Path],
    report: Callable[[CurvePoint], None] = lambda point: None,
    stop: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = lambda text: None,
    *,
    begin: Callable[[str, Sequence[CurvePoint]], None] = lambda run_id, curve: None,
) -> list[Outcome]:
    """As `train`, of each job and its folder. A checkpoint is of one run, which may go on stacked
    or alone.

    A pass takes `conditions.micro_batch` sequences of each member.

    `seconds` and speed are of the whole stack, shared out evenly. A member that diverges is carried
    along to the end."""
    job, device = jobs[0], conditions.device
    context = job.shape.context
    keep_freed_memory()
    text = Windows(
        train_tokens[: job.text_tokens], context, device, vocab_size=job.shape.vocab_size
    )
    texts = [Batches(text, context, one.seed, device, job.shuffled_sequences) for one in jobs]
    validation = Windows(validation_tokens, context, device, vocab_size=job.shape.vocab_size)
    ops = build_operations("plain", job.dtype)
    schedule = job.learning_rates()
    evaluated_steps = job.evaluated_steps

    step = _common_step(jobs, folders)
    found = [
        load_checkpoint(folder, warn, step, own_state(one))
        for one, folder in zip(jobs, folders, strict=True)
    ]
    saved = [state for state in found if state]
    with holding(job.shape):
        models = [build_model(job.shape, one.seed, job.parametrization, ops) for one in jobs]
        model = Stack(models).to(device)
        optimizer = build_optimizer(
            job.optimizer,
            model,
            lr=job.lr,
            beta2=job.beta2,
            weight_decay=job.weight_decay,
            dtype=job.dtype,
            compile=conditions.compile,
        )
        if step:
            model.load_members([state.model for state in saved])
            optimizer.load_state_dict(_stacked([state.optimizer for state in saved]))
        else:
            allocate_state(optimizer)
    passes = Passes(
        model,
        conditions.micro_batch,
        compile=conditions.compile,
        evaluation_batch=conditions.evaluation_batch,
    )

    curves: list[list[CurvePoint]] = [[] for _ in jobs]
    problems: list[str | None] = [None for _ in jobs]
    first_step, seconds_before, steps_summed = 0, 0.0, 0
    loss_sums = torch.zeros(len(jobs), device=device)
    if step:
        curves = [[CurvePoint(**row) for row in state.curve] for state in saved]
        first_step, seconds_before, steps_summed = (
            saved[0].step,
            saved[0].seconds,
            saved[0].steps_summed,
        )
        loss_sums += torch.tensor([state.loss_sum for state in saved], device=device)
        passes.go_on_with(saved)
    del found, saved
    for one, of_one in zip(jobs, curves, strict=True):
        begin(one.run_id, of_one)
    started, since = time.perf_counter(), Mark(device)
    sequences_timed = 0
    logged: list[Logged] = []
    evaluations: list[Evaluation] = []
    saver = Saver(conditions.checkpoint_seconds)

    def seconds() -> float:
        return seconds_before + (time.perf_counter() - started) / len(jobs)

    def save(step: int) -> None:
        states = []
        for member, folder in enumerate(folders):
            rows = [asdict(point) for point in curves[member]]
            tensors = model.member(member), _member(optimizer.state_dict(), member)
            state = Checkpoint(step, seconds(), *tensors, rows, loss_sums[member], steps_summed)
            own = replace(state, **passes.reduced_to, run_id=jobs[member].run_id)
            states.append((folder / FILE_NAME, own))
        saver.save(states)

    def all_diverged(unread: int = 0) -> bool:
        """Read and report logged steps, but for the last `unread` ones; whether no member is
        left.
        """
        nonlocal evaluations, since
        while len(logged) > unread:
            one = logged.pop(0)
            losses, grad_norms = one.numbers.values()
            speed = one.sequences_per_second * context * len(jobs)
            evaluating = one.step in evaluated_steps
            if evaluating:
                evaluations = evaluate(passes, validation)
                since = Mark(device)
            for member, of_member in enumerate(jobs):
                if problems[member]:
                    continue
                evaluation = evaluations[member] if evaluating else None
                numbers = (
                    losses[member] / one.steps,
                    evaluation,
                    one.lr,
                    grad_norms[member],
                    speed,
                    seconds(),
                )
                point = curve_point(of_member, one.step, *numbers)
                curves[member].append(point)
                report(point)
                problems[member] = divergence(point, of_member)
            if all(problems):
                return True
        return False

    with saver:
        for step in range(first_step, job.steps):
            first = step * job.batch_sequences
            count = min(job.batch_sequences, job.sequences - first)
            lr = job.lr * schedule.fraction(step)
            set_learning_rate(optimizer, lr)
            inputs_BST, targets_BST = _side_by_side([text.read(first, count) for text in texts])
            loss_sums += passes.gradient(inputs_BST, targets_BST)
            grad_norms = model.clip_gradient(job.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            steps_summed += 1
            sequences_timed += count

            done = step + 1
            if done in evaluated_steps or done % job.log_every == 0:
                numbers = Reading(loss_sums, grad_norms)
                logged.append(Logged(done, lr, steps_summed, sequences_timed, since, numbers))
                since = numbers.mark
                loss_sums.zero_()
                steps_summed = sequences_timed = 0
                if all_diverged(unread=0 if done in evaluated_steps else UNREAD[device]):
                    break

            if done < job.steps:
                asked_to_stop = stop()
                if asked_to_stop or saver.due:
                    if all_diverged():
                        break
                    save(done)
                if asked_to_stop:
                    saver.wait()
                    raise TrainingInterrupted
                saver.check()
    memory, spent = peak_memory(device), seconds()
    return [
        Outcome(
            "diverged" if problem else "done",
            tuple(curve),
            None if problem else evaluations[member],
            spent,
            memory,
            problem,
        )
        for member, (curve, problem) in enumerate(zip(curves, problems, strict=True))
    ]


def _side_by_side(batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all members, (B, S, T)."""
    inputs, targets = (torch.stack(of_members, dim=1) for of_members in zip(*batches, strict=True))
    return inputs, targets


def _member(state: dict[str, Any], member: int) -> dict[str, Any]:
    """One member's part of an optimiser's state: of all but the count of steps, which they
    share.
    """
    tensors = {
        number: {name: value[member] if value.dim() else value for name, value in of_weight.items()}
        for number, of_weight in state["state"].items()
    }
    return {**state, "state": tensors}


def _stacked(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The other way round."""
    tensors = {
        number: {
            name: torch.stack([state["state"][number][name] for state in states])
            if value.dim()
            else value
            for name, value in of_weight.items()
        }
        for number, of_weight in states[0]["state"].items()
    }
    return {**states[0], "state": tensors}
