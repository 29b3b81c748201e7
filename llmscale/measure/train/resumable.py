"""The states that runs go on from: their own, or one of a run that begins like them.

A state is gone on from only if nothing speaks against it: its file is whole, it is of this run (or
of one with the same first steps), and of a model of this shape."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from llmscale.errors import WorkError
from llmscale.errors.command_lines import command_line
from llmscale.measure.ops import build_operations
from llmscale.measure.train.checkpoint import Checkpoint, DamagedError, read_checkpoint
from llmscale.measure.train.curves import Member
from llmscale.measure.train.job import Job
from llmscale.measure.train.sharded_checkpoint import load_sharded, read_sharded, take_over
from llmscale.measure.train.stack import Stack, stack_optimizers
from llmscale.measure.transformer import LanguageModel, empty_model
from llmscale.menu import is_own
from llmscale.runs.log import is_row
from llmscale.runs.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT
from llmscale.runs.shape import Shape

Objection = Callable[[Checkpoint], str | None]
"""Why a state cannot be gone on from, or None if it can."""
Warn = Callable[[str], None]


@dataclass(frozen=True)
class SavedState:
    """A state, and the file or the folder that holds it."""

    path: Path
    checkpoint: Checkpoint

    @property
    def sharded(self) -> bool:
        """Whether several processes wrote it: a folder, of whose tensors only shapes are read."""
        return self.path.is_dir()


def saved_states(members: Sequence[Member], warn: Warn) -> list[SavedState]:
    """The state of each member to go on from, or none of any; `warn` is told what is damaged.

    One run takes the latest of its own checkpoint, its branch point and a checkpoint of several
    processes. Those of a stack go on from the last step after which each has a checkpoint."""
    if len(members) > 1:
        step = _common_step(members)
        own = [load_checkpoint(member.folder, member.job, warn, step) for member in members]
        return [state for state in own if step and state]
    (member,) = members
    found = [load_checkpoint(member.folder, member.job, warn)]
    if member.start is not None:
        found.append(_load_branch_point(member.start, member.job, warn))
    sharded = read_sharded(member.folder, warn, partial(_not_own, member.job))
    if sharded is not None:
        found.append(SavedState(*sharded))
    states = [state for state in found if state is not None]
    # Of equally late ones the first: a whole one of its own is read fastest.
    return sorted(states, key=lambda state: -state.checkpoint.step)[:1]


def can_stack(members: Sequence[Member]) -> bool:
    """Whether the members can train as one stack: alike but for the seed, and after one step."""
    alike = len({replace(member.job.unnamed, seed=0) for member in members}) == 1
    finetuning = members[0].job.finetuning
    if is_own(members[0].job.optimizer) or (finetuning and finetuning.low_rank):
        return False  # what it does with a whole weight, it would do with those of all seeds
    if members[0].job.distillation is not None:
        return False
    return alike and _common_step(members) is not None


def load_states(
    saved: Sequence[SavedState], model: LanguageModel | Stack, optimizer: torch.optim.Optimizer
) -> None:
    """Have the model and its optimiser go on from these states. Raises WorkError."""
    first = saved[0]
    if first.sharded:
        load_sharded(first.path, model, optimizer)
        return
    checkpoints = [state.checkpoint for state in saved]
    try:
        if isinstance(model, Stack):
            model.load_members([checkpoint.model for checkpoint in checkpoints])
            every = stack_optimizers([checkpoint.optimizer for checkpoint in checkpoints])
            optimizer.load_state_dict(every)
        else:
            take_over(first.checkpoint, model, optimizer)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        paths = ", ".join(str(state.path) for state in saved)
        raise WorkError(
            f"{paths} does not hold the state of this run: {type(error).__name__}: {reason}",
            f"remove it to go on without it: {command_line('rm', *(s.path for s in saved))}",
        ) from error


def load_checkpoint(
    folder: Path, job: Job, warn: Warn = lambda text: None, step: int | None = None
) -> SavedState | None:
    """The last whole checkpoint of `job` in its folder, or the one after `step` steps; None if
    there is none.

    Says by `warn` which are damaged or of something else, and what is done about it."""
    damaged = []
    for path in (folder / CHECKPOINT, folder / PREVIOUS_CHECKPOINT):
        try:
            checkpoint = _read(path, partial(_not_own, job))
        except DamagedError as error:
            damaged.append(str(error))
            continue
        if checkpoint is not None and step in (None, checkpoint.step):
            if damaged:
                goes_on = f"the run goes on from {path.name}, after step {checkpoint.step}"
                warn(f"{damaged[0]}; {goes_on}")
            return SavedState(path, checkpoint)
    if damaged:
        warn(f"{', and '.join(damaged)}; the run starts from its beginning")
    return None


def branch_point_of(state: Checkpoint, job: Job) -> Checkpoint:
    """The state of `job`, for runs that begin like it."""
    return replace(
        state,
        parent=job.run_id,
        parent_step=state.step,
        parent_seconds=state.seconds,
        beginning=_beginning_of(job),
    )


def _load_branch_point(path: Path, job: Job, warn: Warn) -> SavedState | None:
    """The state that a run which begins like `job` saved at `path`; None if it is missing or, as
    `warn` says, cannot be gone on from."""
    checkpoint = None
    try:
        checkpoint = _read(path, partial(_no_beginning, job))
    except DamagedError as error:
        warn(f"{error}; the run trains all its steps itself")
    return SavedState(path, checkpoint) if checkpoint else None


def _common_step(members: Sequence[Member]) -> int | None:
    """The last step after which every run has a checkpoint, 0 if none has any; None if there is
    no such step.

    A process that was killed while it saved leaves some runs with a new checkpoint, and all with
    the one before."""
    steps = [_saved_steps(member) or [0] for member in members]
    return max(set(steps[0]).intersection(*steps), default=None)


def _saved_steps(member: Member) -> list[int]:
    """The steps after which the run's whole checkpoints were saved. Their tensors are not read."""
    steps = []
    for path in (member.folder / CHECKPOINT, member.folder / PREVIOUS_CHECKPOINT):
        with suppress(DamagedError):
            checkpoint = _read(path, partial(_not_own, member.job), mmap=True)
            if checkpoint is not None:
                steps.append(checkpoint.step)
    return steps


