"""From a size to a Transformer's shape, and what a shape costs: weights, FLOPs, memory.

The ladder of built-in shapes is one sequence in which depth, width and parameter count all grow
together, so that a larger size never gives a smaller model; a size takes the nearest member. Depth
follows width through the knots below: about 64 channels a layer from 10M to 1B, 128 from 7B on, and
few layers for tiny models, whose loss depends on their width far more than on their depth."""

import itertools
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.menu import Menu
from llmscale.quantity import format_count, parse_count
from llmscale.settings import Range, check_settings, setting

TOKENS_PER_PARAM = 20
"""What a compute-optimal run takes, roughly (Hoffmann et al. 2022)."""
USUAL_VOCABULARY, USUAL_CONTEXT = 1024, 256
"""Of a sweep of the default text, and of what is reckoned or measured without one."""
LEAST_CONTEXT, MOST_CONTEXT = 2, 10**9
"""Tokens of a sequence to train on: at least one, and the one that it predicts."""
COUNTS = ("params", "params_non_embedding", "params_total")
"""The ways to count parameters that `--count` chooses from: see Shape."""
SMALLEST, LARGEST = 10_000, 1_000_000_000_000
_DEPTH_KNOTS = ((16, 2), (48, 2), (384, 6), (1024, 16), (4096, 32), (65536, 512))
_EXPLICIT = re.compile(r"(\d{1,12})x(\d{1,12})x(\d{1,12})(?:x(\d{1,12}))?", re.IGNORECASE)


@dataclass(frozen=True)
class Counts:
    """What an architecture makes of a shape."""

    per_layer: int
    """Weights of one block."""
    matrices: int
    """Those of them that are in matrices."""
    norm: int
    """Weights of the last norm."""
    stem: int
    """Weights next to the embedding of tokens, such as learned positions."""
    attention_flops: int
    """Training FLOPs a token of all attention scores and what they weight."""
    activations: int
    """Values a token and block that the backward pass needs."""
    experts: int = 1
    """MLPs of a block, of which a router chooses for each token (mixture of experts)."""
    experts_per_token: int = 1
    """Those that work on a token."""
    idle: int = 0
    """Weights of one block that do not work on a token: those of the experts not chosen."""


def _is_architecture(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "counts") and hasattr(value, "layers")


# By the name of its folder, since nothing here imports measure/. To count takes no torch.
ARCHITECTURES: Menu[Any] = Menu(
    "llmscale.measure.models",
    "architecture",
    "--arch",
    is_member=_is_architecture,
    ready=lambda found: found(),
    with_options=lambda found, text: found.with_options(text),
    own="MyModel",
)


