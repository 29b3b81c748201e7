"""Which kernels a training step spends its time in, and how long the device waits for the host."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from gpu import Row
from gpu.training import Steps, job_for, sums_of_steps
from llmscale.measure.train.backend import set_up_device
from llmscale.measure.train.conditions import Conditions
from llmscale.runs.shape import Shape

WARMING, PROFILED = 5, 3
"""Steps before, and steps looked at."""
SHOWN = 25
_NAME_WIDTH = 90


def profile_steps(
    device: str,
    size: str,
    shape: dict[str, Any],
    batch_sequences: int,
    micro_batch: int,
    dtype: str,
    compile: bool,
    folder: str,
) -> Iterator[Row]:
    """Time by kernel of some steps, on a CPU by operation; `profile-SIZE.txt` and `.json` in
    `folder`.
    """
    set_up_device(device)
    model = Shape(**shape)
    job = job_for(model, batch_sequences=batch_sequences, dtype=dtype, lr=1e-5)
    conditions = Conditions(device, micro_batch, compile=compile, ops="plain")
    steps = Steps(job, conditions, sums_of_steps(model.vocab_size))
    for _ in range(WARMING):
        steps.take()
    _finish(device)
    on_device = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=list({ProfilerActivity.CPU, on_device})) as profiled:
        for _ in range(PROFILED):
            steps.take()
        _finish(device)
    kernels = _by_name(_on_device(profiled.events(), device))
    busy = sum(kernel["milliseconds"] for kernel in kernels)
    for kernel in kernels:
        kernel["share"] = kernel["milliseconds"] / busy if busy else 0.0
    found: Row = {
        "size": size,
        "shape": model.name,
        "steps": PROFILED,
        "compiled": compile,
        "dtype": dtype,
    }
    found |= {
        "context": model.context,
        "batch_sequences": batch_sequences,
        "kernel_milliseconds": busy,
    }
    if device == "cuda":
        found |= _gaps(_on_device(profiled.events(), device))
    else:
        found["idle_share"] = None
    top = kernels[:SHOWN]
    text = json.dumps({**found, "kernels": top}, indent=2) + "\n"
    (Path(folder) / f"profile-{size}.json").write_text(text, encoding="utf-8")
    (Path(folder) / f"profile-{size}.txt").write_text(_table(found, top), encoding="utf-8")
    yield {**found, "kernels": top}


def _on_device(events: Iterable[FunctionEvent], device: str) -> list[FunctionEvent]:
    """What ran on the GPU; on a CPU, all operations."""
    if device == "cpu":
        return [event for event in events if event.name.startswith("aten::")]
    # Ranges that somebody has named, such as an optimiser's step, hold the kernels that ran in
    # them.
    return [
        event
        for event in events
        if event.device_type.name == "CUDA" and not event.is_user_annotation
    ]


def _by_name(events: Iterable[FunctionEvent]) -> list[Row]:
    """Calls and milliseconds by kernel, the longest first."""
    calls: dict[str, int] = {}
    milliseconds: dict[str, float] = {}
    for event in events:
        on_gpu = event.device_type.name == "CUDA"
        microseconds = event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        calls[event.name] = calls.get(event.name, 0) + 1
        milliseconds[event.name] = milliseconds.get(event.name, 0.0) + microseconds / 1000
    names = sorted(milliseconds, key=milliseconds.__getitem__, reverse=True)
    return [
        {"name": name, "calls": calls[name], "milliseconds": milliseconds[name]} for name in names
    ]


def _gaps(events: Iterable[FunctionEvent]) -> Row:
    """The time from the first kernel to the end of the last, and the share of it in which none
    ran.
    """
    ranges = sorted((event.time_range.start, event.time_range.end) for event in events)
    if not ranges:
        return {"span_milliseconds": None, "idle_share": None}
    busy, reached = 0.0, ranges[0][0]
    for start, end in ranges:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    span = reached - ranges[0][0]
    return {"span_milliseconds": span / 1000, "idle_share": 1 - busy / span}


def _table(found: Row, kernels: list[Row]) -> str:
    idle = (
        ""
        if found["idle_share"] is None
        else f", device idle {found['idle_share']:.1%} of the time"
    )
    how = "compiled" if found["compiled"] else "eager"
    lines = [
        f"{found['size']} ({found['shape']}), {found['batch_sequences']} x {found['context']} "
        f"tokens a step, {found['dtype']}, {how}: {found['steps']} steps{idle}",
        "",
        f"{'ms':>10} {'share':>7} {'calls':>7}  kernel",
    ]
    for kernel in kernels:
        name = kernel["name"][:_NAME_WIDTH]
        lines.append(
            f"{kernel['milliseconds']:10.3f} {kernel['share']:7.1%} {kernel['calls']:7d}  {name}"
        )
    return "\n".join(lines) + "\n"


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
