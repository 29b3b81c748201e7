"""The plan of a sweep: which runs, what each costs, and how long all take on this device."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmscale.errors import Note, counted
from llmscale.machine import available_cores, available_memory, find_gpu
from llmscale.measure.executors import Place
from llmscale.measure.ops.compiled import is_compiled
from llmscale.measure.sweep.batches import (
    STACKED_PARAMS,
    Batches,
    batches_of,
    can_be_timed,
    seedless,
    stacks_of,
)
from llmscale.measure.sweep.devices import allot_places, slowdown
from llmscale.measure.sweep.estimate import (
    COMPILED_SAVES,
    RUN_SECONDS,
    WORKER_SECONDS,
    Estimate,
    compiling_seconds,
    is_here,
    measure_speeds_of,
)
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.jobs import jobs_of, sweep_dtype, with_retries
from llmscale.measure.sweep.keeping import Kept, choose_kept
from llmscale.measure.sweep.makespan import Duration, makespan, speedup
from llmscale.measure.sweep.notes import plan_notes, rules_in_use
from llmscale.measure.sweep.planned_run import PlannedRun
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.teaching import teachers_of
from llmscale.measure.sweep.trunks import BranchPoint, Descent, descents, sharing_recipes
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.job import Job

if TYPE_CHECKING:
    from llmscale.measure.train.calibrate import Speeds

_WITHOUT_KERNELS = "without the compiled kernels"
MEMORY_OF_ALL = 0.8
"""Share of the free memory that all workers together may take."""


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
    rules: tuple[str, ...] = ()
    """What the tuned rules in use are and give here, in words."""
    kept: Kept = field(default_factory=Kept)
    """Which runs keep their weights."""
    teachers: Mapping[str, str] = field(default_factory=dict)
    """The files of the weights that teach, by their digests."""

    @property
    def waiting(self) -> list[PlannedRun]:
        """The runs still to train, the longest first."""
        return sorted(
            (run for run in self.runs if not run.finished),
            key=lambda run: (-run.seconds, -run.trained_flops),
        )

    @property
    def seconds(self) -> float:
        """Estimated time until the last run ends; 0 if the device is not here to be measured."""
        if not self.waiting or self.speeds is None:
            return 0.0
        return WORKER_SECONDS[self.device] + makespan(_durations(self.waiting), len(self.places))

    @property
    def device_hours(self) -> float:
        """Estimated hours of GPUs, or of cores of the CPU, for all runs still to train."""
        cores = self.places[0].threads if self.device == "cpu" else self.hardware.gpus_per_run
        return sum(run.seconds for run in self.waiting) * cores / 3600

    @property
    def flops(self) -> float:
        """FLOPs of what is left to train: a trunk once, and the cooldowns that branch off it."""
        return sum(run.trained_flops for run in self.waiting)

    @property
    def saving(self) -> float:
        """How many times the FLOPs the same runs take if each trains all its own steps."""
        return sum(run.job.flops for run in self.waiting) / self.own_flops if self.waiting else 1.0

    @property
    def own_flops(self) -> float:
        """As `flops`, with what earlier commands have trained of these runs."""
        return sum(run.own_flops for run in self.waiting)

    @property
    def together(self) -> list[tuple[PlannedRun, ...]]:
        """The runs still to train as tasks: one each, or the stacked seeds of a size and budget."""
        groups: dict[Job, list[PlannedRun]] = {}
        for run in self.waiting:
            alike = run.job.unnamed if run.members == 1 else seedless(run.job)
            groups.setdefault(alike, []).append(run)
        return [part for group in groups.values() for part in _cut(group, group[0].members)]

    @property
    def ways(self) -> str:
        """How the runs still to train are trained, in words."""
        place = self.places[0]
        said = [f"{len(self.places)} at a time", f"{counted(place.threads, 'thread')} each"]
        if place.memory_share < 1:
            said.append(f"{round(1 / place.memory_share)} to a GPU")
        compiled = sum(run.compile for run in self.waiting)
        if compiled:
            said.append(f"{compiled} compiled")
        native = sum(run.ops == "native" for run in self.waiting)
        if self.device == "cpu" and native != len(self.waiting):
            said.append(f"{native} by the compiled kernels" if native else _WITHOUT_KERNELS)
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
            "kept": {"runs": len(self.kept.bytes_of), "bytes": self.kept.bytes},
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
    """Plan `spec`, measuring this device for a few seconds if `speeds` are not known.

    `finished(run_id)` says what is trained already, `saved` where runs have left their state for
    others to go on from, `diverged(run_id)` what has diverged, to be tried again if the sweep asks
    for it, `begun` the dtype of the runs that are there, `reached(run_id)` how many steps of a run
    need not be trained again."""
    dtype = sweep_dtype(spec, store, begun)
    settled = replace(spec, hardware=replace(spec.hardware, dtype=dtype.dtype))
    jobs = with_retries(jobs_of(settled, store), spec, diverged)
    sharing = sharing_recipes(spec)
    waiting = [job for job in jobs if job.recipe in sharing and not finished(job.run_id)]
    kept = choose_kept(spec, jobs)
    plan = plan_jobs(
        jobs, spec, store, finished, descents(waiting, saved), tell, speeds, dtype.reason, reached
    )
    notes = (*plan.notes, kept.note) if kept.note else plan.notes
    return replace(plan, kept=kept, notes=notes)


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
    """Plan `jobs` on the hardware of `spec`; measures this device if `speeds` are unknown."""
    hardware, descent = spec.hardware, descent or {}
    device, dtype = hardware.picked_device, jobs[0].dtype
    waiting = [job for job in jobs if not finished(job.run_id)]
    free, ops = available_memory(device), _operations(device, tell)
    stacks = stacks_of(waiting, hardware, descent, device, free)
    held_out, gpus = store.validation_tokens, hardware.gpus_per_run
    batches = {
        job.run_id: batches_of(job, device, free, stacks.get(job.run_id, 1), gpus, held_out)
        for job in jobs
    }
    fitting = [job for job in waiting if can_be_timed(job.shape, device, free)]
    if fitting and speeds is None and is_here(device):
        tell("measuring the speed of this device")
        speeds = measure_speeds_of(fitting, batches, device, dtype)
    estimate = Estimate(device, speeds, held_out)
    runs = [
        replace(
            _untimed(job, batches[job.run_id], ops),
            finished=finished(job.run_id),
            reached=min(reached(job.run_id), job.steps - 1),
            descent=descent.get(job.run_id, Descent()),
            text_tokens=_text_tokens(job, spec, store),
        )
        for job in jobs
    ]
    seconds = {run.job.run_id: estimate.seconds(run.job, run.first_step) for run in runs}
    compiling = compiling_seconds(
        waiting, lambda job: seconds[job.run_id], batches, hardware.compile, ops, device
    )
    runs = [_compiled(run, compiling) for run in runs]
    places = _places(runs, spec, device, free)
    timed = tuple(_timed(run, estimate, compiling, hardware, places[0]) for run in runs)
    notes = tuple(plan_notes(timed, spec, free, device))
    peak = next(iter(speeds.values())).peak_flops if speeds else 0.0
    rules = rules_in_use(spec, jobs)
    teachers = teachers_of(spec)
    return Plan(
        timed,
        places,
        device,
        dtype,
        peak,
        notes,
        speeds,
        hardware,
        dtype_reason,
        rules,
        teachers=teachers,
    )


def _text_tokens(job: Job, spec: SweepSpec, store: TokenStore) -> int | None:
    """Of the text that a run may read; None if its job is of a task, or of a part that was asked
    for."""
    if job.finetuning or spec.unique_tokens or spec.epochs:
        return None
    return store.of(job.data_fingerprint).train_tokens


def _operations(device: str, tell: Callable[[str], None]) -> str:
    """Those that train fastest here; says so if they are to be compiled first."""
    from llmscale.measure.ops import pick_operations

    if device == "cpu" and not is_compiled():
        tell("compiling the CPU kernels")
    return pick_operations(device)


def _untimed(job: Job, batches: Batches, ops: str) -> PlannedRun:
    from llmscale.measure.train.batch_parts import part_sequences

    threads = available_cores()
    if ops == "native":
        threads = -(-job.batch_sequences // part_sequences(job.shape))
    return PlannedRun(
        job,
        batches.micro,
        compile=False,
        ops=ops,
        threads=threads,
        memory_bytes=batches.memory_bytes,
        seconds=0.0,
        finished=False,
        shard=batches.shard,
        evaluation_batch=batches.evaluated,
        members=batches.members,
    )


def _compiled(run: PlannedRun, compiling: Mapping[str, float]) -> PlannedRun:
    if run.job.run_id not in compiling:
        return run
    return replace(run, compile=True, ops="plain")


def _places(
    runs: Sequence[PlannedRun], spec: SweepSpec, device: str, free: int
) -> tuple[Place, ...]:
    """Where the runs still to train are trained: by their FLOPs, not by measured times, so that the
    same sweep gets the same places, and so the same rounding."""
    waiting = [run for run in runs if not run.finished]
    largest = max((run.memory_bytes for run in waiting), default=1)
    most = int(min(MEMORY_OF_ALL * free // largest, len(waiting)))
    if device == "cuda" and is_here(device) and not find_gpu().shared:
        most = 1
    costs = [replace(run, seconds=run.own_flops) for run in waiting]
    tasks = {True: 0.0, False: 0.0}
    for run in waiting:
        tasks[run.job.shape.params_total <= STACKED_PARAMS] += 1 / run.members
    small, large = math.ceil(tasks[True]), math.ceil(tasks[False])
    return allot_places(spec.hardware, max(1, most), device, _durations(costs), small, large)


def _timed(
    run: PlannedRun,
    estimate: Estimate,
    compiling: Mapping[str, float],
    hardware: Hardware,
    place: Place,
) -> PlannedRun:
    """`run` with the seconds that it takes on such a place, if the device's speed is known."""
    if estimate.speeds is None:
        return run
    device = estimate.device
    faster = 1.0 / hardware.gpus_per_run
    if device == "cpu":
        faster = 1 / speedup(min(place.threads, run.threads))
    if run.compile:
        faster *= 1 - COMPILED_SAVES[device]
    trained = estimate.seconds(run.job, run.first_step) * faster
    seconds = RUN_SECONDS + trained + compiling.get(run.job.run_id, 0.0)
    if device == "cuda":
        seconds *= slowdown(place)
    evaluation = estimate.evaluation_seconds(run.job) * faster
    return replace(run, seconds=seconds, evaluation_seconds=evaluation)


def _cut(runs: Sequence[PlannedRun], size: int) -> list[tuple[PlannedRun, ...]]:
    return [tuple(runs[first : first + size]) for first in range(0, len(runs), size)]


def _durations(runs: Sequence[PlannedRun]) -> list[Duration]:
    """What a makespan follows from: how long each run takes, and which it waits for."""
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