@dataclass(frozen=True)
class Shape:
    """A decoder-only Transformer: `n_layer` blocks of width `d_model` with `n_head` heads and
    `d_ff` hidden units, of the architecture `arch`.

    Embedding and output projection are two matrices (untied). Raises InputError if no such model
    exists."""

    n_layer: int = setting(help="Blocks.", within=Range(1, 10_000))
    d_model: int = setting(help="Width.", within=Range(1, 1e7))
    n_head: int = setting(help="Heads of attention.", within=Range(1, 1e6))
    d_ff: int = setting(help="Hidden units of each block's MLP.", within=Range(1, 1e8))
    vocab_size: int = setting(help="Entries of the vocabulary.", within=Range(1, 1e9))
    context: int = setting(help="Tokens a sequence.", within=Range(1, MOST_CONTEXT))
    arch: str = "llama"

    def __post_init__(self) -> None:
        check_settings(self, f" in shape {self.name}")
        # Shapes are read from results, too: a path in them is not followed, and no file run.
        ARCHITECTURES.check(self.arch)
        multiple = 1
        if ARCHITECTURES.is_here(self.arch):
            multiple = ARCHITECTURES.find(self.arch).head_multiple
        if self.d_model % self.n_head or self.d_head % multiple:
            raise InputError(
                f"shape {self.name}: {self.d_model} channels do not split into {self.n_head} "
                "heads of even size",
                "n_head divides d_model, and d_model / n_head is even, as in 6x384x6",
            )

    @property
    def name(self) -> str:
        """`n_layer x d_model x n_head`, as `6x384x6`."""
        return f"{self.n_layer}x{self.d_model}x{self.n_head}"

    @property
    def full_name(self) -> str:
        """Its name with d_ff, as `6x384x6x1024`: neighbours on the ladder often differ in nothing
        else. `--sizes` takes it."""
        return f"{self.name}x{self.d_ff}"

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    @cached_property
    def counts(self) -> Counts:
        """What its architecture says of it. Raises InputError if that is in no file that the
        command names, and nothing was told of it."""
        if not ARCHITECTURES.is_here(self.arch) and self in _told:
            return _told[self]
        found: Counts = ARCHITECTURES.find(self.arch).counts(self)
        return found

    @property
    def params_per_layer(self) -> int:
        """Weights of one block."""
        return self.counts.per_layer

    @property
    def n_experts(self) -> int:
        """MLPs of a block, of which `experts_per_token` work on a token; 1 without a router."""
        return self.counts.experts

    @property
    def experts_per_token(self) -> int:
        return self.counts.experts_per_token

    @property
    def params_non_embedding(self) -> int:
        """Every weight but token, position and output embeddings (Kaplan et al. 2020); of a mixture
        of experts those that work on a token."""
        return self.n_layer * (self.params_per_layer - self.counts.idle) + self.counts.norm

    @property
    def params(self) -> int:
        """Non-embedding weights and output projection, which multiply every token: the laws' N."""
        return self.params_non_embedding + self.d_model * self.vocab_size

    @property
    def params_active(self) -> int:
        """The stored weights that work on a token: all but those of experts not chosen."""
        return self.params + self.d_model * self.vocab_size + self.counts.stem

    @property
    def params_total(self) -> int:
        """Every stored weight."""
        return self.params_active + self.n_layer * self.counts.idle

    @property
    def attention_flops_per_token(self) -> int:
        """Training FLOPs of the attention scores: 12 · n_layer · context · d_model if every
        position sees all others (full, not causal)."""
        return self.counts.attention_flops

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs a token, forward and backward: 6·params and those of attention. Hoffmann
        et al. 2022, appendix F; Chowdhery et al. 2022, appendix B."""
        return 6 * self.params + self.attention_flops_per_token

    def memory_bytes(
        self,
        micro_batch_sequences: int = 1,
        activation_bytes: int = 4,
        several_parts: bool = False,
        state_bytes: int | None = None,
    ) -> int:
        """Bytes to train: weights and gradients in float32, the optimiser's state, and activations
        of a micro-batch. `state_bytes` of None are AdamW's two moments in float32.

        If activations are narrow, so are copies of the weights and the gradients that come out of a
        backward pass; when that ends, both are there besides the float32 ones, and the activations
        are not. If a batch takes `several_parts`, the gradient of the ones before is kept
        meanwhile."""
        states = 8 * self.params_total + self._state_bytes(state_bytes)
        activations = self.activations_bytes(micro_batch_sequences, activation_bytes)
        copies = 4 * self.params_total
        if several_parts:
            return states + copies + activations
        return states + max(activations, copies if activation_bytes < 4 else 0)

    def activations_bytes(self, sequences: int = 1, activation_bytes: int = 4) -> int:
        """Bytes of what the backward pass of that many sequences needs, with attention that stores
        no score matrix.

        The values of each block are the architecture's; the logits stand in float32 three times,
        and once as they are computed."""
        kept = self.n_layer * self.counts.activations + 4 * self.d_model + self.vocab_size
        per_token = activation_bytes * kept
        return sequences * self.context * (per_token + 12 * self.vocab_size)

    def evaluation_bytes(
        self, sequences: int = 1, activation_bytes: int = 4, state_bytes: int | None = None
    ) -> int:
        """Bytes to evaluate between two steps: weights in float32, the optimiser's state, and the
        forward pass of `sequences`.

        It holds one layer's activations; the logits as they are computed, and in float32 before and
        after log-softmax."""
        states = 4 * self.params_total + self._state_bytes(state_bytes)
        kept = self.counts.activations + 4 * self.d_model + self.vocab_size
        per_token = activation_bytes * kept + 8 * self.vocab_size
        return states + sequences * self.context * per_token

    def _state_bytes(self, known: int | None) -> int:
        return 8 * self.params_total if known is None else known


_told: dict[Shape, Counts] = {}
"""What results say of shapes whose architecture is in a file that this command does not name."""


def tell_counts(shape: Shape, counts: Counts) -> None:
    """Take the counts of a shape from results, for when its architecture's file is not here."""
    _told[shape] = counts


def shape_for(size: str, *, vocab_size: int, context: int, arch: str = "llama") -> Shape:
    """The shape of `size`: a non-embedding count (`1M`) or layers x width x heads [x d_ff]
    (`6x384x6`).

    A count from 10k to 1T takes the nearest member of the built-in ladder. Raises InputError."""
    arch = ARCHITECTURES.pin(arch)
    explicit = _EXPLICIT.fullmatch(size.strip())
    if explicit:
        n_layer, d_model, n_head = (int(part) for part in explicit.groups()[:3])
        d_ff = int(explicit[4]) if explicit[4] else _usual_d_ff(d_model, arch)
        return Shape(n_layer, d_model, n_head, d_ff, vocab_size, context, arch)
    if "x" in size.lower():
        raise InputError(
            f"size {begun(size.strip())!r} is no shape",
            "write a shape as layers x width x heads, as in 6x384x6 (a fourth number is d_ff), "
            "or a count such as 1M",
        )
    params = parse_count(size, "size")
    if not SMALLEST <= params <= LARGEST:
        raise InputError(
            f"size {size.strip()!r} is outside {format_count(SMALLEST)} to "
            f"{format_count(LARGEST)} parameters",
            "give the shape itself as layers x width x heads, as in 6x384x6",
        )
    nearest = nearest_of(_ladder(ARCHITECTURES.pin(arch)), params, "params_non_embedding")
    return replace(nearest, vocab_size=vocab_size, context=context)


