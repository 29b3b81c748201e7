"""Does training on the device compute what it should: each row is a difference, and how much of it
is rounding.
"""

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gpu import Row
from gpu.training import Steps, job_for, sums_of_steps
from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.train.backend import set_up_device
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Member
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.loop import train
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import Shape, shape_for

SIZES = {"cpu": ("2x32x2", 256, 32), "cuda": ("4x256x4", 4096, 256)}
"""Size, vocabulary and context of what is compared."""
SEQUENCES = 8
LOSS, GRADIENT = {"float32": 1e-5, "bfloat16": 1e-2}, {"float32": 1e-4, "bfloat16": 5e-2}
"""Allowed of the loss and of the norm of the gradient, as shares: about ten times the rounding of
the type.
"""
STEPS = 5
UPDATE = {"adamw": 1e-2, "muon": 1e-2}
"""Allowed of the norm of all that the weights have moved: AdamW divides small gradients by their
own size.
"""
STACKED, STACKED_STEPS = 1e-3, 10
"""Nats of the final loss of a run of a few steps."""
WAITING = 5
"""Steps that the host may not wait in."""
BACKENDS = ("flash", "cudnn", "efficient", "math")
"""Of scaled dot product attention, as they stand in the names of torch's operations."""


def against_cpu(device: str, arch: str, compile: bool) -> Iterator[Row]:
    """Loss and gradient of one batch against the CPU in float32, from the same weights and
    tokens.
    """
    set_up_device(device)
    for dtype in ("float32", "bfloat16"):
        for compiled in (False, True) if compile else (False,):
            name = f"{arch}, {dtype}, {_how(compiled)}"
            differences = partial(_differences_from_cpu, device, arch, dtype, compiled)
            yield from checks(
                [f"{name}: loss", f"{name}: gradient"], [LOSS[dtype], GRADIENT[dtype]], differences
            )


def training(device: str, compile: bool, dtype: str) -> Iterator[Row]:
    """Steps of the optimisers, stacks, and what a GPU does otherwise: memory, waiting,
    attention.
    """
    set_up_device(device)
    for optimizer, allowed in UPDATE.items():
        name = f"{optimizer}: weights after {STEPS} steps"
        yield from checks([name], [allowed], partial(_update_difference, device, optimizer))
    yield from checks(["stack of 2: final loss"], [STACKED], partial(_stacked_difference, device))
    rounding = [LOSS["float32"]]
    yield from checks(
        ["activation checkpointing: gradient"], rounding, partial(_checkpointing_difference, device)
    )
    forced = _forced_on_cuda if device == "cuda" else _forced_anywhere
    yield from checks(["out of memory, halved: gradient"], rounding, partial(forced, device))
    for optimizer in UPDATE:
        for compiled in (False, True) if compile else (False,):
            name = f"no waiting in a step: {optimizer}, {_how(compiled)}"
            if device == "cuda":
                yield from checks(
                    [name], [0.0], partial(_waits, device, dtype, optimizer, compiled)
                )
            else:
                yield {"check": name, "not_here": "only on CUDA"}
    yield _attention_backend(device, dtype)


def checks(
    names: Sequence[str], allowed: Sequence[float], differences: Callable[[], list[float]]
) -> Iterator[Row]:
    """A row for each name; where the differences cannot be computed, rows that have failed and say
    why.
    """
    try:
        found = differences()
    except Exception as error:
        traceback.print_exc()
        for name in names:
            yield {
                "check": name,
                "passed": False,
                "error": f"{type(error).__name__}: {error}"[:400],
            }
        return
    for name, difference, most in zip(names, found, allowed, strict=True):
        yield {
            "check": name,
            "difference": difference,
            "allowed": most,
            "passed": difference <= most,
        }


def relative(one: Tensor, other: Tensor) -> float:
    """|one - other| / |other|."""
    return float((one - other).norm() / other.norm())


def _shape(device: str, arch: str = "llama") -> Shape:
    size, vocab_size, context = SIZES[device]
    return shape_for(size, vocab_size=vocab_size, context=context, arch=arch)


