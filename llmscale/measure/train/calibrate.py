"""How fast this device is: matrix products, for MFU, and training steps, to estimate time."""

import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from llmscale.errors import WorkError
from llmscale.machine.child import child_environment, python
from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.train.batches import Windows
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.evaluate import evaluate
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import EVALUATION_SPEED
from llmscale.measure.train.throughput import (
    as_in_training,
    ends_and_middle,
    measure_throughput,
    sample_tokens,
    throughput_job,
)
from llmscale.measure.transformer import build_model
from llmscale.menu import receive, texts_of
from llmscale.runs.shape import Shape

SECONDS_A_SHAPE = {"cpu": 0.1, "cuda": 0.4}  # a GPU takes its time to reach its speed
STEP_SECONDS, ASSUMED_MFU = 0.08, 0.3
"""A shape is timed by steps of about this length, were it to reach this MFU."""
MEASURED_TOKENS = 100_000
EVALUATED_PASSES = 4


@dataclass(frozen=True)
class Speeds:
    """FLOP/s by FLOPs a token, from a few measured shapes, by straight lines in log-log."""

    peak_flops: float
    """FLOP/s of large matrix products in the training dtype."""
    measured: tuple[tuple[float, float], ...]
    """(FLOPs a token, FLOP/s reached) of the shapes measured, by growing FLOPs a token."""
    evaluated: tuple[tuple[float, float], ...] = ()
    """The same of evaluating, in FLOPs that training on as many tokens would take."""

    def tokens_per_second(self, shape: Shape) -> float:
        """Training tokens a second to expect of `shape`."""
        return self._at(shape, self.measured)

    def evaluated_per_second(self, shape: Shape) -> float:
        """Tokens evaluated a second to expect of `shape`."""
        if not self.evaluated:
            return EVALUATION_SPEED * self.tokens_per_second(shape)
        return self._at(shape, self.evaluated)

    @staticmethod
    def _at(shape: Shape, measured: tuple[tuple[float, float], ...]) -> float:
        x = math.log(shape.flops_per_token)
        points = [(math.log(cost), math.log(rate)) for cost, rate in measured]
        if x <= points[0][0] or len(points) == 1:
            rate = points[0][1]
        else:
            around = (pair for pair in itertools.pairwise(points) if x <= pair[1][0])
            (x0, y0), (x1, y1) = next(around, (points[-1], points[-1]))
            rate = y0
            if x1 != x0:
                rate += (y1 - y0) * (x - x0) / (x1 - x0)
        return math.exp(rate) / shape.flops_per_token


def measure_peak(device: str, dtype: str, threads: int | None = None) -> float:
    """FLOP/s of matrix products in `dtype`, on `threads` or torch's own number: best of five."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    repeats = 10 if device == "cuda" else 2
    seconds = []
    with as_in_training(threads or torch.get_num_threads()):
        for _ in range(6):
            started = _clock(device)
            for _ in range(repeats):
                a @ b
            seconds.append(_clock(device) - started)
    return repeats * 2 * size**3 / min(seconds[1:])


def measure_in_child(
    micro_batches: Mapping[Shape, int], device: str, dtype: str, optimizer: str = "adamw"
) -> Speeds:
    """As measure_speeds, in a process of its own that leaves nothing on the device. WorkError."""
    shapes = [[asdict(shape), sequences] for shape, sequences in micro_batches.items()]
    own = texts_of([optimizer, *(shape.arch for shape in micro_batches)])
    settings = {"device": device, "dtype": dtype, "optimizer": optimizer}
    asked = json.dumps({"shapes": shapes, "own": own, **settings})
    command, environment = python("-m", "llmscale.measure.train.calibrate"), child_environment()
    piped: Any = {"input": asked, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run(command, env=environment, check=False, **piped)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        problem = f"the speed of {device} could not be measured: {reason}"
        raise WorkError(problem, "see: llmscale doctor")
    told = json.loads(done.stdout.splitlines()[-1])
    measured, evaluated = (tuple(map(tuple, told[name])) for name in ("measured", "evaluated"))
    return Speeds(told["peak_flops"], measured, evaluated)


def measure_speeds(
    micro_batches: Mapping[Shape, int], device: str, dtype: str, optimizer: str = "adamw"
) -> Speeds:
    """Time whole steps, not compiled, on one thread or GPU, of up to three shapes, smallest and
    largest included.

    `micro_batches` says how many sequences a step of each takes.

    In all it takes one to three seconds. A shape with long steps is timed by two of its layers, and
    if that is not enough, by fewer sequences a step."""
    peak = measure_peak(device, dtype, threads=1)
    by_cost = sorted(micro_batches, key=lambda shape: shape.flops_per_token)
    step_flops, seconds = ASSUMED_MFU * peak * STEP_SECONDS, SECONDS_A_SHAPE[device]
    measured, evaluated = [], []
    for shape in ends_and_middle(by_cost):
        timed, sequences = _with_short_steps(shape, micro_batches[shape], step_flops)
        job = throughput_job(timed, sequences, dtype, optimizer)
        tokens = sample_tokens(timed.vocab_size, max(MEASURED_TOKENS, 2 * timed.context))
        found = measure_throughput(job, Conditions(device, sequences), tokens, seconds, 1)
        read_per_second = _evaluation_speed(timed, sequences, device, dtype, tokens)
        cost = float(shape.flops_per_token)
        measured.append((cost, found.tokens_per_second * timed.flops_per_token))
        evaluated.append((cost, read_per_second * timed.flops_per_token))
    return Speeds(peak, tuple(measured), tuple(evaluated))


def _evaluation_speed(
    shape: Shape, sequences: int, device: str, dtype: str, tokens: np.ndarray
) -> float:
    """Tokens a second of evaluating, `sequences` in a pass, on one thread or GPU."""
    with as_in_training(1):
        model = build_model(shape, ops=build_operations(pick_operations(device), dtype)).to(device)
        passes = Passes(model, sequences)
        read = tokens[: EVALUATED_PASSES * sequences * shape.context + 1]
        text = Windows(read, shape.context, device)
        evaluate(passes, text)
        started = _clock(device)
        evaluate(passes, text)
        return len(text) * shape.context / (_clock(device) - started)


def _with_short_steps(shape: Shape, sequences: int, flops: float) -> tuple[Shape, int]:
    """`shape` and `sequences`, or what of them makes a step of about `flops` FLOPs."""
    if shape.flops_per_token * shape.context * sequences > flops:
        shape = replace(shape, n_layer=min(2, shape.n_layer))
    while sequences > 1 and shape.flops_per_token * shape.context * sequences > flops:
        sequences //= 2
    return shape, sequences


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure what standard input asks for; both it and the answer are one JSON object."""
    # Whatever else prints, such as a file of the user's own, must not come into the answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    asked = json.loads(sys.stdin.read())
    receive(asked.pop("own"))
    micro_batches = {Shape(**shape): sequences for shape, sequences in asked.pop("shapes")}
    answer.write(json.dumps(asdict(measure_speeds(micro_batches, **asked))) + "\n")


if __name__ == "__main__":
    main()
