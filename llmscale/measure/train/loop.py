"""The training loop: one function, from jobs and tokens to losses.

It trains one run, or a stack of runs that differ in their seed only, as one batched model: for a
GPU, which a small model leaves idle most of the time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from llmscale.errors import WorkError
from llmscale.measure.ops import Operations, build_operations, pick_operations
from llmscale.measure.optimizers import allocate_state, build_optimizer, set_learning_rate
from llmscale.measure.train.async_values import Mark, Reading
from llmscale.measure.train.batches import Batches, Windows, read_side_by_side
from llmscale.measure.train.checkpoint import Checkpoint
from llmscale.measure.train.checkpoint_writer import Saver
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Curves, Logged, Member, Outcome
from llmscale.measure.train.evaluate import evaluate
from llmscale.measure.train.examples import Examples, open_text
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import Job
from llmscale.measure.train.kept_weights import begin_with, for_keeping, read_weights
from llmscale.measure.train.low_rank_optimizer import build_low_rank
from llmscale.measure.train.memory import holding, keep_freed_memory, peak_memory
from llmscale.measure.train.processes import ALONE, Processes, is_sharded
from llmscale.measure.train.resumable import SavedState, load_states, saved_states
from llmscale.measure.train.stack import Stack, tensors_of_members
from llmscale.measure.train.teacher import Teacher, read_teacher
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.run import CurvePoint

UNREAD = {"cpu": 0, "cuda": 1}
"""Logged steps that stay unread until a later one is logged: so the host runs ahead of a GPU."""


@dataclass(frozen=True)
class Listener:
    """Who hears of training while it lasts, and may end it."""

    begin: Callable[[Mapping[str, Sequence[CurvePoint]]], None] = lambda logged: None
    """Called once, with what each run has logged before, by run id: not what its parent has."""
    report: Callable[[CurvePoint], None] = lambda point: None
    """Called with each logged step."""
    warn: Callable[[str], None] = lambda text: None
    """Called if what was saved is damaged."""
    stop: Callable[[], bool] = lambda: False
    """Asked after each step whether to save a checkpoint and end."""


SCORED_SEQUENCES = 64
"""Of the validation text, on which an architecture measures more than a loss, at most."""
NOBODY = Listener()


class TrainingInterrupted(Exception):  # noqa: N818 - it is a wish, not a mistake
    """Training stopped because it was asked to; the checkpoint holds the rest."""


def train(
    members: Sequence[Member],
    conditions: Conditions,
    train_tokens: np.ndarray,
    validation_tokens: np.ndarray,
    listener: Listener = NOBODY,
    processes: Processes = ALONE,
    validation_parts: Mapping[str, range] | None = None,
) -> list[Outcome]:
    """Train one run, or several that `resumable.can_stack` as one model, from what is saved on.

    A run goes on from the last checkpoint in its folder or, if that is later, from its branch
    point: then that run's rows begin its curve, and the first row after them is over all steps
    since the last. A pass takes `conditions.micro_batch` sequences of each member. All `processes`
    of a run call this, and each gets the same outcomes. `validation_parts` are windows of the
    validation text whose losses are wanted, too. Raises TrainingInterrupted."""
    job, device = members[0].job, conditions.device  # members have all but the seed in common
    keep_freed_memory()
    context, vocab_size = job.shape.context, job.shape.vocab_size
    text = open_text(train_tokens[: job.text_length], context, device, vocab_size)
    seeds, part = [member.job.seed for member in members], job.shuffled_sequences
    texts = [Batches(text, context, seed, device, part) for seed in seeds]
    validation = open_text(validation_tokens, context, device, vocab_size)
    saved = saved_states(members, listener.warn)
    model, optimizer = _build(members, conditions, processes, saved)
    begun = [replace(state.checkpoint, model={}, optimizer={}) for state in saved]
    begun = begun or [Checkpoint.before_any_step()] * len(members)
    del saved  # the model and the optimiser hold its tensors now
    passes = _passes(members[0], model, conditions, processes)
    passes.go_on_with(begun)
    curves = Curves(members, begun, listener.report)
    listener.begin(curves.own_points())

    schedule, evaluated_steps, log_every = job.learning_rates(), job.evaluated_steps, job.log_every
    loss_sums = torch.tensor([state.loss_sum / processes.size for state in begun], device=device)
    steps_summed, sequences_timed, since = begun[0].steps_summed, 0, Mark(device)
    with Saver(conditions.checkpoint_seconds, processes) as saver:
        for step in range(begun[0].step, job.steps):
            first = step * job.batch_sequences
            count = min(job.batch_sequences, job.sequences - first)  # the last batch may be smaller
            before, own = processes.part(count)
            lr = job.lr * schedule.fraction(step)
            set_learning_rate(optimizer, lr)
            inputs, targets = read_side_by_side(texts, first + before, own)
            loss_sums += passes.gradient(inputs, targets, whole=count)
            grad_norms = model.clip_gradient(job.clip)  # of each member (Pascanu et al. 2013)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # an evaluation may have their memory
            steps_summed += 1
            sequences_timed += count

            done = step + 1
            if done in evaluated_steps or done % log_every == 0:
                # On a GPU the host waits for no number here, but reads it when the next is logged:
                # else the GPU would stand still until the host has queued the next step.
                numbers = Reading(processes.sum(loss_sums.clone()), grad_norms)
                logged = Logged(done, lr, steps_summed, sequences_timed, since, numbers)
                since, unread = numbers.mark, UNREAD[device]
                loss_sums.zero_()
                steps_summed = sequences_timed = 0
                if done in evaluated_steps:
                    logged = replace(
                        logged, evaluations=evaluate(passes, validation, validation_parts)
                    )
                    since, unread = Mark(device), 0  # evaluating has waited for all numbers
                curves.add(logged)
                if curves.all_diverged(unread):
                    break

            if done == job.steps:
                break
            asked_to_stop, due = processes.any(listener.stop(), saver.due)
            branching = any(done in member.branch_points for member in members)
            if asked_to_stop or due or branching:
                if curves.all_diverged():  # which is not worth a checkpoint
                    break
                states = curves.states(done, steps_summed, processes.sum(loss_sums.clone()))
                states = _with_tensors(states, model, optimizer, passes)
                if branching:
                    saver.save_branch_points(members, states)
                if asked_to_stop or due:
                    saver.save_runs(members, states)
            if asked_to_stop:
                saver.wait()
                raise TrainingInterrupted
            saver.check()
    outcomes = _with_scores(curves.outcomes(peak_memory(device)), model, validation, passes)
    return _with_weights(outcomes, members, model, optimizer)


def _passes(
    member: Member, model: LanguageModel | Stack, conditions: Conditions, processes: Processes
) -> Passes:
    """The passes of a model, with the teacher of its run if it has one."""
    return Passes(
        model,
        conditions.micro_batch,
        threads=conditions.threads,
        compile=conditions.compile,
        processes=processes,
        evaluation_batch=conditions.evaluation_batch,
        masked=member.job.finetuning is not None,
        teacher=_teacher_of(member, model.ops, conditions.device),
    )


def _teacher_of(member: Member, ops: Operations, device: str) -> Teacher | None:
    if member.job.distillation is None:
        return None
    if member.teacher is None:
        raise WorkError(f"run {member.job.run_id} has no teacher", "plan the sweep again")
    return read_teacher(member.teacher, member.job.distillation, ops, device)


def _with_tensors(
    states: Sequence[Checkpoint],
    model: LanguageModel | Stack,
    optimizer: torch.optim.Optimizer,
    passes: Passes,
) -> list[Checkpoint]:
    """`states`, each with its member's weights and optimiser, and the passes' own values."""
    tensors, reduced = tensors_of_members(model, optimizer), passes.reduced_to
    return [replace(state, **own, **reduced) for state, own in zip(states, tensors, strict=True)]


@torch.no_grad()
def _with_scores(
    outcomes: Sequence[Outcome],
    model: LanguageModel | Stack,
    validation: Windows | Examples,
    passes: Passes,
) -> Sequence[Outcome]:
    """`outcomes` with what the architecture measures of one whole model that is done, on the first
    of the validation text."""
    (first, *others) = outcomes
    if isinstance(model, Stack) or is_sharded(model) or first.status != "done":
        return outcomes
    count = min(SCORED_SEQUENCES, passes.evaluated_at_a_time, len(validation))
    tokens_BT, _ = validation.read(validation.order(np.arange(count)))
    scores = model.architecture.scores(model, tokens_BT)
    return [replace(first, scores=scores), *others]


def _with_weights(
    outcomes: Sequence[Outcome],
    members: Sequence[Member],
    model: LanguageModel | Stack,
    optimizer: torch.optim.Optimizer,
) -> list[Outcome]:
    """`outcomes`, each with the last weights of its run if they are wanted."""
    if not any(member.keep for member in members):
        return list(outcomes)
    found = []
    learnt = tensors_of_members(model, optimizer)
    for outcome, member, own in zip(outcomes, members, learnt, strict=True):
        if member.keep and outcome.status == "done":
            outcome = replace(outcome, weights=for_keeping(own["model"], member.keep))
        found.append(outcome)
    return found


def _build(
    members: Sequence[Member],
    conditions: Conditions,
    processes: Processes,
    saved: Sequence[SavedState],
) -> tuple[LanguageModel | Stack, torch.optim.Optimizer]:
    """The model of one run or of a stack and its optimiser, as they were saved or as new."""
    job, device, name = members[0].job, conditions.device, conditions.ops
    # torch compiles plain operations, and batches them for a stack; and only their gradients are
    # summed up over processes.
    if conditions.compile or processes.size > 1 or len(members) > 1:
        name = "plain"
    elif name == "auto":
        name = pick_operations(device)
    ops = build_operations(name, job.dtype)
    with holding(job.shape):
        model: LanguageModel | Stack
        if len(members) == 1:
            model = processes.build(job, ops, device, conditions.shard)
        else:
            seeds = [member.job.seed for member in members]
            each = [build_model(job.shape, seed, job.parametrization, ops) for seed in seeds]
            model = Stack(each).to(device)
        if members[0].initial is not None and not saved:
            begin_with(read_weights(members[0].initial, job.shape, job.parametrization), model)
        optimizer = _build_optimizer(job, model, conditions.compile)
        if saved:
            load_states(saved, model, optimizer)
        else:
            allocate_state(optimizer)
    return model, optimizer


def _build_optimizer(
    job: Job, model: LanguageModel | Stack, compile: bool
) -> torch.optim.Optimizer:
    """That of all weights, or of adapters only."""
    settings = {"lr": job.lr, "beta2": job.beta2, "weight_decay": job.weight_decay}
    if job.finetuning is not None and job.finetuning.low_rank is not None:
        assert isinstance(model, LanguageModel)  # seeds with adapters are not stacked
        return build_low_rank(model, job.finetuning.low_rank, seed=job.seed, **settings)
    return build_optimizer(job.optimizer, model, dtype=job.dtype, compile=compile, **settings)