def _batch(shape: Shape) -> Tensor:
    """Token numbers (SEQUENCES, context + 1)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(shape.vocab_size, (SEQUENCES, shape.context + 1), generator=generator)


def _model(shape: Shape, device: str, ops: str, dtype: str = "float32") -> LanguageModel:
    return build_model(shape, ops=build_operations(ops, dtype)).to(device)


def _loss_and_gradient(
    model: LanguageModel,
    device: str,
    batch: Tensor,
    compiled: bool = False,
    micro_batch: int = SEQUENCES,
) -> tuple[float, Tensor]:
    """Mean loss in nats, and the whole gradient as one vector on the CPU."""
    return _gradient(Passes(model, micro_batch, compile=compiled), device, batch)


def _gradient(passes: Passes, device: str, batch: Tensor) -> tuple[float, Tensor]:
    batch = batch.to(device)
    loss = passes.gradient(batch[:, :-1], batch[:, 1:])
    slopes = [weight.grad for weight in passes.model.parameters() if weight.grad is not None]
    return loss.item(), torch.cat([slope.flatten().cpu() for slope in slopes])


def _how(compiled: bool) -> str:
    return "compiled" if compiled else "eager"


def _differences_from_cpu(device: str, arch: str, dtype: str, compiled: bool) -> list[float]:
    shape = _shape(device, arch)
    batch = _batch(shape)
    exact, exact_gradient = _loss_and_gradient(_model(shape, "cpu", "plain"), "cpu", batch)
    ops = "plain" if compiled else pick_operations(device)
    loss, gradient = _loss_and_gradient(_model(shape, device, ops, dtype), device, batch, compiled)
    return [abs(loss / exact - 1), relative(gradient, exact_gradient)]


def _update_difference(device: str, optimizer: str) -> list[float]:
    """How far apart the device and the CPU move the weights, as a share of how far they move
    them.
    """
    moved = []
    for place, ops in (("cpu", "plain"), (device, pick_operations(device))):
        shape = _shape(device)
        job = job_for(shape, optimizer=optimizer, batch_sequences=SEQUENCES)
        steps = Steps(job, Conditions(place, SEQUENCES, ops=ops), sums_of_steps(shape.vocab_size))
        before = steps.weights()
        for _ in range(STEPS):
            steps.take()
        moved.append(steps.weights() - before)
    return [relative(moved[1], moved[0])]


def _stacked_difference(device: str) -> list[float]:
    """Largest difference of the final losses of two seeds trained as a stack from those of each by
    itself.
    """
    shape = _shape(device)
    first = job_for(shape, batch_sequences=SEQUENCES, sequences=STACKED_STEPS * SEQUENCES)
    jobs = [first, replace(first, seed=1)]
    conditions = Conditions(device, SEQUENCES, ops="plain")
    text = sums_of_steps(shape.vocab_size)
    texts = text, text[: 20 * shape.context + 1]
    with TemporaryDirectory() as name:
        members = [Member(job, Path(name) / str(job.seed)) for job in jobs]
        outcomes = [train([member], conditions, *texts)[0] for member in members]
        alone = [outcome.evaluation for outcome in outcomes]
        stacked = [outcome.evaluation for outcome in train(members, conditions, *texts)]
    return [
        max(
            abs(one.loss - other.loss)
            for one, other in zip(alone, stacked, strict=True)
            if one and other
        )
    ]


def _checkpointing_difference(device: str) -> list[float]:
    shape = _shape(device)
    found = []
    for checkpointing in (False, True):
        model = _model(shape, device, "plain")
        model.checkpointing = checkpointing
        found.append(_loss_and_gradient(model, device, _batch(shape))[1])
    return [relative(found[1], found[0])]


def _forced_on_cuda(device: str) -> list[float]:
    """The gradient of a pass that runs out of a memory made smaller, against that of one that has
    enough.
    """
    shape = _shape(device)
    batch = _batch(shape)
    model = _model(shape, device, "plain")
    needed, whole = [], torch.empty(0)
    for micro_batch in (SEQUENCES, SEQUENCES // 2):
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        _, gradient = _loss_and_gradient(model, device, batch, micro_batch=micro_batch)
        whole = gradient if micro_batch == SEQUENCES else whole
        needed.append(torch.cuda.max_memory_reserved())
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(sum(needed) / 2 / total)
    try:
        passes = Passes(model, SEQUENCES)
        _, halved = _gradient(passes, device, batch)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return [relative(halved, whole) if passes.micro_batch < SEQUENCES else math.inf]


def _forced_anywhere(device: str) -> list[float]:
    """As on CUDA, by a first pass that says that memory has run out."""
    shape = _shape(device)
    batch = _batch(shape)
    _, whole = _loss_and_gradient(_model(shape, device, "plain"), device, batch)
    passes = Passes(_model(shape, device, "plain"), SEQUENCES)
    losses = passes.losses

    def once(*part: Tensor) -> Any:
        passes.losses = losses
        raise torch.OutOfMemoryError("made up: no memory is left")

    passes.losses = once
    _, halved = _gradient(passes, device, batch)
    return [relative(halved, whole) if passes.micro_batch < SEQUENCES else math.inf]


def _waits(device: str, dtype: str, optimizer: str, compiled: bool) -> list[float]:
    """0, or an error that says what made the host wait for the device inside a step."""
    shape = _shape(device)
    job = job_for(shape, optimizer=optimizer, batch_sequences=SEQUENCES, dtype=dtype)
    conditions = Conditions(device, SEQUENCES, compile=compiled, ops="plain")
    steps = Steps(job, conditions, sums_of_steps(shape.vocab_size))
    for _ in range(2):
        steps.take()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(WAITING):
            steps.take()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [0.0]


def _attention_backend(device: str, dtype: str) -> Row:
    """Which implementation of attention ran, by what the profiler saw; on CUDA the unfused one is a
    failure.
    """
    shape = _shape(device)
    name = f"attention backend, {dtype}"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    try:
        with profile(activities=activities) as profiled:
            _loss_and_gradient(_model(shape, device, "plain", dtype), device, _batch(shape))
    except Exception as error:
        traceback.print_exc()
        return {"check": name, "passed": False, "error": f"{type(error).__name__}: {error}"[:400]}
    seen = [event.key for event in profiled.key_averages()]
    called = [key for key in seen if key.startswith("aten::_scaled_dot_product")]
    backends = [backend for backend in BACKENDS if any(backend in key for key in called)]
    words = ("flash", "fmha", "attention", "sdpa")
    kernels = [
        key
        for key in seen
        if not key.startswith("aten::") and any(word in key.lower() for word in words)
    ]
    return {
        "check": name,
        "found": " ".join(backends),
        "passed": bool(backends) and (device == "cpu" or backends != ["math"]),
        "operations": called,
        "kernels": kernels[:8],
    }
