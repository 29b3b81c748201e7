"""How fast this machine trains each size: whole steps of the training loop, for some seconds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmscale.errors import InputError, counted
from llmscale.machine import available_cores, available_memory, device_name, pick_device
from llmscale.machine.gpus import USUAL_MFU
from llmscale.measure.sweep.batches import activation_bytes, micro_batch
from llmscale.measure.sweep.spec import asked_spec
from llmscale.measure.train.calibrate import measure_peak
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.dtype import choose_dtype
from llmscale.measure.train.job import Job
from llmscale.measure.train.own_model import check_architecture
from llmscale.measure.train.throughput import (
    MIN_POINTS,
    STEPS_A_POINT,
    Throughput,
    measure_throughput,
    sample_tokens,
    throughput_job,
)
from llmscale.quantity import format_bytes, format_seconds, parse_list
from llmscale.runs.shape import TOKENS_PER_PARAM, USUAL_VOCABULARY, Shape, shape_for
from llmscale.settings import Range

SAMPLE_TOKENS = 1_000_000
"""Tokens to train on, at least."""


@dataclass(frozen=True)
class MeasuredSize:
    """The speed of one size."""

    size: str
    shape: Shape
    throughput: Throughput

    @property
    def hours(self) -> float:
        """Hours to train it on 20 tokens a parameter."""
        tokens = TOKENS_PER_PARAM * self.shape.params
        return tokens / self.throughput.tokens_per_second / 3600


@dataclass(frozen=True)
class Bench:
    """The speed of each size on this machine, and what it was measured with."""

    sizes: tuple[MeasuredSize, ...]
    device: str
    dtype: str
    dtype_reason: str
    threads: int | None
    """Of the CPU; None on a GPU."""
    compiled: bool
    arch: str
    optimizer: str
    context: int
    vocab_size: int
    batch_tokens: int
    peak_flops: float
    """FLOP/s of large matrix products, the best of several measurements."""

    def mfu(self, measured: MeasuredSize) -> float:
        """The share of `peak_flops` that training a size reaches."""
        flops = measured.throughput.tokens_per_second * measured.shape.flops_per_token
        return flops / self.peak_flops

    def to_json(self) -> dict[str, Any]:
        """As `llmscale bench --json` prints it."""
        settings = {name: value for name, value in vars(self).items() if name != "sizes"}
        rows = [
            {
                "size": one.size,
                "shape": one.shape.name,
                "params_non_embedding": one.shape.params_non_embedding,
                "params": one.shape.params,
                "flops_per_token": one.shape.flops_per_token,
                **asdict(one.throughput),
                "mfu": self.mfu(one),
                "hours_for_20_tokens_per_param": one.hours,
            }
            for one in self.sizes
        ]
        return {**settings, "sizes": rows}


def bench(
    sizes: str = "300k,1M,3M,10M",
    *,
    vocab_size: int = USUAL_VOCABULARY,
    batch: int = 16,
    compile: bool | None = None,
    threads: int | None = None,
    seconds: float = 10.0,
    tell: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Bench:
    """Measure training speed for each of `sizes`, for `seconds` each after its first step.

    `batch` is in sequences; `compile` of None compiles on a GPU; `threads` of None takes all cores;
    `settings` are `context`, `arch`, `optimizer`, `device` and `dtype` of a sweep. `tell` is called
    with the news. Raises InputError."""
    Range(0, 86_400, above=True).check("--seconds", seconds)
    Range(1, 1_000_000).check("--batch", batch)
    Range(1, 10_000).check("--threads", threads)
    spec = asked_spec(None, settings)
    recipe = spec.recipe
    check_architecture(recipe.arch)
    asked = parse_list(sizes, str.strip, "sizes")
    shapes = [
        shape_for(size, vocab_size=vocab_size, context=recipe.context, arch=recipe.arch)
        for size in asked
    ]
    device = pick_device(spec.hardware.device)
    chosen = choose_dtype(spec.hardware.dtype, device, shapes, "these products")
    jobs = [throughput_job(shape, batch, chosen.dtype, recipe.optimizer) for shape in shapes]
    compiled = device == "cuda" if compile is None else compile
    cores = (threads or available_cores()) if device == "cpu" else 1
    free = available_memory(device)
    conditions = [
        Conditions(device, micro_batch(shape, batch, device, free), compiled, threads=cores)
        for shape in shapes
    ]
    _check_memory(asked, shapes, conditions, free)
    tokens = sample_tokens(vocab_size, max(SAMPLE_TOKENS, 2 * recipe.context))
    tell("measuring large matrix products ...")
    peaks = [measure_peak(device, chosen.dtype, cores)]
    expected = [_expected_seconds(job, device, peaks[0], seconds) for job in jobs]
    tell(f"{counted(len(asked), 'size')}, about {format_seconds(sum(expected))}")
    measured = []
    for size, job, condition, time in zip(asked, jobs, conditions, expected, strict=True):
        tell(f"training {size} ({job.shape.name}) for about {format_seconds(time)} ...")
        speed = measure_throughput(job, condition, tokens, seconds)
        measured.append(MeasuredSize(size, job.shape, speed))
        peaks.append(measure_peak(device, chosen.dtype, cores))
    return Bench(
        tuple(measured),
        device=device_name(device),
        dtype=chosen.dtype,
        dtype_reason=chosen.reason,
        threads=cores if device == "cpu" else None,
        compiled=compiled,
        arch=recipe.arch,
        optimizer=recipe.optimizer,
        context=recipe.context,
        vocab_size=vocab_size,
        batch_tokens=jobs[0].batch_tokens,
        peak_flops=max(peaks),
    )


def _expected_seconds(job: Job, device: str, peak: float, seconds: float) -> float:
    """How long a size takes: its first step, and then `seconds`, or the fewest steps that tell a
    speed."""
    step = job.shape.flops_per_token * job.batch_tokens / (USUAL_MFU * peak)
    return step + max(seconds, MIN_POINTS * STEPS_A_POINT[device] * step)


def _check_memory(
    asked: Sequence[str], shapes: Sequence[Shape], conditions: Sequence[Conditions], free: int
) -> None:
    """Raise InputError for the first size that `free` bytes do not hold."""
    for size, shape, condition in zip(asked, shapes, conditions, strict=True):
        needed = shape.memory_bytes(condition.micro_batch, activation_bytes(condition.device))
        if needed > free:
            raise InputError(
                f"size {size} needs about {format_bytes(needed)} of memory and "
                f"{format_bytes(free)} are free",
                "measure smaller sizes, or a smaller --batch or --vocab-size",
            )
