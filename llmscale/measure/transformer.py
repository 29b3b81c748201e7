"""The module that is trained, made from what an architecture declares (models/__init__.py).

Its weights number exactly `shape.params_total`: the token embedding in `embed`, what the
architecture puts next to it, `blocks`, `norm`, and the output projection in `head`. Shapes in
suffixes: B sequences, T positions, C = d_model, V = vocab_size."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmscale.measure.models import (
    ARCHITECTURES,
    Architecture,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    RMSNorm,
    Weight,
    scaled,
)
from llmscale.measure.ops import Operations, build_operations
from llmscale.measure.ops.plain import taught_losses
from llmscale.measure.parametrization import Parametrization, Role, parametrize
from llmscale.runs.shape import Shape


class Block(nn.Module):
    """One layer: its weights by the names that the architecture gave them, and its settings. The
    residual x is kept apart from what was last written into it, `added`, until the next norm."""

    def __init__(
        self, architecture: Architecture, shape: Shape, settings: Parametrization, ops: Operations
    ) -> None:
        super().__init__()
        self.architecture, self.ops, self.shape, self.n_head = (
            architecture,
            ops,
            shape,
            shape.n_head,
        )
        self.scale, self.multiplier = settings.attention_scale, settings.residual_multiplier
        for name, layer in architecture.layers(shape).items():
            _put_layer(self, name, layer)

    def forward(self, x_BTC: Tensor, added_BTC: Tensor | None, *shared: Any) -> tuple[Tensor, ...]:
        return self.architecture.block(self, x_BTC, added_BTC, *shared)

    def with_operations(self, ops: Any) -> "Block":
        """The block of the same weights that computes by other operations."""
        twin = copy.copy(self)
        twin.ops = ops
        return twin

    def within(self, name: str, compute: Callable[..., Any], *inputs: Any) -> Any:
        """compute(self, *inputs), as a call of the part that holds the weights below `name`."""
        part = getattr(self, name, None)
        if isinstance(part, Part):
            return part(compute, self, *inputs)
        return compute(self, *inputs)


class Part(nn.Module):
    """Weights of a block that one computation needs, which is a call of this module. Those that are
    shared out among processes are gathered as a module is called."""

    def forward(self, compute: Callable[..., Any], *inputs: Any) -> Any:
        return compute(*inputs)


class SoftTargets(NamedTuple):
    """What a teacher says of the next tokens, and what it counts in a loss (Hinton et al. 2015)."""

    logits_BTV: Tensor
    weight: float
    temperature: float


class LanguageModel(nn.Module):
    """A Transformer of one architecture and shape: its logits, its loss, and its first weights."""

    norm: nn.Module
    stack_dims = 0
    """Dimensions that every weight has before its own: one if several models are trained as one."""

    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__()
        self.shape, self.parametrization, self.ops = shape, parametrization, ops
        self.architecture = architecture = ARCHITECTURES.find(shape.arch)
        self.checkpointing = False
        """Whether activations inside blocks are computed again in the backward pass, to save
        memory."""
        self._compiled_output: Callable[..., tuple[Tensor, Tensor]] | None = None
        self.embed = nn.Embedding(shape.vocab_size, shape.d_model)
        stem = architecture.stem(shape)
        for name, layer in stem.items():
            _put_layer(self, name, layer)
        self.blocks = nn.ModuleList(
            Block(architecture, shape, parametrization, ops) for _ in range(shape.n_layer)
        )
        _put_layer(self, "norm", architecture.norm(shape))
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        for name, table in architecture.tables(shape).items():
            self.register_buffer(name, table, persistent=False)
        self.roles = self._roles({**stem, "norm": architecture.norm(shape)})
        """What each weight is, by its name."""

    def embedded(self, tokens_BT: Tensor, first: int = 0) -> Tensor:
        """The residual stream before the first block, (B, T, C), float32; the tokens stand at the
        positions from `first` on."""
        # An architecture of a user's own may not take it.
        at = {"first": first} if first else {}
        x_BTC: Tensor = self.architecture.embedded(self, tokens_BT, **at)
        return x_BTC

    def shared(self, T: int) -> tuple[Any, ...]:
        """What every block reads besides the residual stream, for T positions."""
        shared: tuple[Any, ...] = self.architecture.shared(self, T)
        return shared

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        logits_BTV = self.output_logits(*self._residual(tokens_BT)[0])
        return scaled(logits_BTV, self.parametrization.logits_multiplier)

    def output_logits(self, x_BTC: Tensor, added_BTC: Tensor | None) -> Tensor:
        """Logits (B, T, V) from what the last block gives, before they are scaled."""
        return self.ops.linear(self.ops.add_and_norm(x_BTC, added_BTC, self.norm)[1], self.head)

    def losses(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        weights_B: Tensor,
        *,
        soft: SoftTargets | None = None,
    ) -> tuple[Tensor, Tensor]:
        """sum_b weights_b · (mean_t loss + what blocks add to it), with its gradient, and the
        cross-entropies in nats (B, T), without. With `soft` targets the loss in the first is
        theirs, too (ops/plain.py)."""
        output = self._compiled_output or self._output_losses
        residual, auxiliary_B = self._residual(inputs_BT)
        total, losses_BT = output(*residual, targets_BT, weights_B, soft)
        for of_block_B in auxiliary_B:
            total = total + of_sequences(weights_B) @ of_block_B
        return total, losses_BT

    def compile_parts(self) -> None:
        """Have torch compile one block, whose code serves all of them, and the output with its
        loss. A graph of the whole model would take longer to compile with every layer."""
        for block in self.blocks:
            block.compile(dynamic=False, fullgraph=True)
        self._compiled_output = torch.compile(self._output_losses, dynamic=False, fullgraph=True)

    def for_each(self, tokens_BT: Tensor) -> Tensor:
        """Sequences as `losses` takes them."""
        return tokens_BT

    def clip_gradient(self, norm: float) -> Tensor:
        """Scale the gradient down to `norm` if it is larger; its norm before."""
        before = nn.utils.clip_grad_norm_(self.parameters(), norm)
        # Of gradients that are shared out among processes, each knows the norm of its part.
        return before.full_tensor() if hasattr(before, "full_tensor") else before

    @contextmanager
    def using(self, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """While this lasts, compute with `weights` in place of those of the same names."""
        places = {name: self.get_submodule(name.rpartition(".")[0]) for name in weights}
        own = {name: getattr(module, name.rpartition(".")[2]) for name, module in places.items()}
        _put(places, weights)
        try:
            yield
        finally:
            _put(places, own)

    def _residual(self, tokens_BT: Tensor) -> tuple[tuple[Tensor, Tensor | None], Sequence[Tensor]]:
        """The residual stream after the last block, and what that wrote, which is not added yet;
        and the auxiliary losses of blocks that have one, each (B,)."""
        x_BTC, added_BTC = self.embedded(tokens_BT), None
        if self._compiled_output is not None:
            added_BTC = nothing_added(x_BTC, self.ops)
        shared = self.shared(tokens_BT.shape[1])
        auxiliary_B: list[Tensor] = []
        for block in self.blocks:
            x_BTC, added_BTC, *own_B = run_block(
                block, self.checkpointing, x_BTC, added_BTC, *shared
            )
            auxiliary_B += own_B
        return (x_BTC, added_BTC), auxiliary_B

    def _output_losses(
        self,
        x_BTC: Tensor,
        added_BTC: Tensor | None,
        targets_BT: Tensor,
        weights_B: Tensor,
        soft: SoftTargets | None = None,
    ) -> tuple[Tensor, Tensor]:
        n_BTC = self.ops.add_and_norm(x_BTC, added_BTC, self.norm)[1]
        multiplier = self.parametrization.logits_multiplier
        if soft is not None:
            logits_BTV = scaled(self.ops.linear(n_BTC, self.head).float(), multiplier)
            return taught_losses(logits_BTV, targets_BT, weights_B, *soft)
        return self.ops.cross_entropy(n_BTC, self.head, targets_BT, weights_B, multiplier)

    def fill_buffers(self) -> None:
        """Compute what is neither trained nor saved anew, as where the model was built without
        memory."""
        for name, table in self.architecture.tables(self.shape).items():
            getattr(self, name).copy_(table)

    def _roles(self, outside: Mapping[str, Layer]) -> dict[str, Role]:
        """The role of each weight; `outside` are the layers around the blocks by name."""
        in_block = self.architecture.layers(self.shape)
        roles = {}
        for name, weight in self.named_parameters():
            holder, _, last = name.rpartition(".")
            if name.startswith("blocks."):
                holder = holder.split(".", 2)[-1]
                layer = in_block.get(holder) or in_block[f"{holder}.{last}"]
                roles[name] = _role(layer, last, weight, in_block=True)
            elif holder in ("embed", "head"):
                is_head = holder == "head"
                roles[name] = Role(False, True, is_embedding=not is_head, is_output=is_head)
            else:
                layer = outside.get(holder) or outside[name]
                roles[name] = _role(layer, last, weight, in_block=False)
        return roles

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Matrices ~ N(0, 2/(5 d_model)) (Nguyen & Salazar 2019); those that write into the
        residual stream are divided by √(2 n_layer) (Radford et al. 2019), so that its variance does
        not grow with depth; norms 1, biases 0; all times what the parametrization says."""
        std = math.sqrt(2 / (5 * self.shape.d_model))
        writes = 1 / math.sqrt(2 * self.shape.n_layer)
        for name, weight in self.named_parameters():
            role = self.roles[name]
            if not role.is_matrix:
                weight.fill_(role.start)
                continue
            deviation = std * self.parametrization.init_multiplier(role)
            if role.writes:
                deviation = std * writes * self.parametrization.init_multiplier(role)
            if hasattr(
                weight, "full_tensor"
            ):  # shared out among processes: each draws it whole and keeps its part
                weight.copy_(
                    _part_of(
                        torch.empty(weight.shape).normal_(0.0, deviation, generator=generator),
                        weight,
                    )
                )
            else:
                weight.normal_(0.0, deviation, generator=generator)


