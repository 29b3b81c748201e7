"""The plan of a sweep: which runs, what each costs, and how long all take on this device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmscale.errors import InputError, Note
from llmscale.executors import Place
from llmscale.job import Job, make_job
from llmscale.machine import available_cores, available_memory, pick_device, pick_dtype
from llmscale.quantity import format_bytes, format_count
from llmscale.shape import Shape, shape_for
from llmscale.sources import member_of
from llmscale.sweep.spec import SweepSpec
from llmscale.tokens import TokenStore

CPU_MICRO_BATCH_TOKENS = 4096
GPU_MICRO_BATCH_TOKENS = 131_072
GPU_MEMORY_SHARE = 0.7
START_SECONDS = 8.0
COMPILE_SECONDS = 60.0
COMPILED_FLOPS = {"cpu": 1e14, "cuda": 2e16}
"""Runs of at least this many FLOPs repay compilation (`compile = "auto"`): about half an hour on two CPU cores, one
to two minutes on a data-centre GPU."""
REPEATED_EPOCHS = 4
"""Up to about this many epochs repeated text is worth nearly as much as new text (Muennighoff et al. 2023)."""


@dataclass(frozen=True)
class PlannedRun:
    """A job and how it will be run here."""

    job: Job
    micro_batch: int
    compile: bool
    memory_bytes: int
    seconds: float
    """Estimated time on one place, start and evaluation included."""
    finished: bool
    """Whether the results folder holds this run already."""

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
            "lr": job.lr,
            "batch_tokens": job.batch_tokens,
            "steps": job.steps,
            "seed": job.seed,
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

    @property
    def waiting(self) -> list[PlannedRun]:
        """The runs still to train, the longest first."""
        return sorted((run for run in self.runs if not run.finished), key=lambda run: -run.seconds)

    @property
    def seconds(self) -> float:
        """Estimated time until the last run ends: each in turn goes to the place that is free first."""
        busy = [0.0] * max(1, len(self.places))
        for run in self.waiting:
            first_free = busy.index(min(busy))
            busy[first_free] += run.seconds
        return max(busy)

    @property
    def flops(self) -> float:
        return sum(run.job.flops for run in self.waiting)

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": [run.to_json() for run in self.runs],
            "device": self.device,
            "dtype": self.dtype,
            "workers": len(self.places),
            "peak_flops": self.peak_flops,
            "flops": self.flops,
            "estimated_seconds": self.seconds,
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }


def jobs_of(spec: SweepSpec, store: TokenStore) -> tuple[Job, ...]:
    """Every run that `spec` asks for, each once, by growing size and budget. Raises InputError."""
    dtype = pick_dtype(spec.hardware.dtype, pick_device(spec.hardware.device))
    whole = reads_whole_text(spec)
    jobs: dict[str, Job] = {}
    for size in spec.sizes:
        shape = shape_for(size, vocab_size=store.vocab_size, context=spec.recipe.context, arch=spec.recipe.arch)
        budgets = [budget.tokens(shape.params) for budget in spec.tokens] or [store.train_tokens - 1]
        for tokens in budgets:
            for seed in range(spec.seeds):
                job = make_job(
                    size,
                    shape,
                    tokens,
                    spec.recipe,
                    seed=seed,
                    dtype=dtype,
                    data=spec.data.source,
                    data_fingerprint=store.fingerprint,
                    text_tokens=store.train_tokens if whole else min(tokens + 1, store.train_tokens),
                    validation_tokens=store.validation_tokens,
                )
                _check_budget(job, tokens)
                jobs.setdefault(job.run_id, job)
    return tuple(sorted(jobs.values(), key=lambda job: (job.shape.params, job.tokens, job.seed)))


def reads_whole_text(spec: SweepSpec) -> bool:
    """Whether runs draw from the whole text, as from local files, or from as much of a stream as they need."""
    return member_of(spec.data.source) != "hub"


def tokens_needed(spec: SweepSpec) -> int | None:
    """Training tokens to prepare, before the vocabulary is known; None for the whole text."""
    if reads_whole_text(spec) or not spec.tokens:
        return None
    largest_vocab = 2**16
    shapes = [
        shape_for(size, vocab_size=largest_vocab, context=spec.recipe.context, arch=spec.recipe.arch)
        for size in spec.sizes
    ]
    return 1 + max(budget.tokens(shape.params) for budget in spec.tokens for shape in shapes)


def plan_sweep(
    spec: SweepSpec, store: TokenStore, finished: Callable[[str], bool], tell: Callable[[str], None] = lambda text: None
) -> Plan:
    """Plan `spec`, measuring this device for a few seconds. `finished(run_id)` says what is trained already."""
    jobs = jobs_of(spec, store)
    waiting = [job for job in jobs if not finished(job.run_id)]
    device = pick_device(spec.hardware.device)
    dtype = pick_dtype(spec.hardware.dtype, device)
    free = available_memory(device)
    micro = {job.run_id: micro_batch(job.shape, job.batch_sequences, device, free) for job in jobs}
    places = _places(spec, waiting, device, free, micro)
    if not waiting:
        done = tuple(PlannedRun(job, micro[job.run_id], False, _memory(job, micro, device), 0.0, True) for job in jobs)
        return Plan(done, places, device, dtype, 0.0, tuple(_notes(jobs)))

    tell("measuring the speed of this device")
    speeds = _measure(waiting, micro, device, dtype, places[0].threads)
    runs = []
    for job in jobs:
        compiled = _compiles(spec.hardware.compile, job, device)
        evaluated = job.evaluations * store.validation_tokens / 3  # forward alone costs a third
        seconds = START_SECONDS + (job.tokens + evaluated) / speeds.tokens_per_second(job.shape)
        seconds += COMPILE_SECONDS if compiled else 0.0
        runs.append(
            PlannedRun(job, micro[job.run_id], compiled, _memory(job, micro, device), seconds, finished(job.run_id))
        )
    return Plan(tuple(runs), places, device, dtype, speeds.peak_flops, tuple(_notes(jobs, runs, free, device)))


def micro_batch(shape: Shape, batch_sequences: int, device: str, free_bytes: int) -> int:
    """Sequences in one pass: a power of two, at most the batch, that fits the memory and suits the device."""
    limit = CPU_MICRO_BATCH_TOKENS if device == "cpu" else GPU_MICRO_BATCH_TOKENS
    sequences = 1
    while sequences * 2 <= min(batch_sequences, max(1, limit // shape.context)):
        if shape.memory_bytes(sequences * 2, _activation_bytes(device)) > GPU_MEMORY_SHARE * free_bytes:
            break
        sequences *= 2
    return sequences


def _measure(jobs: Sequence[Job], micro: dict[str, int], device: str, dtype: str, threads: int) -> Any:
    import torch

    from llmscale.train.calibrate import measure_speeds

    by_shape = {job.shape: micro[job.run_id] for job in jobs}
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return measure_speeds(list(by_shape), by_shape.__getitem__, device, dtype)
    finally:
        torch.set_num_threads(threads_before)
        if device == "cuda":
            torch.cuda.empty_cache()


def _places(
    spec: SweepSpec, jobs: Sequence[Job], device: str, free_bytes: int, micro: dict[str, int]
) -> tuple[Place, ...]:
    """One place a GPU; on the CPU one a core, fewer where memory or the number of runs is the limit."""
    cores = available_cores()
    if device == "cuda":
        import torch

        gpus = min(torch.cuda.device_count(), spec.hardware.workers or torch.cuda.device_count())
        return tuple(Place(max(1, cores // gpus), gpu) for gpu in range(gpus))
    largest = max((_memory(job, micro, device) for job in jobs), default=1)
    fitting = max(1, int(0.8 * free_bytes // largest))
    workers = max(1, min(spec.hardware.workers or cores, len(jobs), fitting))
    return (Place(max(1, cores // workers)),) * workers


def _memory(job: Job, micro: dict[str, int], device: str) -> int:
    process = 500 << 20  # the interpreter and torch itself
    return process + job.shape.memory_bytes(micro[job.run_id], _activation_bytes(device))


def _activation_bytes(device: str) -> int:
    return 2 if device == "cuda" else 4


def _compiles(asked: str, job: Job, device: str) -> bool:
    return asked == "always" or (asked == "auto" and job.flops >= COMPILED_FLOPS[device])


def _check_budget(job: Job, tokens: int) -> None:
    if tokens < job.batch_tokens:
        raise InputError(
            f"a budget of {format_count(tokens)} tokens is smaller than one step of size {job.size}, "
            f"{job.batch_tokens:,} tokens",
            "train on more with --tokens, or set a smaller batch_tokens in the recipe",
        )


def _notes(jobs: Sequence[Job], runs: Sequence[PlannedRun] = (), free_bytes: int = 0, device: str = "") -> list[Note]:
    notes = []
    if len({job.tokens for job in jobs}) == 1:
        budget = format_count(jobs[0].tokens)
        notes.append(
            Note(
                "one-token-budget",
                f"one budget of {budget} tokens for every size measures L(N) at {budget} tokens; "
                "several, as in --tokens 5x,20x,80x, measure L(N, D)",
            )
        )
    most = max(job.epochs for job in jobs)
    if most > 1:
        text = format_count(max(job.unique_tokens for job in jobs))
        beyond = ", far past the 4 epochs up to which that is nearly harmless" if most > REPEATED_EPOCHS else ""
        notes.append(
            Note("repeated-data", f"the text has {text} tokens, so some runs read it {most:.1f} times{beyond}")
        )
    short = [job for job in jobs if job.steps < 100]
    if short:
        notes.append(Note("few-steps", f"size {short[0].size} gets only {short[0].steps} steps; train on more tokens"))
    for run in runs:
        if run.memory_bytes > free_bytes and not run.finished:
            need, have = format_bytes(run.memory_bytes), format_bytes(free_bytes)
            notes.append(Note("memory", f"size {run.job.size} needs about {need} of memory and {device} has {have}"))
    return notes
