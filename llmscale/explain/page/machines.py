"""What the models of a page may be trained and served on, and the models that can be built."""

from typing import Any

from llmscale.explain.estimation.result import Fit
from llmscale.explain.planning.real_shape import setting_of
from llmscale.machine.gpus import GPUS, GPUModel
from llmscale.menu import is_own
from llmscale.runs.shape import ladder

_FIGURES = ("name", "peak_flops", "memory_bytes", "memory_bytes_per_second", "power_watts", "mfu")
_CACHE_BYTES = 2 * 2
"""Of a key and a value in bfloat16, for each channel of each layer."""


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


def shapes_of(fit: Fit) -> dict[str, list[Any]]:
    """The models that can be built, by growing N as the law counts it: their weights, and the bytes
    of keys and values for each token, with every head its own."""
    setting = setting_of(fit, None, None, None)
    shapes = ladder(vocab_size=setting.vocab_size, context=setting.context, arch=setting.arch)
    return {
        "name": [shape.name for shape in shapes],
        "params": [getattr(shape, fit.origin.count) for shape in shapes],
        "params_total": [shape.params_total for shape in shapes],
        "cache_bytes": [_CACHE_BYTES * shape.n_layer * shape.d_model for shape in shapes],
    }
