"""The plan of a sweep: which runs, what each costs, and how long all take on this device."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmscale.errors import Note
from llmscale.machine import available_cores, available_memory, can_compile, find_gpu
from llmscale.measure.executors import Place
from llmscale.measure.optimizers import state_bytes
from llmscale.measure.sweep.devices import Duration, allot_places, makespan, slowdown, speedup
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.jobs import jobs_of, sweep_dtype, with_retries
from llmscale.measure.sweep.notes import plan_notes
from llmscale.measure.sweep.remaining import Work, work_left
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.trunks import BranchPoint, Descent, descents, sharing_recipes
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.gpu_memory import MEMORY_SHARE, memory_per_gpu
from llmscale.measure.train.job import EVALUATION_SPEED, Job
from llmscale.quantity import format_count
from llmscale.runs.columns import fields_from
from llmscale.runs.run import Run
from llmscale.runs.shape import Shape

if TYPE_CHECKING:
    from llmscale.measure.train.calibrate import Speeds

CPU_MICRO_BATCH_TOKENS = 4096
GPU_MICRO_BATCH_TOKENS = 131_072
"""Tokens of a pass, at most; of a stack, those of all its members together."""
GPU_EVALUATION_TOKENS = 131_072
"""Tokens of an evaluation's pass on a GPU, at most.

