"""How many sequences pass through a model at once, and seeds train as one, for the memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llmscale.measure.optimizers import state_bytes
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.trunks import Descent
from llmscale.measure.train.job import Job
from llmscale.menu import is_own
from llmscale.runs.gpu_memory import MEMORY_SHARE, memory_per_gpu
from llmscale.runs.shape import Shape

CPU_MICRO_BATCH_TOKENS = 4096
GPU_MICRO_BATCH_TOKENS = 131_072
"""Tokens of a pass, at most; of a stack, those of all its members together."""
GPU_EVALUATION_TOKENS = 131_072
"""Tokens of an evaluation's pass on a GPU, at most; a CPU takes training's, for its caches."""
GPU_MEMORY_SHARE = 0.7
STACKED_PARAMS = 20e6
"""Models of at most so many weights leave a GPU idle: seeds are stacked, and runs share it."""
PROCESS_BYTES = 500 << 20
"""The interpreter and torch itself."""


@dataclass(frozen=True)
class Batches:
    """What passes through a model at once when a job is trained here."""

    micro: int
    """Sequences in one pass of training."""
    evaluated: int | None
    """Sequences in one pass of an evaluation; None: as many as in training."""
    members: int
    """Seeds that are trained as one model, at most."""
    memory_bytes: int
    """Of a worker that trains so."""
    shard: str
    """Where several GPUs keep the weights: whole on each (`never`), or shared out (`always`)."""


def batches_of(
    job: Job, device: str, free_bytes: int, members: int, gpus: int, validation_tokens: int
) -> Batches:
    """How `job` is trained with `free_bytes` of memory, on that many GPUs together."""
    on_each = -(-job.batch_sequences // gpus)
    state = state_bytes(job.optimizer, job.shape)
    micro = micro_batch(job.shape, on_each, device, free_bytes, members, state)
    windows = validation_tokens // job.shape.context
    evaluated = evaluation_batch(job.shape, micro, device, free_bytes, members, windows, state)
    width = activation_bytes(device)
    trained = job.shape.memory_bytes(micro, width, micro < job.batch_sequences, state)
    read = job.shape.evaluation_bytes(evaluated or micro, width, state)
    memory = PROCESS_BYTES + members * max(trained, read)
    return Batches(micro, evaluated, members, memory, _shard(job, micro, gpus, free_bytes))


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
    None: of AdamW's."""
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


def can_be_timed(shape: Shape, device: str, free_bytes: int) -> bool:
    """Whether the memory holds the two layers and one sequence that time `shape` at least."""
    timed = replace(shape, n_layer=min(2, shape.n_layer))
    return timed.memory_bytes(1, activation_bytes(device)) <= GPU_MEMORY_SHARE * free_bytes


def stacks_of(
    jobs: Sequence[Job],
    hardware: Hardware,
    descent: Mapping[str, Descent],
    device: str,
    free_bytes: int,
) -> dict[str, int]:
    """How many seeds at most are trained as one model with each of `jobs`, itself included, by run
    id; of others one. On a GPU no more than one pass of a step holds, and the memory."""
    is_off = hardware.stack == "never" or hardware.gpus_per_run > 1
    if is_off or (hardware.stack == "auto" and device == "cpu"):
        return {}
    groups: dict[Job, list[Job]] = {}
    for job in jobs:
        start = descent.get(job.run_id, Descent())
        is_small = hardware.stack == "always" or job.shape.params_total <= STACKED_PARAMS
        is_apart = start.parent is None and not start.branch_steps
        has_adapters = job.finetuning is not None and job.finetuning.low_rank is not None
        alone = is_own(job.optimizer) or job.distillation is not None or has_adapters
        if is_small and is_apart and not alone:
            groups.setdefault(seedless(job), []).append(job)
    members: dict[str, int] = {}
    for alike, group in groups.items():
        most = len(group)
        if device == "cuda":
            in_a_pass = GPU_MICRO_BATCH_TOKENS // alike.batch_tokens
            state = state_bytes(alike.optimizer, alike.shape)
            one = alike.shape.memory_bytes(1, activation_bytes(device), state_bytes=state)
            in_memory = GPU_MEMORY_SHARE * free_bytes // one
            most = max(1, int(min(most, in_a_pass, in_memory)))
        members |= {job.run_id: most for job in group}
    return members


def seedless(job: Job) -> Job:
    """What jobs that differ in names and seed have in common."""
    return replace(job.unnamed, seed=0)


def _shard(job: Job, micro: int, gpus: int, free: int) -> str:
    """Whether weights lie whole on each GPU of a run, as is faster, or shared out to fit."""
    whole = memory_per_gpu(job.shape, 1, micro, checkpointing=False).total
    return "always" if gpus > 1 and whole > MEMORY_SHARE * free else "never"
