"""The dtype of a sweep's matrix products: on a CPU the one in which this machine multiplies its own
shapes faster.

That a CPU multiplies bfloat16 does not make it faster there: without AMX, Intel's take twice as
long as in float32."""

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from llmscale.errors import LlmscaleError
from llmscale.machine import cpu_flags, device_name, has_bfloat16, pick_dtype
from llmscale.machine.cache import cache_folder
from llmscale.measure.ops import build_operations
from llmscale.measure.train.batch_parts import PART_TOKENS
from llmscale.measure.train.throughput import as_in_training, ends_and_middle
from llmscale.measure.transformer import empty_model
from llmscale.runs.safe_write import make_folder, write_json
from llmscale.runs.shape import Shape, shape_for

BFLOAT16_GAIN = 1.1
"""bfloat16 keeps 8 bits of 24, so it has to be at least this many times as fast."""
LADDER = ("300k", "1M", "3M")
"""What is measured if no sweep says which sizes."""
CONTEXT, VOCABULARY = 256, 2048
REPEATS, SECONDS = 3, 1.2
"""Of timing each product; and all that may take. Products that come late, which weigh least, are
then left out."""
LARGEST_SIDE, FEWEST_ROWS, PRODUCT_FLOPS = 1024, 256, 2e8
"""A product is measured with weights of at most this many rows and columns; over as few tokens as
keep its FLOPs below this, but not fewer than these."""
FOLDER = "products"

Product: TypeAlias = tuple[int, int, int, float]
"""Tokens, outputs and inputs of a linear layer, and FLOPs a token of all such: its weight."""


@dataclass(frozen=True)
class DtypeChoice:
    """`float32` or `bfloat16`, and why."""

    dtype: str
    reason: str

    def __str__(self) -> str:
        return f"{self.dtype}: {self.reason}"


def choose_dtype(
    asked: str = "auto",
    device: str = "cpu",
    shapes: Sequence[Shape] = (),
    what: str = "this sweep's products",
) -> DtypeChoice:
    """What was asked for, or with `auto` the faster dtype on `device` for models of `shapes`.
    Raises InputError.

    A GPU takes bfloat16 if it multiplies it. A CPU that does is measured once, in about a second,
    for such products (named `what`): llmscale keeps the result in its cache folder. Without
    `shapes` it is measured for LADDER."""
    picked = pick_dtype(asked, device)
    if asked != "auto":
        return DtypeChoice(picked, "asked for")
    if not has_bfloat16(device):
        name = "CPU" if device == "cpu" else "GPU"
        return DtypeChoice("float32", f"this {name} does not multiply bfloat16")
    if device != "cpu":
        return DtypeChoice("bfloat16", "this GPU multiplies it")
    if not shapes:
        shapes = [shape_for(size, vocab_size=VOCABULARY, context=CONTEXT) for size in LADDER]
        what = f"products of {LADDER[0]} to {LADDER[-1]} models"
    return _faster(_known_speeds(products_of(shapes)), what)


def products_of(shapes: Sequence[Shape]) -> tuple[Product, ...]:
    """The linear layers of the smallest, a middle and the largest shape, cut to time quickly."""
    by_cost = sorted(set(shapes), key=lambda shape: (shape.flops_per_token, shape.name))
    flops: Counter[tuple[int, int, int]] = Counter()
    for shape in ends_and_middle(by_cost):
        with torch.device("meta"):
            model = empty_model(shape, "standard", build_operations("plain", "float32"))
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                outputs, inputs = layer.out_features, layer.in_features
                flops[_cut(outputs, inputs)] += 6 * outputs * inputs
    return tuple((*sizes, float(weight)) for sizes, weight in flops.items())


