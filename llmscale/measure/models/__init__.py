"""The architectures: `--arch llama` is models/llama.py, and `--arch ./mine.py:MyModel` one's own.

A member is one class that inherits `Architecture`. It declares the layers of a block by name, from
which its parameter counts follow, how each weight is first drawn and stepped, and the module that
is trained (measure/transformer.py); and it computes with these layers: `attention` and `mlp` of a
block, or the whole `block`. Nothing here imports torch before a model is built, so that sizes are
counted without it.

Shapes in suffixes: B sequences, T positions, C = d_model, H heads, D = d_head, F = d_ff, V =
vocab_size."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from llmscale.errors import InputError
from llmscale.runs.shape import ARCHITECTURES, Counts, Shape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Embedding",
    "Layer",
    "LayerNorm",
    "Linear",
    "RMSNorm",
    "Weight",
    "scaled",
]


class Linear(NamedTuple):
    """W x, (inputs,) to (outputs,), and a bias if it has one."""

    inputs: int
    outputs: int
    bias: bool = False
    parts: int = 1
    """Matrices that the weight holds, one below the other, such as those of q, k and v."""
    writes: bool = False
    """Whether it writes into the residual stream."""
    groups: int = 1
    """Equal shares of the outputs of which a row takes one: the experts of a mixture."""

    @property
    def params(self) -> int:
        return self.outputs * (self.inputs + int(self.bias))


class RMSNorm(NamedTuple):
    """g ⊙ x / RMS(x)  (Zhang & Sennrich 2019)."""

    width: int
    epsilon: float = 1e-6
    """Added to the mean square."""

    @property
    def params(self) -> int:
        return self.width


class LayerNorm(NamedTuple):
    """g ⊙ (x - mean) / deviation + b  (Ba et al. 2016)."""

    width: int

    @property
    def params(self) -> int:
        return 2 * self.width


class Embedding(NamedTuple):
    """One vector of `width` for each of `entries`."""

    entries: int
    width: int

    @property
    def params(self) -> int:
        return self.entries * self.width


class Weight(NamedTuple):
    """A weight of any size by itself: a vector starts at `start`, a matrix as all matrices do."""

    size: tuple[int, ...]
    start: float = 0.0

    @property
    def params(self) -> int:
        return prod(self.size)


Layer = Linear | RMSNorm | LayerNorm | Embedding | Weight


class Architecture(ABC):
    """A decoder-only Transformer: what its blocks hold, and what they compute.

    Position t sees positions 0..t and nothing later. Embedding of tokens and output projection are
    the same in all: two matrices, `embed` and `head`."""

    d_ff_ratio: ClassVar[float] = 4.0
    """Usual hidden units of a block's MLP for each of its channels."""
    d_ff_granule: ClassVar[int] = 8
    """What the hidden units of built-in shapes below a width of 512 are multiples of."""
    head_multiple: ClassVar[int] = 1
    """What the size of a head must be a multiple of."""

    def with_options(self, text: str) -> "tuple[Architecture, str]":
        """This architecture with the options that stand behind its name, as `16x2` of `moe:16x2`,
        and how results write them. Here there are none to set. Raises InputError."""
        if text:
            raise InputError(
                f"this architecture takes no options, and {text!r} stands behind its name",
                "leave out the colon and what follows it",
            )
        return self, ""

    @abstractmethod
    def layers(self, shape: Shape) -> Mapping[str, Layer]:
        """The layers of one block, by names such as `attention.qkv`; all blocks are alike.

        `attention_norm` and `mlp_norm` come before `attention` and `mlp`."""

    @abstractmethod
    def norm(self, shape: Shape) -> Layer:
        """The norm after the last block."""

    def stem(self, shape: Shape) -> Mapping[str, Layer]:
        """What is added to the embedding of tokens, such as learned positions."""
        return {}

    def attention_flops(self, shape: Shape) -> int:
        """Training FLOPs a token of all attention scores and of what they weight: 12 for each
        layer, channel and position that is seen, here all of the context (full, not causal)."""
        return 12 * shape.n_layer * shape.context * shape.d_model

    def activations(self, shape: Shape) -> int:
        """Values a token and block that the backward pass needs, for the estimate of memory.

        Here a third more than what all products read and write, and six channels of the stream."""
        products = [one for one in self.layers(shape).values() if isinstance(one, Linear)]
        return 6 * shape.d_model + sum(4 * (one.inputs + one.outputs) // 3 for one in products)

    def counts(self, shape: Shape) -> Counts:
        """Weights and FLOPs of `shape`."""
        layers = self.layers(shape).values()
        return Counts(
            per_layer=sum(one.params for one in layers),
            matrices=sum(_in_matrix(one) for one in layers),
            norm=self.norm(shape).params,
            stem=sum(one.params for one in self.stem(shape).values()),
            attention_flops=self.attention_flops(shape),
            activations=self.activations(shape),
        )

    def embedded(self, model: Any, tokens_BT: "Tensor", first: int = 0) -> "Tensor":
        """The residual stream before the first block, (B, T, C), float32; the tokens stand at the
        positions from `first` on."""
        x_BTC: Tensor = model.embed(tokens_BT)
        return x_BTC

    def tables(self, shape: Shape) -> "Mapping[str, Tensor]":
        """What is neither trained nor saved, by its name in the model: of rotary positions, say."""
        return {}

    def shared(self, model: Any, T: int) -> tuple[Any, ...]:
        """What every block reads besides the residual stream, for T positions."""
        return ()

    def block(
        self, block: Any, x_BTC: "Tensor", added_BTC: "Tensor | None", *shared: Any
    ) -> "tuple[Tensor, ...]":
        """One layer, pre-norm: the residual stream, and what is still to be added to it; then, if
        there is one, a loss of each sequence, (B,), that training adds to the cross-entropy and
        that no loss shows.

        x + attention(norm x), then that + mlp(norm of it). Norms come with the addition before
        them, which one kernel does."""
        x_BTC, n_BTC = self.attended(block, x_BTC, added_BTC, *shared)
        return x_BTC, scaled(block.within("mlp", self.mlp, n_BTC), block.multiplier)

    def attended(
        self, block: Any, x_BTC: "Tensor", added_BTC: "Tensor | None", *shared: Any
    ) -> "tuple[Tensor, Tensor]":
        """The residual stream with what attention writes added, and its norm: half a layer."""
        x_BTC, n_BTC = block.ops.add_and_norm(x_BTC, added_BTC, block.attention_norm)
        written_BTC = block.within("attention", self.attention, n_BTC, *shared)
        written_BTC = scaled(written_BTC, block.multiplier)
        summed: tuple[Tensor, Tensor] = block.ops.add_and_norm(x_BTC, written_BTC, block.mlp_norm)
        return summed

    def attention(self, block: Any, n_BTC: "Tensor", *shared: Any) -> "Tensor":
        """What attention writes into the residual stream, (B, T, C)."""
        raise NotImplementedError(f"{type(self).__name__} has neither attention nor block")

    def mlp(self, block: Any, n_BTC: "Tensor") -> "Tensor":
        """What the MLP writes into the residual stream, (B, T, C)."""
        raise NotImplementedError(f"{type(self).__name__} has neither mlp nor block")

    def scores(self, model: Any, tokens_BT: "Tensor") -> Mapping[str, float]:
        """What else to know of a trained model, measured on validation tokens (B, T): columns of
        the table of runs by name."""
        return {}


def _in_matrix(layer: Layer) -> int:
    """Weights of a layer that are those of a matrix, and not of a norm or a bias."""
    match layer:
        case Linear():
            return layer.inputs * layer.outputs
        case Weight() if len(layer.size) >= 2:
            return layer.params
    return 0


def scaled(x: Any, multiplier: float) -> Any:
    """multiplier · x, and x itself if that is the same."""
    return x if multiplier == 1 else x * multiplier