def nearest_of(shapes: Sequence[Shape], params: float, count: str) -> Shape:
    """Of shapes by growing `count` the one that is nearest to `params` in the logarithm."""

    def counted(shape: Shape) -> int:
        return int(getattr(shape, count))

    def distance(shape: Shape) -> float:
        return abs(math.log(counted(shape) / params))

    above = bisect_left(shapes, params, key=counted)
    return min(shapes[max(above - 1, 0) : above + 1], key=distance)


def size_of(shape: Shape) -> str:
    """What `--sizes` takes for this very shape: its non-embedding count, if that is enough."""
    count = format_count(shape.params_non_embedding)
    if SMALLEST <= shape.params_non_embedding <= LARGEST:
        settings: Any = {"vocab_size": shape.vocab_size, "context": shape.context}
        if shape_for(count, **settings, arch=shape.arch) == shape:
            return count
    return shape.full_name


def ladder(*, vocab_size: int, context: int, arch: str = "llama") -> tuple[Shape, ...]:
    """The built-in shapes by growing parameter count."""
    return _ladder_for(ARCHITECTURES.pin(arch), vocab_size, context)


@lru_cache(maxsize=8)
def _ladder_for(arch: str, vocab_size: int, context: int) -> tuple[Shape, ...]:
    return tuple(replace(one, vocab_size=vocab_size, context=context) for one in _ladder(arch))


@cache
def _ladder(arch: str) -> tuple[Shape, ...]:
    """Built-in shapes by growing size; between (depth, width) steps d_ff makes the fine ones."""
    usual = [
        Shape(n_layer, d_model, _usual_heads(d_model), _usual_d_ff(d_model, arch), 1, 1, arch)
        for n_layer, d_model in _depth_and_width()
    ]
    counts = [shape.params_non_embedding for shape in usual]
    of_tiny = ARCHITECTURES.find(arch).d_ff_granule
    edges = [0.0, *(math.sqrt(low * high) for low, high in itertools.pairwise(counts)), math.inf]
    ladder = []
    for shape, low, high in zip(usual, edges[:-1], edges[1:], strict=True):
        granule = of_tiny
        if shape.d_model >= 512:
            # With several experts a token each step of d_ff counts several times.
            granule = max(_granule(shape.d_model) // shape.experts_per_token, _LEAST_GRANULE)
        least, most = (0.7, 1.3) if shape.d_model >= 64 else (0.4, 1.5)
        every = range(granule, 2 * shape.d_ff, granule)
        widths = [d_ff for d_ff in every if least < d_ff / shape.d_ff < most]

        def count(d_ff: int, shape: Shape = shape) -> int:
            return replace(shape, d_ff=d_ff).params_non_embedding

        # Counts grow with d_ff: those above `low` and up to `high` lie together.
        first, last = bisect_right(widths, low, key=count), bisect_right(widths, high, key=count)
        ladder += [replace(shape, d_ff=d_ff) for d_ff in widths[first:last]]
    return tuple(ladder)


def _depth_and_width() -> Iterator[tuple[int, int]]:
    """A staircase near the depth rule: each step adds a granule of width, or one layer."""
    n_layer, d_model = 2, 16
    while d_model < 30_000:
        yield n_layer, d_model
        wider = d_model + _granule(d_model)
        if n_layer + 0.5 <= _usual_depth(wider):
            n_layer += 1
        else:
            d_model = wider


def _usual_depth(d_model: int) -> float:
    """Layers for a width, by straight lines between the knots in log-log."""
    for (d0, l0), (d1, l1) in itertools.pairwise(_DEPTH_KNOTS):
        if d_model <= d1:
            return l0 * (l1 / l0) ** (math.log(d_model / d0) / math.log(d1 / d0))
    raise AssertionError(f"no depth for width {d_model}")


_LEAST_GRANULE = 16
"""Of d_ff in wide models: what tensor cores multiply at once."""


def _granule(d_model: int) -> int:
    """Widths are multiples of this: fine if small, aligned to the hardware's tiles if large."""
    for below, granule in ((128, 8), (256, 16), (512, 32), (2048, 64), (8192, 128)):
        if d_model < below:
            return granule
    return 256


def _usual_heads(d_model: int) -> int:
    """Heads of about 16 channels below width 128, 32 below 384, 64 below 4096, then 128; even."""
    limits = ((128, 16), (384, 32), (4096, 64), (math.inf, 128))
    target = next(size for below, size in limits if d_model < below)
    fitting = [heads for heads in range(1, d_model // 2 + 1) if d_model % (2 * heads) == 0]

    def cost(heads: int) -> float:
        d_head = d_model // heads
        # Attention kernels are fastest with head sizes in multiples of 8.
        is_slow = d_head % 8 != 0 and d_model >= 64
        return abs(math.log(d_head / target)) + 0.3 * is_slow

    return min(fitting, key=cost)


def _usual_d_ff(d_model: int, arch: str) -> int:
    """The architecture's ratio, in whole granules."""
    found = ARCHITECTURES.find(arch)
    granule, ratio = found.d_ff_granule, found.d_ff_ratio
    if d_model >= 512:
        granule = 64
    return max(granule, round(ratio * d_model / granule) * granule)