def measure_products(products: Sequence[Product]) -> dict[str, float]:
    """FLOP/s of one thread by dtype: the products of linear layers forward and backward, the best
    of a few times. The dtypes take turns, so that what else the machine does meets both."""
    seconds = dict.fromkeys(("float32", "bfloat16"), 0.0)
    whole, deadline = 0.0, time.perf_counter() + SECONDS
    with as_in_training(threads=1), torch.no_grad():
        for rows, outputs, inputs, weight in sorted(products, key=lambda product: -product[3]):
            if whole and time.perf_counter() > deadline:
                break
            best = dict.fromkeys(seconds, math.inf)
            operands = {name: _operands(rows, outputs, inputs, name) for name in seconds}
            for _ in range(1 + REPEATS):  # the first makes the kernels, and is not the best
                for name in seconds:
                    best[name] = min(best[name], _seconds(*operands[name]))
            for name in seconds:
                seconds[name] += weight * best[name] / (6.0 * rows * outputs * inputs)
            whole += weight
    return {name: whole / took for name, took in seconds.items()}


def _faster(speeds: dict[str, float], what: str) -> DtypeChoice:
    wide, narrow = speeds["float32"], speeds["bfloat16"]
    if narrow >= BFLOAT16_GAIN * wide:
        return DtypeChoice("bfloat16", _comparison(narrow, wide, "float32", what))
    if wide >= narrow:
        return DtypeChoice("float32", _comparison(wide, narrow, "bfloat16", what))
    slower = _comparison(narrow, wide, "float32", what)
    return DtypeChoice("float32", f"bfloat16, which rounds more, is only {slower}")


def _comparison(fast: float, slow: float, other: str, what: str) -> str:
    speeds = f"{fast / 1e9:,.0f} against {slow / 1e9:,.0f} GFLOP/s, one core"
    return f"{fast / slow:.2g} times as fast here as {other} on {what} ({speeds})"


def _known_speeds(products: Sequence[Product]) -> dict[str, float]:
    """`measure_products`, or what it gave on this machine before and a sound file says."""
    asked: dict[str, object] = {
        "cpu": device_name("cpu"),
        "flags": hashlib.blake2b(" ".join(sorted(cpu_flags())).encode(), digest_size=8).hexdigest(),
        "torch": torch.__version__,
        "products": [list(product) for product in products],
    }
    digest = hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=8).hexdigest()
    path = cache_folder() / FOLDER / f"{digest}.json"
    known = _read(path, asked)
    if known is not None:
        return known
    measured = measure_products(products)
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with suppress(LlmscaleError):  # without a cache it is measured every time
        make_folder(path.parent)
        write_json(path, {**asked, "flops_per_second": measured, "written": written})
    return measured


def _read(path: Path, asked: dict[str, object]) -> dict[str, float] | None:
    """The speeds that `path` holds for what is `asked`, or None."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        speeds = {name: float(found["flops_per_second"][name]) for name in ("float32", "bfloat16")}
        is_asked = all(found[key] == value for key, value in asked.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return speeds if is_asked and all(0 < speed < math.inf for speed in speeds.values()) else None


def _cut(outputs: int, inputs: int) -> tuple[int, int, int]:
    """The tokens that a linear layer is measured with, and its size."""
    outputs, inputs, rows = min(outputs, LARGEST_SIDE), min(inputs, LARGEST_SIDE), PART_TOKENS
    while rows > FEWEST_ROWS and 2 * rows * outputs * inputs > PRODUCT_FLOPS:
        rows //= 2
    return rows, outputs, inputs


def _operands(rows: int, outputs: int, inputs: int, name: str) -> list[torch.Tensor]:
    """Activations, weights and gradients of a linear layer."""
    sizes = (rows, inputs), (outputs, inputs), (rows, outputs)
    return [torch.randn(size, dtype=torch.float32).to(getattr(torch, name)) for size in sizes]


def _seconds(x: torch.Tensor, weight: torch.Tensor, d_y: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.nn.functional.linear(x, weight)
    d_y @ weight
    d_y.t() @ x
    return time.perf_counter() - started