On a CPU they are training's, which suit its caches.
"""
GPU_MEMORY_SHARE = 0.7
WORKER_SECONDS = {"cpu": 3.0, "cuda": 10.0}
"""From the start of a worker process to its first step: loading torch, and on a GPU its context."""
RUN_SECONDS = 0.3
"""What a run takes besides its steps: reading and writing its files."""
COMPILE_SECONDS = {"cpu": 60.0, "cuda": 20.0}
"""Compiling one block, the output and their backward passes, for training and evaluation, once a
shape.
"""
COMPILED_SAVES = {"cpu": 0.3, "cuda": 0.4}
"""Share of the time of an eager run that a compiled one does not take. On GPUs it is reckoned from
the bytes that fused operations do not move and the launches they save: 0.3 at 1M to 0.5 at 100M
parameters; it has not been measured."""
ASSUMED_FLOPS = {"cpu": 5e10, "cuda": 5e13}
"""FLOP/s of eager training on a device that is not here to be measured, to decide whether to
compile.
"""
STACKED_PARAMS = 20e6
"""Models of at most so many weights leave a GPU idle most of the time: seeds of one are stacked,
and several runs share it."""


@dataclass(frozen=True)
class PlannedRun:
    """A job and how it will be run here."""

    job: Job
    micro_batch: int
    compile: bool
    ops: str
    """`plain` or `native`, of ops/."""
    threads: int
    """CPU threads that can share a batch, at most."""
    memory_bytes: int
    seconds: float
    """Estimated time on one place, evaluation included, for what is trained of it here."""
    finished: bool
    """Whether the results folder holds this run already."""
    reached: int = 0
    """Steps of it that an earlier command has trained, and saved."""
    descent: Descent = field(default_factory=Descent)
    shard: str = "never"
    """Where several GPUs keep the weights: whole on each, or shared out (`always`)."""
    evaluation_batch: int | None = None
    """Sequences in one pass of an evaluation; None: as many as in training."""
    members: int = 1
    """Seeds that are trained as one model with this one, at most, itself included."""
    evaluation_seconds: float = 0.0
    """Estimated time that it takes to read the validation text once."""

    @property
    def left(self) -> Work:
        """What is still to be done of it here: where it branches off another run, after the branch
        point.
        """
        return Work(0, 0) if self.finished else work_left(self.job, self.first_step)

    @property
    def first_step(self) -> int:
        """Steps that are trained already, or that another run trains."""
        return max(self.descent.step, self.reached)

    @property
    def own_flops(self) -> float:
        """Training FLOPs of all its own steps, trained already or not."""
        return float(work_left(self.job, self.descent.step).tokens) * self.job.shape.flops_per_token

    @property
    def origin(self) -> str:
        """Which other run its first steps come from, and how many are trained, in words."""
        parent = self.descent.parent
        branch = [f"branch of {format_count(parent.tokens)}"] if parent else []
        begun = [f"{self.reached / self.job.steps:.0%} trained"] if self.is_begun else []
        return ", ".join(branch + begun)

    @property
    def is_begun(self) -> bool:
        """Whether an earlier command has trained some of its own steps, and not all."""
        return not self.finished and self.reached > self.descent.step

    @property
    def trained_flops(self) -> float:
        """Training FLOPs of what is left of it."""
        return float(self.left.tokens) * self.job.shape.flops_per_token

    def to_json(self) -> dict[str, Any]:
        job = self.job
        return {
            **fields_from(Run, job, job.shape),
            "shape": job.shape.name,
            "epochs": job.epochs,
            "trained_flops": self.trained_flops,
            "parent": self.descent.parent.run_id if self.descent.parent else None,
            "memory_bytes": self.memory_bytes,
            "estimated_seconds": self.seconds,
            "finished": self.finished,
            "trained_steps": self.job.steps if self.finished else self.first_step,
            "evaluations": self.left.evaluations,
            "compiled": self.compile,
            "ops": self.ops,
            "stacked": self.members,
        }


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep by growing size, where they will run, and what they cost."""

    runs: tuple[PlannedRun, ...]
    places: tuple[Place, ...]
    device: str
    dtype: str
    peak_flops: float
    notes: tuple[Note, ...]
    speeds: "Mapping[str, Speeds] | None" = None
    """By optimiser: what the estimates follow from, to plan more runs by."""
    hardware: Hardware = field(default_factory=Hardware)
    dtype_reason: str = ""
    """Why `dtype`, in words."""

    @property
    def waiting(self) -> list[PlannedRun]:
        """The runs still to train, the longest first."""
        return sorted(
            (run for run in self.runs if not run.finished),
            key=lambda run: (-run.seconds, -run.trained_flops),
        )

    @property
    def seconds(self) -> float:
        """Estimated time until the last run ends; 0 where the device is not here to be measured."""
        if not self.waiting or self.speeds is None:
            return 0.0
        return WORKER_SECONDS[self.device] + makespan(_durations(self.waiting), len(self.places))

    @property
    def device_hours(self) -> float:
        """Estimated hours of work of GPUs, or on the CPU of cores, all runs still to train
        together.
        """
        cores = self.places[0].threads if self.device == "cpu" else self.hardware.gpus_per_run
        return sum(run.seconds for run in self.waiting) * cores / 3600

    @property
    def flops(self) -> float:
        """FLOPs of what is left to train: a trunk once, and the cooldowns that branch off it."""
        return sum(run.trained_flops for run in self.waiting)

    @property
    def saving(self) -> float:
        """How many times as many FLOPs the same runs take when each is trained from its first
        step.
        """
        return sum(run.job.flops for run in self.waiting) / self.own_flops if self.waiting else 1.0

    @property
    def own_flops(self) -> float:
        """As `flops`, with what earlier commands have trained of these runs."""
        return sum(run.own_flops for run in self.waiting)

    @property
    def together(self) -> list[tuple[PlannedRun, ...]]:
        """The runs still to train as tasks: each by itself, or the seeds of a size and budget that
        are stacked.
        """
        groups: dict[Job, list[PlannedRun]] = {}
        for run in self.waiting:
            alike = run.job.unnamed if run.members == 1 else _seedless(run.job)
            groups.setdefault(alike, []).append(run)
        return [part for group in groups.values() for part in _cut(group, group[0].members)]

    @property
    def ways(self) -> str:
        """How the runs still to train are trained, in words."""
        place = self.places[0]
        said = [f"{len(self.places)} at a time", f"{place.threads} threads each"]
        if place.memory_share < 1:
            said.append(f"{round(1 / place.memory_share)} to a GPU")
        compiled = sum(run.compile for run in self.waiting)
        if compiled:
            said.append(f"{compiled} compiled")
        native = sum(run.ops == "native" for run in self.waiting)
        if self.device == "cpu" and native != len(self.waiting):
            said.append(
                f"{native} by the compiled kernels" if native else "without the compiled kernels"
            )
        elif native:
            said.append("by the compiled kernels")
        stacked = sum(len(group) for group in self.together if len(group) > 1)
        if stacked:
            said.append(f"{stacked} stacked")
        return ", ".join(said)

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": [run.to_json() for run in self.runs],
            "device": self.device,
            "dtype": self.dtype,
            "dtype_reason": self.dtype_reason,
            "workers": len(self.places),
            "peak_flops": self.peak_flops,
            "flops": self.flops,
            "saving": self.saving,
            "estimated_seconds": self.seconds,
            "device_hours": self.device_hours,
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }


def plan_sweep(
    spec: SweepSpec,
    store: TokenStore,
    finished: Callable[[str], bool],
    tell: Callable[[str], None] = lambda text: None,
    saved: Sequence[BranchPoint] = (),
    diverged: Callable[[str], bool] = lambda run_id: False,
    speeds: "Mapping[str, Speeds] | None" = None,
    begun: str | None = None,
    reached: Callable[[str], int] = lambda run_id: 0,
) -> Plan:
    """Plan `spec`, measuring this device for a few seconds where `speeds` are not known.

    `finished(run_id)` says what is trained already, `saved` where runs have left their state for
    others to go on from, `diverged(run_id)` what has diverged, to be tried again where the sweep
    asks for it, `begun` the dtype of the runs that are there, `reached(run_id)` how many steps of a
    run need not be trained again."""
    dtype = sweep_dtype(spec, store, begun)
    settled = replace(spec, hardware=replace(spec.hardware, dtype=dtype.dtype))
    jobs = with_retries(jobs_of(settled, store), spec, diverged)
    sharing = sharing_recipes(spec)
    waiting = [job for job in jobs if job.recipe in sharing and not finished(job.run_id)]
    return plan_jobs(
        jobs, spec, store, finished, descents(waiting, saved), tell, speeds, dtype.reason, reached
    )


