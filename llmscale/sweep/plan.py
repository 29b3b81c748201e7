"""The plan of a sweep: which runs, what each costs, and how long all take on this device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmscale.errors import Note
from llmscale.executors import Place
from llmscale.job import Job
from llmscale.layout import MEMORY_SHARE, memory_per_gpu
from llmscale.machine import available_cores, available_memory
from llmscale.quantity import format_count
from llmscale.shape import Shape
from llmscale.sweep.jobs import jobs_of, sweep_dtype, with_retries
from llmscale.sweep.notes import plan_notes
from llmscale.sweep.places import Duration, allot_places, makespan, speedup
from llmscale.sweep.spec import Hardware, SweepSpec
from llmscale.sweep.trunks import BranchPoint, Descent, descents, sharing_recipes
from llmscale.tokens import TokenStore

if TYPE_CHECKING:
    from llmscale.train.calibrate import Speeds

CPU_MICRO_BATCH_TOKENS = 4096
GPU_MICRO_BATCH_TOKENS = 131_072
GPU_MEMORY_SHARE = 0.7
WORKER_SECONDS = 3.0
"""From the start of a worker process to its first step."""
RUN_SECONDS = 0.3
"""What a run takes besides its steps: reading and writing its files."""
COMPILE_SECONDS = 60.0
STACKED_PARAMS = 20e6
"""Models of at most so many weights are stacked on a GPU, which one of them would leave idle most of the time."""
COMPILED_FLOPS = {"cpu": 1e14, "cuda": 2e16}
"""Runs of at least this many FLOPs repay compilation (`compile = "auto"`): about half an hour on two CPU cores, one
to two minutes on a data-centre GPU."""


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
    descent: Descent = field(default_factory=Descent)
    shard: str = "never"
    """Where several GPUs keep the weights: whole on each, or shared out (`always`)."""

    @property
    def trained_tokens(self) -> int:
        """Tokens that this run is trained on here, where it branches off another: after the branch point."""
        return 0 if self.finished else _tokens_after(self.job, self.descent.step)

    @property
    def origin(self) -> str:
        """Whether it tries a run again, and which other one its first steps come from, in words."""
        parent = self.descent.parent
        branch = [f"branch of {format_count(parent.tokens)}"] if parent else []
        return ", ".join((["retry"] if self.job.retry_of else []) + branch)

    @property
    def trained_flops(self) -> float:
        return float(self.trained_tokens) * self.job.shape.flops_per_token

    def to_json(self) -> dict[str, Any]:
        job = self.job
        return {
            "run_id": job.run_id,
            "size": job.size,
            "shape": job.shape.name,
            "params": job.shape.params,
            "tokens": job.tokens,
            "epochs": job.epochs,
            "flops": job.flops,
            "trained_flops": self.trained_flops,
            "parent": self.descent.parent.run_id if self.descent.parent else None,
            "lr": job.lr,
            "batch_tokens": job.batch_tokens,
            "steps": job.steps,
            "seed": job.seed,
            "recipe": job.recipe,
            "retry_of": job.retry_of,
            "memory_bytes": self.memory_bytes,
            "estimated_seconds": self.seconds,
            "finished": self.finished,
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
            (run for run in self.runs if not run.finished), key=lambda run: (-run.seconds, -run.trained_flops)
        )

    @property
    def seconds(self) -> float:
        """Estimated time until the last run ends; 0 where the device is not here to be measured."""
        if not self.waiting or self.speeds is None:
            return 0.0
        return WORKER_SECONDS + makespan(_durations(self.waiting), len(self.places))

    @property
    def device_hours(self) -> float:
        """Estimated hours of work of GPUs, or on the CPU of cores, all runs still to train together."""
        cores = self.places[0].threads if self.device == "cpu" else self.hardware.gpus_per_run
        return sum(run.seconds for run in self.waiting) * cores / 3600

    @property
    def flops(self) -> float:
        """FLOPs of what is trained: a trunk once, and the cooldowns that branch off it."""
        return sum(run.trained_flops for run in self.waiting)

    @property
    def saving(self) -> float:
        """How many times as many FLOPs the same runs take when each is trained from its first step."""
        return sum(run.job.flops for run in self.waiting) / self.flops if self.waiting else 1.0

    @property
    def together(self) -> list[tuple[PlannedRun, ...]]:
        """The runs still to train as tasks: each alone, or the seeds of a size and budget that are stacked."""
        groups: dict[Job, list[PlannedRun]] = {}
        for run in self.waiting:
            alike = replace(run.job.unnamed, seed=0 if self._stacks(run) else run.job.seed)
            groups.setdefault(alike, []).append(run)
        return [tuple(group) for group in groups.values()]

    def _stacks(self, run: PlannedRun) -> bool:
        small = self.device == "cuda" and run.job.shape.params_total <= STACKED_PARAMS
        on_trunk = run.descent.parent is not None or run.descent.branch_steps
        if self.hardware.gpus_per_run > 1:
            return False
        return not on_trunk and (self.hardware.stack == "always" or (self.hardware.stack == "auto" and small))

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
) -> Plan:
    """Plan `spec`, measuring this device for a few seconds where `speeds` are not known.

    `finished(run_id)` says what is trained already, `saved` where runs have left their state for others to go on from,
    `diverged(run_id)` what has diverged, to be tried again where the sweep asks for it, `begun` the dtype of the runs
    that are there.
    """
    dtype = sweep_dtype(spec, store, begun)
    settled = replace(spec, hardware=replace(spec.hardware, dtype=dtype.dtype))
    jobs = with_retries(jobs_of(settled, store), spec, diverged)
    sharing = sharing_recipes(spec)
    waiting = [job for job in jobs if job.recipe in sharing and not finished(job.run_id)]
    return plan_jobs(jobs, spec, store, finished, descents(waiting, saved), tell, speeds, dtype.reason)


def plan_jobs(
    jobs: Sequence[Job],
    spec: SweepSpec,
    store: TokenStore,
    finished: Callable[[str], bool] = lambda run_id: False,
    descent: Mapping[str, Descent] | None = None,
    tell: Callable[[str], None] = lambda text: None,
    speeds: "Mapping[str, Speeds] | None" = None,
    dtype_reason: str = "",
) -> Plan:
    """Plan `jobs` on the hardware of `spec`, measuring this device for a few seconds where `speeds` are not known."""
    from llmscale.ops import pick_operations
    from llmscale.train.passes import part_sequences

    descent = descent or {}
    waiting = [job for job in jobs if not finished(job.run_id)]
    device = spec.hardware.picked_device
    dtype = jobs[0].dtype
    free = available_memory(device)
    micro = {
        job.run_id: micro_batch(job.shape, -(-job.batch_sequences // spec.hardware.gpus_per_run), device, free)
        for job in jobs
    }
    memory = {job.run_id: _memory(job, micro, device) for job in jobs}
    ops = pick_operations(device)
    if waiting and speeds is None and _is_here(device):
        tell("measuring the speed of this device")
        speeds = {
            name: _measure([job for job in waiting if job.optimizer == name], micro, device, dtype, name)
            for name in dict.fromkeys(job.optimizer for job in waiting)
        }

    gpus = spec.hardware.gpus_per_run

    def planned(job: Job, threads: int) -> PlannedRun:
        start = descent.get(job.run_id, Descent())
        most_threads = -(-job.batch_sequences // part_sequences(job.shape)) if ops == "native" else available_cores()
        run = PlannedRun(
            job, micro[job.run_id], False, ops, most_threads, memory[job.run_id], 0.0, finished(job.run_id), start
        )
        compiled = _compiles(spec.hardware.compile, run, device)
        shard = _shard(job, run.micro_batch, gpus, free)
        run = replace(run, shard=shard, compile=compiled, ops="plain" if compiled else ops)
        if speeds is None:
            return run
        evaluated = job.evaluations * (1 - start.step / job.steps) * store.validation_tokens / 3  # forward alone
        measured = speeds.get(job.optimizer) or next(iter(speeds.values()))
        rate = measured.tokens_per_second(job.shape) * (speedup(min(threads, run.threads)) if device == "cpu" else gpus)
        seconds = RUN_SECONDS + (_tokens_after(job, start.step) + evaluated) / rate
        return replace(run, seconds=seconds + COMPILE_SECONDS * compiled)

    most = int(min(0.8 * free // max((memory[job.run_id] for job in waiting), default=1), len(waiting)))
    # By FLOPs, not by measured times: the same sweep gets the same places, and so the same rounding.
    costs = [replace(run, seconds=run.trained_flops) for run in (planned(job, 1) for job in waiting)]
    places = allot_places(spec.hardware, max(1, most), device, _durations(costs))
    runs = tuple(planned(job, places[0].threads) for job in jobs)
    peak = next(iter(speeds.values())).peak_flops if speeds else 0.0
    notes = tuple(plan_notes(runs, spec, free, device))
    return Plan(runs, places, device, dtype, peak, notes, speeds, spec.hardware, dtype_reason)


def _is_here(device: str) -> bool:
    """Whether this machine has the device, to measure it by."""
    import torch

    return device == "cpu" or torch.cuda.is_available()


def micro_batch(shape: Shape, batch_sequences: int, device: str, free_bytes: int) -> int:
    """Sequences in one pass: a power of two, at most the batch, that fits the memory and suits the device."""
    limit = CPU_MICRO_BATCH_TOKENS if device == "cpu" else GPU_MICRO_BATCH_TOKENS
    sequences = 1
    while sequences * 2 <= min(batch_sequences, max(1, limit // shape.context)):
        if shape.memory_bytes(sequences * 2, _activation_bytes(device)) > GPU_MEMORY_SHARE * free_bytes:
            break
        sequences *= 2
    return sequences


def _measure(jobs: Sequence[Job], micro: dict[str, int], device: str, dtype: str, optimizer: str) -> "Speeds":
    """The speed of one thread, or of one GPU."""
    import torch

    from llmscale.train.calibrate import measure_speeds

    by_shape = {job.shape: micro[job.run_id] for job in jobs}
    try:
        return measure_speeds(list(by_shape), by_shape.__getitem__, device, dtype, optimizer)
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()


def _shard(job: Job, micro: int, gpus: int, free: int) -> str:
    """Whether weights lie whole on each GPU of a run, as is faster, or shared out, where they would not fit."""
    whole = memory_per_gpu(job.shape, 1, micro, checkpointing=False).total
    return "always" if gpus > 1 and whole > MEMORY_SHARE * free else "never"


def _durations(runs: Sequence[PlannedRun]) -> list[Duration]:
    """What the makespan of `runs` follows from: how long each takes, and which others wait for how much of it."""
    numbers = {run.job.run_id: number for number, run in enumerate(runs)}
    durations = []
    for run in runs:
        parent = run.descent.parent if run.descent.waits else None
        if parent is None or parent.run_id not in numbers:
            durations.append(Duration(run.seconds, threads=run.threads))
            continue
        number = numbers[parent.run_id]
        first = runs[number].descent.step
        share = (run.descent.step - first) / (parent.steps - first)
        durations.append(Duration(run.seconds, number, share, run.threads))
    return durations


def _tokens_after(job: Job, step: int) -> int:
    return max(0, job.tokens - step * job.batch_tokens)


def _memory(job: Job, micro: dict[str, int], device: str) -> int:
    process = 500 << 20  # the interpreter and torch itself
    return process + job.shape.memory_bytes(micro[job.run_id], _activation_bytes(device))


def _activation_bytes(device: str) -> int:
    return 2 if device == "cuda" else 4


def _compiles(asked: str, run: PlannedRun, device: str) -> bool:
    worth_it = run.ops == "plain" and run.trained_flops >= COMPILED_FLOPS[device]
    return asked == "always" or (asked == "auto" and worth_it)
