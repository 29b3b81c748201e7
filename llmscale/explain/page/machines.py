"""What the models of a page may be trained and served on, and the models that can be built."""

from typing import Any

from llmscale.explain.estimation.result import Fit
from llmscale.explain.planning.deployment import MEMORY_SHARE, Load, Server
from llmscale.explain.planning.real_shape import Setting
from llmscale.machine.gpus import GPUS, GPUModel
from llmscale.menu import is_own
from llmscale.runs.shape import ladder

_FIGURES = ("name", "peak_flops", "memory_bytes", "memory_bytes_per_second", "power_watts", "mfu")
_WIDTHS = {4.0: "4, float32", 2.0: "2, bfloat16", 1.0: "1, 8 bits", 0.5: "0.5, 4 bits"}
"""Bytes of a weight to choose from, and what they are called."""
_ONE = Load(context=1, bytes_per_weight=1.0)
"""One text of one token, and a byte a weight: the page multiplies."""


def gpus_of(first: str) -> list[dict[str, Any]]:
    """The figures of every GPU of the menu, those of the one that is named `first` at the head.
    Raises InputError if there is no such GPU."""
    chosen = first if is_own(first) else first.lower()
    keys = dict.fromkeys([chosen, *GPUS.names])
    return [_figures(key, GPUS.find(key)) for key in keys]


def _figures(key: str, gpu: GPUModel) -> dict[str, Any]:
    # One of the user's own is called by its name: its path is nobody else's business.
    known = gpu.name if is_own(key) else key
    return {"key": known, **{name: getattr(gpu, name) for name in _FIGURES}}


def serving_of() -> dict[str, Any]:
    """What `advise` reckons with: the shares of the bandwidth at which weights of so many bytes and
    the cache are read, and of the memory that they may take."""
    server = Server("any")
    return {
        "widths": [[width, said, server.reached(width)] for width, said in _WIDTHS.items()],
        "cache_reached": server.reached(_ONE.bytes_per_kv),
        "memory_share": MEMORY_SHARE,
    }


def shapes_of(fit: Fit, setting: Setting) -> dict[str, list[Any]]:
    """The models that can be built, by growing N as the law counts it: their weights, those of them
    that a token reads, and the bytes of keys and values for each token, with every head its own."""
    shapes = ladder(vocab_size=setting.vocab_size, context=setting.context, arch=setting.arch)
    return {
        "name": [shape.name for shape in shapes],
        "params": [getattr(shape, fit.origin.count) for shape in shapes],
        "params_total": [shape.params_total for shape in shapes],
        "params_read": [_ONE.weight_bytes_read(shape) for shape in shapes],
        "cache_bytes": [_ONE.cache_bytes(shape) for shape in shapes],
    }
