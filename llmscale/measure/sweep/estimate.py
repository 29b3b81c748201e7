"""How long runs take here, before they are trained: what is left at this device's speed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmscale.machine import can_compile
from llmscale.measure.sweep.batches import Batches
from llmscale.measure.sweep.remaining import work_left
from llmscale.measure.train.job import EVALUATION_SPEED, Job

if TYPE_CHECKING:
    from llmscale.measure.train.calibrate import Speeds

WORKER_SECONDS = {"cpu": 3.0, "cuda": 10.0}
"""From the start of a worker process to its first step: loading torch, and on a GPU its context."""
RUN_SECONDS = 0.3
"""What a run takes besides its steps: reading and writing its files."""
COMPILE_SECONDS = {"cpu": 60.0, "cuda": 20.0}
"""Compiling a block and the output, forward and backward, for training and evaluation."""
COMPILED_SAVES = {"cpu": 0.3, "cuda": 0.4}
"""Share of the time of an eager run that a compiled one does not take. On GPUs it is reckoned from
the bytes that fused operations do not move and the launches they save: 0.3 at 1M to 0.5 at 100M
parameters; it has not been measured."""
ASSUMED_FLOPS = {"cpu": 5e10, "cuda": 5e13}
"""FLOP/s of a device that is not here to be measured, to decide whether to compile."""


@dataclass(frozen=True)
class Estimate:
    """How fast one thread or one GPU trains and evaluates, not compiled."""

    device: str
    speeds: "Mapping[str, Speeds] | None"
    """Measured, by optimiser; None if the device is not here."""
    validation_tokens: int

    def seconds(self, job: Job, step: int) -> float:
        """What is left of a run after `step` steps takes."""
        speed = ASSUMED_FLOPS[self.device] / job.shape.flops_per_token
        if self.speeds is not None:
            speed = self._speeds(job).tokens_per_second(job.shape)
        # Of the teacher each token takes a forward pass.
        speed /= 1 + job.teacher_flops / job.flops
        return work_left(job, step).seconds(speed, self.evaluation_seconds(job))

    def evaluation_seconds(self, job: Job) -> float:
        """Reading the validation text once takes."""
        if self.speeds is not None:
            return self.validation_tokens / self._speeds(job).evaluated_per_second(job.shape)
        speed = ASSUMED_FLOPS[self.device] / job.shape.flops_per_token
        return self.validation_tokens / (EVALUATION_SPEED * speed)

    def _speeds(self, job: Job) -> "Speeds":
        assert self.speeds is not None
        return self.speeds.get(job.optimizer) or next(iter(self.speeds.values()))


def measure_speeds_of(
    jobs: Sequence[Job], batches: Mapping[str, Batches], device: str, dtype: str
) -> "dict[str, Speeds]":
    """By optimiser the speed of a thread, or of a GPU, which another process measures."""
    from llmscale.measure.train.calibrate import measure_in_child, measure_speeds

    measure = measure_in_child if device == "cuda" else measure_speeds
    found = {}
    for optimizer in dict.fromkeys(job.optimizer for job in jobs):
        alike = [job for job in jobs if job.optimizer == optimizer]
        by_shape = {job.shape: batches[job.run_id].micro for job in alike}
        found[optimizer] = measure(by_shape, device, dtype, optimizer)
    return found


def is_here(device: str) -> bool:
    """Whether this machine has the device, to measure it by."""
    import torch

    return device == "cpu" or torch.cuda.is_available()


def compiling_seconds(
    jobs: Sequence[Job],
    eager_seconds: Callable[[Job], float],
    batches: Mapping[str, Batches],
    asked: str,
    ops: str,
    device: str,
) -> dict[str, float]:
    """Which of `jobs` are compiled, and each one's share of the seconds that this takes, by run id.

    Code is compiled once for all runs of equal shape and batch, if it saves more time than it
    takes."""
    cannot = ops != "plain" or (is_here(device) and not can_compile(device))
    if asked == "never" or (asked == "auto" and cannot):
        return {}
    alike: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        members = batches[job.run_id].members
        kind = (job.shape, job.batch_sequences, job.dtype, job.optimizer, members)
        alike.setdefault(kind, []).append(job)
    shares: dict[str, float] = {}
    for group in alike.values():
        saved = COMPILED_SAVES[device] * sum(map(eager_seconds, group))
        if asked == "always" or saved > COMPILE_SECONDS[device]:
            shares |= {job.run_id: COMPILE_SECONDS[device] / len(group) for job in group}
    return shares
