"""Whether a saved state is one that a run can go on from: its own, or of a run that begins like
it.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache

import torch

from llmscale.measure.ops import build_operations
from llmscale.measure.train.checkpoint import Checkpoint
from llmscale.measure.train.job import Job
from llmscale.measure.transformer import empty_model
from llmscale.runs.log import is_row
from llmscale.runs.shape import Shape

Objection = Callable[[Checkpoint], str | None]
"""Why a state cannot be gone on from, or None where it can."""


def own_state(job: Job) -> Objection:
    """The objection to what should be a checkpoint of `job`."""

    def objection(state: Checkpoint) -> str | None:
        if state.run_id not in (None, job.run_id):
            return f"is of run {state.run_id}, not of {job.run_id}"
        return _unusable(state, job)

    return objection


def first_steps(job: Job) -> Objection:
    """The objection to what should be the state of a run that begins like `job`."""

    def objection(state: Checkpoint) -> str | None:
        if state.beginning not in (None, beginning_of(job)):
            return f"is of run {state.parent}, which does not begin like {job.run_id}"
        return _unusable(state, job)

    return objection


def beginning_of(job: Job) -> str:
    """A digest of what decides the first steps of `job`."""
    return hashlib.sha256(json.dumps(asdict(job.beginning), sort_keys=True).encode()).hexdigest()


def _unusable(state: Checkpoint, job: Job) -> str | None:
    """Why nothing of this shape and length can go on from it: older files do not say whose they
    are.
    """
    if not (isinstance(state.step, int) and 0 < state.step < job.steps):
        return f"is of step {state.step}, and run {job.run_id} has {job.steps}"
    wanted = _shapes(job.shape, job.parametrization)
    found = {name: getattr(weight, "shape", None) for name, weight in state.model.items()}
    if found != wanted:
        return (
            f"is of a model of another shape than {job.shape.name}, which run {job.run_id} trains"
        )
    if not isinstance(state.curve, list) or not all(map(is_row, state.curve)):
        return "holds no curve that can be read"
    return None


@lru_cache(maxsize=64)
def _shapes(shape: Shape, parametrization: str) -> dict[str, torch.Size]:
    """The weights of a model by name, from one that is built without memory."""
    with torch.device("meta"):
        model = empty_model(shape, parametrization, build_operations("plain", "float32"))
    return {name: weight.shape for name, weight in model.state_dict().items()}