def _read(path: Path, objection: Objection, mmap: bool = False) -> Checkpoint | None:
    """As read_checkpoint; raises DamagedError also if there is an objection."""
    checkpoint = read_checkpoint(path, mmap)
    if checkpoint is not None and (problem := objection(checkpoint)):
        raise DamagedError(f"{path} {problem}")
    return checkpoint


def _not_own(job: Job, state: Checkpoint) -> str | None:
    """The objection to what should be a checkpoint of `job`."""
    if state.run_id not in (None, job.run_id):
        return f"is of run {state.run_id}, not of {job.run_id}"
    return _unusable(job, state)


def _no_beginning(job: Job, state: Checkpoint) -> str | None:
    """The objection to what should be the state of a run that begins like `job`."""
    if state.beginning not in (None, _beginning_of(job)):
        return f"is of run {state.parent}, which does not begin like {job.run_id}"
    return _unusable(job, state)


def _beginning_of(job: Job) -> str:
    """A digest of what decides the first steps of `job`."""
    return hashlib.sha256(json.dumps(asdict(job.beginning), sort_keys=True).encode()).hexdigest()


def _unusable(job: Job, state: Checkpoint) -> str | None:
    """Why nothing of this shape and length can go on from it: older files do not say whose."""
    if not (isinstance(state.step, int) and 0 < state.step < job.steps):
        return f"is of step {state.step}, and run {job.run_id} has {job.steps}"
    wanted = shapes_of_weights(job.shape, job.parametrization)
    found = {name: getattr(weight, "shape", None) for name, weight in state.model.items()}
    if found != wanted:
        trained = f"{job.shape.name}, which run {job.run_id} trains"
        return f"is of a model of another shape than {trained}"
    if not isinstance(state.curve, list) or not all(map(is_row, state.curve)):
        return "holds no curve that can be read"
    return None


@lru_cache(maxsize=64)
def shapes_of_weights(shape: Shape, parametrization: str) -> Mapping[str, torch.Size]:
    """The weights of a model by name, from one that is built without memory."""
    with torch.device("meta"):
        model = empty_model(shape, parametrization, build_operations("plain", "float32"))
    return {name: weight.shape for name, weight in model.state_dict().items()}