def build_model(
    shape: Shape, seed: int = 0, parametrization: str = "standard", ops: Operations | None = None
) -> LanguageModel:
    """The Transformer of `shape` on the CPU, with weights that depend only on `seed`; by plain
    float32 operations."""
    model = empty_model(shape, parametrization, ops or build_operations("plain", "float32"))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def empty_model(shape: Shape, parametrization: str, ops: Operations) -> LanguageModel:
    """The Transformer of `shape` before `init_weights`."""
    return LanguageModel(shape, parametrize(shape, parametrization), ops)


def _part_of(whole: Tensor, weight: Any) -> Tensor:
    """What this process holds of `whole`, which is shared out as `weight` is."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(
        whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )


def run_block(block: Callable[..., Any], checkpointing: bool, *inputs: Any) -> Any:
    """block(*inputs), whose activations are kept for the backward pass, or computed again there
    (Chen et al. 2016)."""
    if checkpointing and torch.is_grad_enabled():
        # Nothing in a block is random, so that there is no generator's state to keep.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return block(*inputs)


def nothing_added(x: Tensor, ops: Operations) -> Tensor:
    """Zeros that the first block may add to `x`, of the type and with the gradient of what a block
    adds.

    What is compiled then sees the same inputs in the first block as in all others, and one graph
    serves them."""
    return (0 * x).to(ops.dtype)


def of_sequences(weights: Tensor) -> Tensor:
    """The weight of each sequence, of weights that may be of each token."""
    return weights if weights.dim() == 1 else weights.sum(dim=-1)


def _put(places: Mapping[str, nn.Module], weights: Mapping[str, Tensor]) -> None:
    for name, module in places.items():
        module._parameters[name.rpartition(".")[2]] = weights[name]  # type: ignore[assignment]


def _put_layer(holder: nn.Module, name: str, layer: Layer) -> None:
    """Make a layer and put it where its name says, within modules that hold only others."""
    *path, last = name.split(".")
    for part in path:
        if part not in holder._modules:
            holder.add_module(part, Part())
        holder = holder.get_submodule(part)
    match layer:
        case Linear():
            holder.add_module(last, nn.Linear(layer.inputs, layer.outputs, bias=layer.bias))
        case RMSNorm():
            holder.add_module(last, nn.RMSNorm(layer.width, eps=layer.epsilon))
        case LayerNorm():
            holder.add_module(last, nn.LayerNorm(layer.width))
        case Embedding():
            holder.add_module(last, nn.Embedding(layer.entries, layer.width))
        case Weight():
            holder.register_parameter(last, nn.Parameter(torch.empty(layer.size)))


def _role(layer: Layer, last: str, weight: Tensor, in_block: bool) -> Role:
    """The role of a layer's weight that is called `last`."""
    role = Role(in_block, is_matrix=weight.dim() >= 2)
    match layer:
        case Linear() if last == "weight":
            return replace(role, parts=layer.parts, writes=layer.writes)
        case RMSNorm() | LayerNorm() if last == "weight":
            return replace(role, start=1.0)
        case Embedding():
            return replace(role, is_embedding=True)
        case Weight():
            return replace(role, start=layer.start)
    return role