def plan_jobs(
    jobs: Sequence[Job],
    spec: SweepSpec,
    store: TokenStore,
    finished: Callable[[str], bool] = lambda run_id: False,
    descent: Mapping[str, Descent] | None = None,
    tell: Callable[[str], None] = lambda text: None,
    speeds: "Mapping[str, Speeds] | None" = None,
    dtype_reason: str = "",
    reached: Callable[[str], int] = lambda run_id: 0,
) -> Plan:
    """Plan `jobs` on the hardware of `spec`, measuring this device for a few seconds where `speeds`
    are not known.
    """
    from llmscale.measure.ops import pick_operations
    from llmscale.measure.train.batch_parts import part_sequences

    descent = descent or {}
    steps_reached = {job.run_id: min(reached(job.run_id), job.steps - 1) for job in jobs}
    waiting = [job for job in jobs if not finished(job.run_id)]
    device, gpus = spec.hardware.picked_device, spec.hardware.gpus_per_run
    dtype = jobs[0].dtype
    free = available_memory(device)
    members = _members(waiting, spec.hardware, descent, device, free)
    micro, evaluated = {}, {}
    for job in jobs:
        stacked = members.get(job.run_id, 1)
        state = state_bytes(job.optimizer, job.shape)
        micro[job.run_id] = micro_batch(
            job.shape, -(-job.batch_sequences // gpus), device, free, stacked, state
        )
        windows = store.validation_tokens // job.shape.context
        evaluated[job.run_id] = evaluation_batch(
            job.shape, micro[job.run_id], device, free, stacked, windows, state
        )
    memory = {
        job.run_id: _memory(
            job, micro[job.run_id], evaluated[job.run_id], device, members.get(job.run_id, 1)
        )
        for job in jobs
    }
    ops = pick_operations(device)
    fitting = [job for job in waiting if _can_be_timed(job.shape, device, free)]
    if fitting and speeds is None and _is_here(device):
        tell("measuring the speed of this device")
        speeds = {
            name: _measure(
                [job for job in fitting if job.optimizer == name], micro, device, dtype, name
            )
            for name in dict.fromkeys(job.optimizer for job in fitting)
        }

    def eager_seconds(job: Job) -> float:
        """What is left of a run, on one thread or GPU, not compiled."""
        left = work_left(
            job, max(descent.get(job.run_id, Descent()).step, steps_reached[job.run_id])
        )
        if speeds is None:
            return left.seconds(
                ASSUMED_FLOPS[device] / job.shape.flops_per_token, evaluation_seconds(job)
            )
        measured = speeds.get(job.optimizer) or next(iter(speeds.values()))
        return left.seconds(measured.tokens_per_second(job.shape), evaluation_seconds(job))

    def evaluation_seconds(job: Job) -> float:
        """Of one evaluation, likewise."""
        if speeds is None:
            speed = ASSUMED_FLOPS[device] / job.shape.flops_per_token
            return store.validation_tokens / (EVALUATION_SPEED * speed)
        measured = speeds.get(job.optimizer) or next(iter(speeds.values()))
        return store.validation_tokens / measured.evaluated_per_second(job.shape)

    compiled = _compiled(waiting, eager_seconds, members, spec.hardware.compile, ops, device)

    def planned(job: Job, threads: int) -> PlannedRun:
        most_threads = (
            -(-job.batch_sequences // part_sequences(job.shape))
            if ops == "native"
            else available_cores()
        )
        share = compiled.get(job.run_id)
        run = PlannedRun(
            job,
            micro[job.run_id],
            compile=share is not None,
            ops="plain" if share is not None else ops,
            threads=most_threads,
            memory_bytes=memory[job.run_id],
            seconds=0.0,
            finished=finished(job.run_id),
            reached=steps_reached[job.run_id],
            descent=descent.get(job.run_id, Descent()),
            shard=_shard(job, micro[job.run_id], gpus, free),
            evaluation_batch=evaluated[job.run_id],
            members=members.get(job.run_id, 1),
        )
        if speeds is None:
            return run
        faster = 1 / (speedup(min(threads, most_threads)) if device == "cpu" else gpus)
        if share is not None:
            faster *= 1 - COMPILED_SAVES[device]
        seconds = RUN_SECONDS + eager_seconds(job) * faster + (share or 0.0)
        return replace(run, seconds=seconds, evaluation_seconds=evaluation_seconds(job) * faster)

    most = int(
        min(0.8 * free // max((memory[job.run_id] for job in waiting), default=1), len(waiting))
    )
    # By FLOPs, not by measured times: the same sweep gets the same places, and so the same
    # rounding.
    costs = [replace(run, seconds=run.own_flops) for run in (planned(job, 1) for job in waiting)]
    tasks = dict.fromkeys((False, True), 0.0)
    for job in waiting:
        tasks[job.shape.params_total <= STACKED_PARAMS] += 1 / members.get(job.run_id, 1)
    small, large = math.ceil(tasks[True]), math.ceil(tasks[False])
    if device == "cuda" and _is_here(device) and not find_gpu().shared:
        most = 1
    places = allot_places(spec.hardware, max(1, most), device, _durations(costs), small, large)
    runs = tuple(planned(job, places[0].threads) for job in jobs)
    if device == "cuda":
        runs = tuple(replace(run, seconds=run.seconds * slowdown(places[0])) for run in runs)
    peak = next(iter(speeds.values())).peak_flops if speeds else 0.0
    notes = tuple(plan_notes(runs, spec, free, device))
    return Plan(runs, places, device, dtype, peak, notes, speeds, spec.hardware, dtype_reason)


def _is_here(device: str) -> bool:
    """Whether this machine has the device, to measure it by."""
    import torch

    return device == "cpu" or torch.cuda.is_available()


def _can_be_timed(shape: Shape, device: str, free_bytes: int) -> bool:
    """Whether the memory holds the two layers and one sequence by which the speed of `shape` is
    measured at least.
    """
    timed = replace(shape, n_layer=min(2, shape.n_layer))
    return timed.memory_bytes(1, activation_bytes(device)) <= GPU_MEMORY_SHARE * free_bytes


def micro_batch(
    shape: Shape,
    batch_sequences: int,
    device: str,
    free_bytes: int,
    members: int = 1,
    state: int | None = None,
) -> int:
    """Sequences in one pass: a power of two, at most the batch, that fits the memory and suits the
    device.

    Of a stack of `members` models each takes so many. `state` are the bytes of the optimiser's;
    None: of AdamW's.
    """
    limit = CPU_MICRO_BATCH_TOKENS if device == "cpu" else GPU_MICRO_BATCH_TOKENS
    room, width = GPU_MEMORY_SHARE * free_bytes / members, activation_bytes(device)
    sequences = 1
    while sequences * 2 <= min(batch_sequences, max(1, limit // (shape.context * members))):
        several = sequences * 2 < batch_sequences
        if shape.memory_bytes(sequences * 2, width, several, state) > room:
            break
        sequences *= 2
    return sequences


def evaluation_batch(
    shape: Shape,
    micro_batch: int,
    device: str,
    free_bytes: int,
    members: int = 1,
    windows: int | None = None,
    state: int | None = None,
) -> int | None:
    """Sequences in one pass of an evaluation on a GPU, a power of two times those of training; None
    on a CPU.

    It keeps no activations for a backward pass. Of a stack of `members` models each takes so many.
    `windows` is the number of sequences to evaluate, to which a compiled pass would be filled up.
    """
    if device == "cpu":
        return None
    sequences = micro_batch
    while sequences * 2 * shape.context * members <= GPU_EVALUATION_TOKENS:
        if windows is not None and sequences >= windows:
            break
        needed = shape.evaluation_bytes(sequences * 2, activation_bytes(device), state)
        if needed * members > GPU_MEMORY_SHARE * free_bytes:
            break
        sequences *= 2
    return sequences


def activation_bytes(device: str) -> int:
    """Bytes of an activation that training keeps on `device`, for Shape.memory_bytes."""
    return 2 if device == "cuda" else 4


def _measure(
    jobs: Sequence[Job], micro: dict[str, int], device: str, dtype: str, optimizer: str
) -> "Speeds":
    """The speed of one thread, or of one GPU, which a process of its own measures: this one keeps
    nothing on it.
    """
    from llmscale.measure.train.calibrate import measure_in_child, measure_speeds

    by_shape = {job.shape: micro[job.run_id] for job in jobs}
    measure = measure_in_child if device == "cuda" else measure_speeds
    return measure(by_shape, device, dtype, optimizer)


def _members(
    jobs: Sequence[Job],
    hardware: Hardware,
    descent: Mapping[str, Descent],
    device: str,
    free_bytes: int,
) -> dict[str, int]:
    """How many seeds at most are trained as one model with each of `jobs`, itself included, by run
    id.

    On a GPU no more than one pass of a step holds, and the memory.
    """
    if (
        hardware.stack == "never"
        or hardware.gpus_per_run > 1
        or (hardware.stack == "auto" and device == "cpu")
    ):
        return {}
    groups: dict[Job, list[Job]] = {}
    for job in jobs:
        start = descent.get(job.run_id, Descent())
        small = hardware.stack == "always" or job.shape.params_total <= STACKED_PARAMS
        if small and start.parent is None and not start.branch_steps:
            groups.setdefault(_seedless(job), []).append(job)
    members: dict[str, int] = {}
    for alike, group in groups.items():
        most = len(group)
        if device == "cuda":
            in_a_pass = GPU_MICRO_BATCH_TOKENS // alike.batch_tokens
            in_memory = (
                GPU_MEMORY_SHARE
                * free_bytes
                // alike.shape.memory_bytes(
                    1,
                    activation_bytes(device),
                    state_bytes=state_bytes(alike.optimizer, alike.shape),
                )
            )
            most = max(1, int(min(most, in_a_pass, in_memory)))
        members |= {job.run_id: most for job in group}
    return members


def _seedless(job: Job) -> Job:
    """What jobs that differ in names and seed have in common."""
    return replace(job.unnamed, seed=0)


def _cut(runs: Sequence[PlannedRun], size: int) -> list[tuple[PlannedRun, ...]]:
    return [tuple(runs[first : first + size]) for first in range(0, len(runs), size)]


def _compiled(
    jobs: Sequence[Job],
    eager_seconds: Callable[[Job], float],
    members: Mapping[str, int],
    asked: str,
    ops: str,
    device: str,
) -> dict[str, float]:
    """Which of `jobs` are compiled, and each one's share of the seconds that this takes, by run id.

    Code is compiled once for all runs of equal shape and batch, if it saves more time than it
    takes."""
    if asked == "never" or (
        asked == "auto" and (ops != "plain" or (_is_here(device) and not can_compile(device)))
    ):
        return {}
    alike: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        kind = job.shape, job.batch_sequences, job.dtype, job.optimizer, members.get(job.run_id, 1)
        alike.setdefault(kind, []).append(job)
    shares: dict[str, float] = {}
    for group in alike.values():
        saved = COMPILED_SAVES[device] * sum(map(eager_seconds, group))
        if asked == "always" or saved > COMPILE_SECONDS[device]:
            shares |= {job.run_id: COMPILE_SECONDS[device] / len(group) for job in group}
    return shares


def _shard(job: Job, micro: int, gpus: int, free: int) -> str:
    """Whether weights lie whole on each GPU of a run, as is faster, or shared out, where they would
    not fit.
    """
    whole = memory_per_gpu(job.shape, 1, micro, checkpointing=False).total
    return "always" if gpus > 1 and whole > MEMORY_SHARE * free else "never"


def _durations(runs: Sequence[PlannedRun]) -> list[Duration]:
    """What the makespan of `runs` follows from: how long each takes, and which others wait for how
    much of it.
    """
    numbers = {run.job.run_id: number for number, run in enumerate(runs)}
    durations = []
    for run in runs:
        parent = run.descent.parent if run.descent.waits else None
        if parent is None or parent.run_id not in numbers:
            durations.append(Duration(run.seconds, threads=run.threads))
            continue
        number = numbers[parent.run_id]
        first = runs[number].first_step
        share = max(0, run.descent.step - first) / (parent.steps - first)
        durations.append(Duration(run.seconds, number, share, run.threads))
    return durations


def _memory(job: Job, micro: int, evaluated: int | None, device: str, members: int) -> int:
    """Bytes of a worker that trains so many members with passes of so many sequences."""
    process = 500 << 20  # the interpreter and torch itself
    width, state = activation_bytes(device), state_bytes(job.optimizer, job.shape)
    trained = job.shape.memory_bytes(micro, width, micro < job.batch_sequences, state)
    read = job.shape.evaluation_bytes(evaluated or micro, width, state)
    return process + members * max(trained, read)
