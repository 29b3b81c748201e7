"""What the models of a page may be trained and served on, and the models that can be built."""

from collections.abc import Iterator
from typing import Any

from llmscale.explain.estimation.result import Fit
from llmscale.explain.planning.real_shape import setting_of
from llmscale.machine.gpus import GPUS, GPUModel
from llmscale.runs.shape import ladder

_FIGURES = ("name", "peak_flops", "memory_bytes", "memory_bytes_per_second", "power_watts", "mfu")
_STEP = 1.05
"""Shapes of the page are so many times apart in size."""
_AROUND = 10.0
"""Times the best sizes that shapes go to."""
_CACHE_BYTES = 2 * 2
"""Of a key and a value in bfloat16, for each channel of each layer."""


def gpus_of(first: str) -> list[dict[str, Any]]:
    """The figures of every GPU of the menu, those of the one that is named `first` at the head.
    Raises InputError if there is no such GPU."""
    chosen = first if first in GPUS.names else first.lower()
    keys = dict.fromkeys([chosen if chosen in GPUS.names else first, *GPUS.names])
    return [_figures(key, GPUS.find(key)) for key in keys]


def _figures(key: str, gpu: GPUModel) -> dict[str, Any]:
    # One of the user's own is called by its name: its path is nobody else's business.
    known = key if key in GPUS.names else gpu.name
    return {"key": known, **{name: getattr(gpu, name) for name in _FIGURES}}


def shapes_of(fit: Fit, params: tuple[float, float]) -> Iterator[dict[str, Any]]:
    """The models that can be built, by N as the law counts it, with their weights and the bytes of
    keys and values for each token, as they are with every head its own."""
    setting = setting_of(fit, None, None, None)
    last = 0.0
    shapes = ladder(vocab_size=setting.vocab_size, context=setting.context, arch=setting.arch)
    for shape in shapes:
        count = float(getattr(shape, fit.origin.count))
        if count > _STEP * last and params[0] / _AROUND < count < params[1] * _AROUND:
            last = count
            cache = _CACHE_BYTES * shape.n_layer * shape.d_model
            weights = {"params": count, "params_total": shape.params_total}
            yield {"name": shape.name, **weights, "cache_bytes": cache}
