"""What serving a model takes: bytes of memory, and the time of a step of decoding, by the roofline
of memory and arithmetic (Williams et al. 2009; Pope et al. 2022, arXiv 2211.05102, section 2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from llmscale.runs.shape import Shape

MEMORY_SHARE = 0.9
"""Of the memory for weights and cache; activations and the runtime take the rest (vLLM's default,
gpu_memory_utilization)."""
_WIDTHS, _REACHED = (0.625, 1.0, 2.0), (0.42, 0.52, 0.68)
"""Bytes of a weight, and the share of the bandwidth that decoding reaches with them: Llama 2 7B on
one A100 with 2039 GB/s read 1397 GB/s in 16 bits, 1069 in 8 and 863 in 4 with their scales
(gpt-fast, README)."""
_SECONDS = tuple(width / share for width, share in zip(_WIDTHS, _REACHED, strict=True))
"""Time to read a weight of each width, times the bandwidth: it grows with the width, as the share
does."""
_FORMATS, _NARROWER = (16, 8, 4), 0.75
"""Bits of weights that are served, and how many of one's own bits a narrower format has at most: 4
bits with their scales are about 5."""
TRAINED_TO_SERVED = 3
"""FLOPs of a forward and a backward pass for each of a forward pass."""


@dataclass(frozen=True)
class Load:
    """How a model is served: `streams` sequences at a time, each up to `context` tokens long, with
    so many bytes a weight and a value of the cache; `heads_per_kv` query heads share their keys and
    values (Ainslie et al. 2023), as far as the heads of a shape divide (see Setting)."""

    context: int
    streams: int = 1
    bytes_per_weight: float = 2.0
    bytes_per_kv: float = 2.0
    heads_per_kv: int = 1

    @property
    def fewer_bits(self) -> int | None:
        """Bits of the next narrower format of weights; None if there is none. Scales may add an
        eighth to one's own bits and more."""
        own = 8 * self.bytes_per_weight
        return next((bits for bits in _FORMATS if bits <= _NARROWER * own), None)

    def weight_bytes(self, shape: Shape) -> float:
        """Bytes of all stored weights."""
        return self.bytes_per_weight * shape.params_total

    def cache_bytes(self, shape: Shape) -> float:
        """Bytes of the keys and values of all streams at their full length."""
        width = shape.d_model / self.heads_per_kv
        return 2 * shape.n_layer * width * self.bytes_per_kv * self.context * self.streams

    def weight_bytes_read(self, shape: Shape) -> float:
        """Bytes of the weights that a step of decoding reads, which gives each stream one token: of
        the embedding it looks up a row."""
        looked_up = shape.params_active - shape.params
        # With several streams nearly every expert is chosen by one of them.
        return self.bytes_per_weight * (shape.params_total - looked_up)

    def flops(self, shape: Shape) -> float:
        """FLOPs of a step of decoding."""
        served = replace(shape, context=self.context)
        return self.streams * served.flops_per_token / TRAINED_TO_SERVED


@dataclass(frozen=True)
class Server:
    """What a model is served on, as far as it is known; None sets no limit."""

    name: str
    memory_bytes: float | None = None
    bytes_per_second: float | None = None
    peak_flops: float | None = None
    memory_share: float = MEMORY_SHARE
    bandwidth_share: float | None = None
    """Of the bandwidth what decoding reaches; None takes what was published."""

    @property
    def usable_bytes(self) -> float:
        """Of the memory what weights and cache may take."""
        return math.inf if self.memory_bytes is None else self.memory_share * self.memory_bytes

    def reached(self, width: float) -> float:
        """The share of the bandwidth at which values of so many bytes are read: of widths between
        those that were measured by the time that a value takes, so that fewer bytes never take
        longer."""
        if self.bandwidth_share is not None:
            return self.bandwidth_share
        if not _WIDTHS[0] < width < _WIDTHS[-1]:
            return _REACHED[0] if width < 1.0 else _REACHED[-1]
        return float(width / np.interp(width, _WIDTHS, _SECONDS))

    def step_seconds(self, shape: Shape, load: Load) -> float:
        """Seconds of a step of decoding; NaN if the bandwidth is not known."""
        return max(self.reading_seconds(shape, load), self.arithmetic_seconds(shape, load))

    def reading_seconds(self, shape: Shape, load: Load) -> float:
        """Seconds in which a step reads the weights and the cache, each at the share of the
        bandwidth that values of its width reach; NaN if the bandwidth is not known."""
        if self.bytes_per_second is None:
            return math.nan
        weights = load.weight_bytes_read(shape) / self.reached(load.bytes_per_weight)
        cache = load.cache_bytes(shape) / self.reached(load.bytes_per_kv)
        return (weights + cache) / self.bytes_per_second

    def arithmetic_seconds(self, shape: Shape, load: Load) -> float:
        """Seconds of a step's FLOPs at peak; 0 if that is not known."""
        return 0.0 if self.peak_flops is None else load.flops(shape) / self.peak_flops


