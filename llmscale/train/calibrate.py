"""How fast this device is: large matrix products, for MFU, and whole training steps, to estimate a sweep's time."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from llmscale.models import build_model
from llmscale.shape import Shape
from llmscale.train.loop import token_losses

SECONDS_A_SHAPE = 1.0
MEASURED_SHAPES = 3


@dataclass(frozen=True)
class Speeds:
    """Training speed by shape, from a few measured ones: FLOP/s by FLOPs a token, by straight lines in log-log."""

    peak_flops: float
    """FLOP/s of large matrix products in the training dtype."""
    measured: tuple[tuple[float, float], ...]
    """(FLOPs a token, FLOP/s reached) of the shapes measured, by growing FLOPs a token."""

    def tokens_per_second(self, shape: Shape) -> float:
        """Training tokens a second to expect of `shape`."""
        x = math.log(shape.flops_per_token)
        points = [(math.log(cost), math.log(rate)) for cost, rate in self.measured]
        if x <= points[0][0] or len(points) == 1:
            rate = points[0][1]
        else:
            pairs = itertools.pairwise(points)
            (x0, y0), (x1, y1) = next((pair for pair in pairs if x <= pair[1][0]), (points[-1], points[-1]))
            rate = y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        return math.exp(rate) / shape.flops_per_token


def measure_peak(device: str, dtype: str) -> float:
    """FLOP/s of square matrix products in `dtype`: the best of five."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    repeats = 10 if device == "cuda" else 4
    seconds = []
    for _ in range(6):
        started = _clock(device)
        for _ in range(repeats):
            a @ b
        seconds.append(_clock(device) - started)
    return repeats * 2 * size**3 / min(seconds[1:])


def measure_speeds(shapes: Sequence[Shape], micro_batch: Callable[[Shape], int], device: str, dtype: str) -> Speeds:
    """Time forward and backward passes of up to three of `shapes`, the smallest and largest among them.

    A shape with more than 200M weights is timed by two of its layers alone, which keeps this short and small.
    """
    by_cost = sorted(set(shapes), key=lambda shape: shape.flops_per_token)
    places = {round(i * (len(by_cost) - 1) / max(1, MEASURED_SHAPES - 1)) for i in range(MEASURED_SHAPES)}
    measured = []
    for shape in (by_cost[place] for place in sorted(places)):
        timed = shape if shape.params_total <= 200e6 else replace(shape, n_layer=min(2, shape.n_layer))
        rate = _steps_per_second(timed, micro_batch(shape), device, dtype)
        measured.append(
            (float(shape.flops_per_token), rate * micro_batch(shape) * timed.context * timed.flops_per_token)
        )
    return Speeds(measure_peak(device, dtype), tuple(measured))


def _steps_per_second(shape: Shape, sequences: int, device: str, dtype: str) -> float:
    model = build_model(shape).to(device)
    losses_BT = token_losses(model, dtype, device)
    tokens_BT = torch.randint(shape.vocab_size, (sequences, shape.context), device=device)

    def step() -> None:
        losses_BT(tokens_BT, tokens_BT).mean().backward()
        model.zero_grad(set_to_none=True)

    step()
    started, steps = _clock(device), 0
    while steps < 2 or _clock(device) - started < SECONDS_A_SHAPE:
        step()
        steps += 1
    return steps / (_clock(device) - started)


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
