"""Low-rank adapters: which matrices of a model LoRA trains, and how many weights that takes."""

from dataclasses import dataclass

from llmscale.errors import InputError, listed
from llmscale.measure.models import ARCHITECTURES, Linear
from llmscale.runs.shape import Shape

ALL = "all"


@dataclass(frozen=True)
class LowRank:
    """W = W_0 + (alpha/rank) B A, of which only B and A are trained (Hu et al. 2021, eq. 3)."""

    rank: int
    alpha: float
    matrices: str = ALL
    """`all` matrices of blocks, or which, by their names or what these begin with, with commas
    between: `attention`, or `attention.qkv,mlp`."""


@dataclass(frozen=True)
class Adapted:
    """A matrix of a block with an adapter, or one of each expert."""

    name: str
    inputs: int
    outputs: int
    blocks: int
    """How many have it."""
    experts: int
    """Matrices in a block, each with an adapter of its own: 1, or one an expert."""
    rank: int

    @property
    def weights(self) -> int:
        """Of all A and B."""
        return self.blocks * self.experts * self.rank * (self.inputs + self.outputs)

    @property
    def whole(self) -> int:
        """Weights of the matrices themselves."""
        return self.blocks * self.experts * self.inputs * self.outputs


def adapted(shape: Shape, low_rank: LowRank) -> tuple[Adapted, ...]:
    """The matrices that `low_rank` trains of a model. Raises InputError for a name of none, and for
    a rank that is above that of a matrix."""
    layers = ARCHITECTURES.find(shape.arch).layers(shape)
    linear = {name: layer for name, layer in layers.items() if isinstance(layer, Linear)}
    wanted = [name.strip() for name in low_rank.matrices.split(",")]
    for asked in wanted:
        if not any(_is_of(name, asked) for name in linear):
            raise InputError(
                f"there is no matrix {asked!r} in a block of {shape.arch}",
                f"its matrices are {listed(linear)}; all takes every one",
            )
    found = tuple(
        _adapted(name, layer, shape, low_rank.rank)
        for name, layer in linear.items()
        if any(_is_of(name, asked) for asked in wanted)
    )
    for one in found:
        if low_rank.rank > min(one.inputs, one.outputs):
            raise InputError(
                f"--rank is {low_rank.rank}, and the matrix {one.name} of shape {shape.name} has "
                f"{one.outputs} x {one.inputs} weights",
                f"take a rank of at most {min(one.inputs, one.outputs)}",
            )
    return found


def _adapted(name: str, layer: Linear, shape: Shape, rank: int) -> Adapted:
    outputs = layer.outputs // layer.groups
    return Adapted(name, layer.inputs, outputs, shape.n_layer, layer.groups, rank)


def _is_of(name: str, wanted: str) -> bool:
    return wanted == ALL or name == wanted or name.startswith(f"{wanted}.")
