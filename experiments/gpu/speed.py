"""Training speed of our loop and of nanoGPT's, one row a process, each on the same tokens, shapes
and batches.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from training import nanogpt

from gpu import Row
from llmscale.measure.train.backend import set_up_device
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.throughput import (
    STEPS_A_POINT,
    measure_throughput,
    sample_tokens,
    throughput_job,
)
from llmscale.runs.shape import Shape

NANOGPT = "nanoGPT"
SECONDS_A_POINT, ASSUMED_FLOPS = 0.4, 3e14
"""A time is taken about so often on a GPU of about so many FLOP/s: the device is waited for there.
"""
LADDER_SECONDS = 2.0
"""Of timing nanoGPT at each size of the ladder, after its first step."""


def time_ours(
    device: str,
    size: str,
    shape: dict[str, Any],
    batch_sequences: int,
    micro_batch: int,
    dtype: str,
    seconds: float,
    compile: bool,
    seeds: int = 1,
    optimizer: str = "adamw",
    steps_a_point: int | None = None,
) -> Iterator[Row]:
    """Whole training steps of ours for about `seconds` after the first; of several `seeds` as one
    stack.

    On a CPU all rows are of one thread.
    """
    set_up_device(device)
    model = Shape(**shape)
    ops = "plain" if compile or seeds > 1 else "auto"
    conditions = Conditions(device, micro_batch, compile=compile, ops=ops)
    job = throughput_job(model, batch_sequences, dtype, optimizer)
    steps = steps_a_point or _steps_a_point(
        device, seeds * job.batch_tokens * model.flops_per_token
    )
    tokens = sample_tokens(model.vocab_size)
    measured = measure_throughput(job, conditions, tokens, seconds, steps, seeds)
    yield {
        **_case(size, model, batch_sequences, micro_batch, dtype),
        "who": "llmscale",
        "compiled": compile,
        "seeds": seeds,
        "optimizer": optimizer,
        "params": model.params,
        "flops_per_token": model.flops_per_token,
        **asdict(measured),
    }


def time_nanogpt(
    device: str,
    peer: str,
    size: str,
    shape: dict[str, Any],
    batch_sequences: int,
    micro_batch: int,
    dtype: str,
    seconds: float,
    compile: bool,
    steps_a_point: int | None = None,
) -> Iterator[Row]:
    """nanoGPT's own train.py on as many sequences a step, in passes of as many as ours."""
    case = size, Shape(**shape), batch_sequences, micro_batch, dtype
    yield _time_nanogpt(device, Path(peer), *case, seconds, compile, steps_a_point)


def derive_ladder(device: str, peer: str, folder: str, compile: bool) -> Iterator[Row]:
    """What nanoGPT would take for each run of the sweep in `folder`: its first step, and its others
    at their speed.
    """
    for run in pq.read_table(Path(folder) / "runs.parquet").to_pylist():
        names = ("n_layer", "d_model", "n_head", "d_ff", "vocab_size", "context", "arch")
        shape = Shape(**{name: run[name] for name in names})
        batch = run["batch_tokens"] // run["context"]
        case = run["size"], shape, batch, batch, run["dtype"]
        timed = _time_nanogpt(device, Path(peer), *case, LADDER_SECONDS, compile, None)
        later = (run["tokens"] - run["batch_tokens"]) / timed["tokens_per_second"]
        first = timed["first_step_seconds"] + timed["loading_seconds"]
        yield {
            **timed,
            "steps": run["steps"],
            "derived_seconds": first + later,
            "our_training_seconds": run["seconds"],
        }


def _time_nanogpt(
    device: str,
    peer: Path,
    size: str,
    shape: Shape,
    batch: int,
    micro_batch: int,
    dtype: str,
    seconds: float,
    compile: bool,
    steps_a_point: int | None,
) -> Row:
    steps = steps_a_point or _steps_a_point(
        device, batch * shape.context * nanogpt.flops_per_token(shape)
    )
    tokens = sample_tokens(shape.vocab_size)
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        nanogpt.write_data(data, tokens, tokens[: 10 * shape.context], shape.vocab_size)
        timed = nanogpt.time_steps(
            peer,
            "none",
            shape,
            batch,
            device,
            data,
            1,
            seconds,
            micro_batch=micro_batch,
            log_interval=steps,
            compile=compile,
        )
    found = asdict(timed)
    found["first_step_seconds"] -= timed.loading_seconds
    return {
        **_case(size, shape, batch, micro_batch, dtype),
        "who": NANOGPT,
        "compiled": compile,
        "seeds": 1,
        "optimizer": "adamw",
        "params": nanogpt.params(shape),
        "flops_per_token": nanogpt.flops_per_token(shape),
        **found,
    }


def _case(size: str, shape: Shape, batch: int, micro_batch: int, dtype: str) -> Row:
    return {
        "size": size,
        "shape": shape.name,
        "context": shape.context,
        "vocab_size": shape.vocab_size,
        "batch_sequences": batch,
        "micro_batch": micro_batch,
        "dtype": dtype,
    }


def _steps_a_point(device: str, step_flops: float) -> int:
    """Steps from one time to the next, so that a few seconds give several."""
    if device == "cpu":
        return STEPS_A_POINT[device]
    return max(1, min(STEPS_A_POINT[device], round(SECONDS_A_POINT * ASSUMED_FLOPS / step_flops)))
