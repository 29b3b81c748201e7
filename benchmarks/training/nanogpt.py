"""nanoGPT (github.com/karpathy/nanoGPT), from a checkout: its own train.py in a process, timed by
its log lines.
"""

import contextlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llmscale.measure.train.job import Job
from llmscale.runs.shape import Shape

LAUNCHER = Path(__file__).with_name("launch_nanogpt.py")
FOREVER = 10**9
EVALUATED = 16
"""Sequences at a time."""
MIN_ITERATIONS = 4
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Trial:
    """One timing: tokens/s, seconds from starting the process to the end of its first step, bytes,
    a process.
    """

    tokens_per_second: float
    first_step_seconds: float
    peak_memory_bytes: int
    loading_seconds: float = 0.0
    """Of those, until its first line of output: loading torch."""


def params(shape: Shape) -> int:
    """N of nanoGPT's model with our depth, width and heads: GELU of 4 d, LayerNorm without bias,
    output projection.
    """
    d = shape.d_model
    return shape.n_layer * (12 * d * d + 2 * d) + d + d * shape.vocab_size


def flops_per_token(shape: Shape) -> int:
    """Its training FLOPs a token by the formula of ours, `Shape.flops_per_token`."""
    return 6 * params(shape) + 12 * shape.n_layer * shape.context * shape.d_model


def write_data(folder: Path, train: np.ndarray, validation: np.ndarray, vocab_size: int) -> None:
    """The same tokens in the files that its train.py reads."""
    folder.mkdir(parents=True, exist_ok=True)
    train.astype(np.uint16).tofile(folder / "train.bin")
    validation.astype(np.uint16).tofile(folder / "val.bin")
    with (folder / "meta.pkl").open("wb") as file:
        pickle.dump({"vocab_size": vocab_size}, file)


def time_steps(
    checkout: Path,
    changes: str,
    shape: Shape,
    batch: int,
    device: str,
    data: Path,
    threads: int,
    seconds: float,
    *,
    micro_batch: int | None = None,
    log_interval: int | None = None,
    compile: bool = True,
) -> Trial:
    """Train `shape` for `seconds` after its first step. Its times are those at which its log lines
    arrive.

    A step takes `batch` sequences, in passes of `micro_batch` of them; a GPU is waited for every
    `log_interval` steps."""
    passes = -(-batch // (micro_batch or batch))
    settings = {
        "max_iters": FOREVER,
        "eval_interval": FOREVER,
        "batch_size": batch // passes,
        "gradient_accumulation_steps": passes,
        "log_interval": log_interval or (10 if device == "cuda" else 1),
        "compile": compile,
    }
    first_line: list[float] = []
    times: list[tuple[int, float]] = []

    def enough(line: str) -> bool:
        if not first_line:
            first_line.append(time.perf_counter())
        if not line.startswith("iter "):
            return False
        times.append((int(line.split()[1].rstrip(":")), time.perf_counter()))
        return len(times) > MIN_ITERATIONS and times[-1][1] - times[0][1] > seconds

    started = time.perf_counter()
    memory = _run(
        checkout, changes, shape, device, data, threads, {**settings, "out_dir": str(data)}, enough
    )
    settled = times[max(1, len(times) // 4) - 1 :]
    tokens = passes * settings["batch_size"] * shape.context
    speeds = [(j - i) * tokens / (after - before) for (i, before), (j, after) in pairwise(settled)]
    return Trial(statistics.median(speeds), times[0][1] - started, memory, first_line[0] - started)


def train(
    checkout: Path, changes: str, job: Job, micro_batch: int, device: str, data: Path, threads: int
) -> Path:
    """Train the whole of `job`'s tokens with our peak learning rate and warm-up, its own cosine to
    a tenth; ckpt.pt.

    Its default beta2 is for batches of half a million tokens; it gets ours for the batch, as its
    own small configs do."""
    folder = data / f"{job.shape.name}-{changes.replace(',', '-')}-{threads}"
    settings = {
        "batch_size": micro_batch,
        "gradient_accumulation_steps": -(-job.batch_sequences // micro_batch),
        "learning_rate": job.lr,
        "min_lr": job.lr / 10,
        "warmup_iters": job.warmup_steps,
        "lr_decay_iters": job.steps,
        "max_iters": job.steps,
        "beta2": job.beta2,
        "weight_decay": job.weight_decay,
        "grad_clip": job.clip,
        # where it writes its checkpoint; one batch, so that this costs it no time
        "eval_interval": job.steps,
        "log_interval": 10,
        "always_save_checkpoint": True,
        "out_dir": str(folder),
    }
    _run(checkout, changes, job.shape, device, data, threads, settings, lambda line: False)
    return folder / "ckpt.pt"


def validation_loss(checkout: Path, checkpoint: Path, tokens: np.ndarray, device: str) -> float:
    """Nats per token of its checkpoint over all whole windows of `tokens`, as our runs are
    evaluated.
    """
    import torch

    sys.path.insert(0, str(checkout))
    try:
        from model import GPT, GPTConfig  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(checkout))
    saved = torch.load(checkpoint, map_location=device, weights_only=True)
    config = GPTConfig(**saved["model_args"])
    with contextlib.redirect_stdout(sys.stderr):  # it prints its size
        model = GPT(config).to(device).eval()
    model.load_state_dict(
        {name.removeprefix("_orig_mod."): weight for name, weight in saved["model"].items()}
    )
    T = config.block_size
    windows = (len(tokens) - 1) // T
    inputs_BT, targets_BT = (
        torch.from_numpy(tokens[first : first + windows * T].astype(np.int64)).view(windows, T)
        for first in (0, 1)
    )
    total = 0.0
    with torch.no_grad():
        for inputs, targets in zip(
            inputs_BT.split(EVALUATED), targets_BT.split(EVALUATED), strict=True
        ):
            _, loss = model(inputs.to(device), targets.to(device))  # the mean over the batch
            total += len(inputs) * float(loss)
    return total / windows


def _run(
    checkout: Path,
    changes: str,
    shape: Shape,
    device: str,
    data: Path,
    threads: int,
    settings: dict[str, Any],
    enough: Callable[[str], bool],
) -> int:
    """Run its train.py until it ends, or until `enough` of its output was read; the bytes that it
    held at most.
    """
    every = {
        "device": device,
        "compile": True,
        "dataset": str(data),  # an absolute path stands for itself
        "n_layer": shape.n_layer,
        "n_embd": shape.d_model,
        "n_head": shape.n_head,
        "block_size": shape.context,
        "dropout": 0.0,
        "bias": False,
        "eval_iters": 1,
        "always_save_checkpoint": False,
    }
    arguments = [f"--{name}={value}" for name, value in {**every, **settings}.items()]
    command = [sys.executable, "-u", str(LAUNCHER), str(checkout), changes, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"}
    log = data / f"nanogpt-{os.getpid()}-{time.monotonic_ns()}.log"
    lines: list[str] = []
    with log.open("w", encoding="utf-8") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            stopped = False
            for line in process.stdout:
                lines.append(line)
                if not stopped and enough(line):
                    stopped = True
                    process.terminate()
            process.wait(PATIENCE_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode != 0 or not lines:
        raise RuntimeError(
            "nanoGPT ended with "
            f"{process.returncode}:\n{''.join(lines[-5:])}{log.read_text(encoding='utf-8')[-2000:]}"
        )
    memory: int = json.loads(lines[-1])["peak_memory_bytes"]
    return memory