@dataclass(frozen=True)
class Served:
    """What serving a shape takes: bytes, and tokens a second of each stream (NaN if the bandwidth
    is not known)."""

    weight_bytes: float
    weight_bytes_read: float
    """Of them what a step of decoding reads."""
    cache_bytes: float
    tokens_per_second: float
    streams: int
    is_bound_by_arithmetic: bool = False
    """Whether a step takes longer to compute than to read."""

    @property
    def memory_bytes(self) -> float:
        return self.weight_bytes + self.cache_bytes

    @property
    def total_tokens_per_second(self) -> float:
        """Of all streams together."""
        return self.streams * self.tokens_per_second

    def to_json(self) -> dict[str, Any]:
        return {
            "weight_bytes": self.weight_bytes,
            "weight_bytes_read": self.weight_bytes_read,
            "cache_bytes": self.cache_bytes,
            "memory_bytes": self.memory_bytes,
            "tokens_per_second": self.tokens_per_second,
            "total_tokens_per_second": self.total_tokens_per_second,
            "is_bound_by_arithmetic": self.is_bound_by_arithmetic,
        }


@dataclass(frozen=True)
class Deployment:
    """A load, what it is served on, and the tokens a second that each stream has to get; None sets
    no limit."""

    server: Server
    load: Load
    tokens_per_second: float | None = None

    def served(self, shape: Shape) -> Served:
        """What serving this shape takes."""
        server, load = self.server, self.load
        return Served(
            weight_bytes=load.weight_bytes(shape),
            weight_bytes_read=load.weight_bytes_read(shape),
            cache_bytes=load.cache_bytes(shape),
            tokens_per_second=1.0 / server.step_seconds(shape, load),
            streams=load.streams,
            is_bound_by_arithmetic=server.arithmetic_seconds(shape, load)
            > server.reading_seconds(shape, load),
        )

    def fits(self, shape: Shape) -> bool:
        """Whether weights and cache have room."""
        return self.served(shape).memory_bytes <= self.server.usable_bytes

    def is_fast(self, shape: Shape) -> bool:
        """Whether every stream gets its tokens."""
        wanted = self.tokens_per_second
        return wanted is None or self.served(shape).tokens_per_second >= wanted

    def is_met(self, shape: Shape) -> bool:
        """Whether both hold."""
        return self.fits(shape) and self.is_fast(shape)

    @property
    def each_limit(self) -> "dict[str, tuple[Deployment, Deployment]]":
        """Of memory and of speed, as far as they are limited: the same with only this limit, and
        without it."""
        any_memory = replace(self, server=replace(self.server, memory_bytes=None))
        any_speed = replace(self, tokens_per_second=None)
        found = {}
        if any_memory != self:
            found["memory"] = (any_speed, any_memory)
        if any_speed != self:
            found["speed"] = (any_memory, any_speed)
        return found

    def with_bytes(self, bytes_per_weight: float) -> "Deployment":
        """The same with so many bytes a weight."""
        return replace(self, load=replace(self.load, bytes_per_weight=bytes_per_weight))

    def to_json(self) -> dict[str, Any]:
        server = self.server
        return {
            **asdict(server),
            "bandwidth_share": server.reached(self.load.bytes_per_weight),
            "bandwidth_share_of_cache": server.reached(self.load.bytes_per_kv),
            **asdict(self.load),
            "tokens_per_second": self.tokens_per_second,
        }


def largest(shapes: Sequence[Shape], is_met: Callable[[Shape], bool]) -> Shape | None:
    """The largest of growing shapes that meets limits which every smaller one meets, too; None if
    the smallest does not."""
    low, high = 0, len(shapes)
    while low < high:
        middle = (low + high) // 2
        if is_met(shapes[middle]):
            low = middle + 1
        else:
            high = middle
    return shapes[low - 1] if low else None
