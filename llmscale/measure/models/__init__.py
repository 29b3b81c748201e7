"""The architectures: `--arch llama` is models/llama.py.

A member defines `Model(LanguageModel)`, built from a `Shape`, its `Parametrization` and the
operations to use:
- `embedded(tokens_BT) -> x_BTC`, the residual stream that the first block reads;
- `blocks`, alike in all but their weights: block(x_BTC, added_BTC, *shared) -> (x_BTC, added_BTC),
  where position t sees positions 0..t and nothing later, and what was last written into the stream
  is still to be added to it;
- `shared(T)`, what all blocks read besides, and `norm`, before the output projection;
- its weights number exactly `shape.params_total`, with the token embedding in `embed` and the
  output projection in `head`, and GPT-2's learned positions in `positions`; the weights of its
  norms are named `...norm.weight`."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmscale.measure.ops import Operations, build_operations
from llmscale.measure.parametrization import RESIDUAL_WRITERS, Parametrization, parametrize
from llmscale.runs.shape import Shape


class LanguageModel(nn.Module, ABC):
    """What all architectures share: the output projection, its loss, and the first weights."""

    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Linear
    stack_dims = 0
    """Dimensions that every weight has before its own: one where several models are trained as one.
    """

    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__()
        self.shape, self.parametrization, self.ops = shape, parametrization, ops
        self.checkpointing = False
        """Whether activations inside blocks are computed again in the backward pass, to save
        memory.
        """
        self._compiled_output: Callable[..., tuple[Tensor, Tensor]] | None = None

    @abstractmethod
    def embedded(self, tokens_BT: Tensor) -> Tensor:
        """The residual stream before the first block, (B, T, C), float32."""

    def shared(self, T: int) -> tuple[Any, ...]:
        """What every block reads besides the residual stream, for T positions."""
        return ()

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        logits_BTV = self.output_logits(*self._residual(tokens_BT))
        return scaled(logits_BTV, self.parametrization.logits_multiplier)

    def output_logits(self, x_BTC: Tensor, added_BTC: Tensor | None) -> Tensor:
        """Logits (B, T, V) from what the last block gives, before they are scaled."""
        return self.ops.linear(self.ops.add_and_norm(x_BTC, added_BTC, self.norm)[1], self.head)

    def losses(
        self, inputs_BT: Tensor, targets_BT: Tensor, weights_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """sum_b weights_b · mean_t loss, with its gradient, and the cross-entropies in nats (B, T),
        without.
        """
        output = self._compiled_output or self._output_losses
        return output(*self._residual(inputs_BT), targets_BT, weights_B)

    def compile_parts(self) -> None:
        """Have torch compile one block, whose code serves all of them, and the output with its
        loss.

        A graph of the whole model would take longer to compile with every layer.
        """
        for block in self.blocks:
            block.compile(dynamic=False, fullgraph=True)
        self._compiled_output = torch.compile(self._output_losses, dynamic=False, fullgraph=True)

    def for_each(self, tokens_BT: Tensor) -> Tensor:
        """Sequences as `losses` takes them."""
        return tokens_BT

    def clip_gradient(self, norm: float) -> Tensor:
        """Scale the gradient down to `norm` where it is larger; its norm before."""
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

    def _residual(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor | None]:
        """The residual stream after the last block, and what that wrote, which is not added yet."""
        x_BTC, added_BTC = self.embedded(tokens_BT), None
        if self._compiled_output is not None:
            added_BTC = nothing_added(x_BTC, self.ops)
        shared = self.shared(tokens_BT.shape[1])
        for block in self.blocks:
            x_BTC, added_BTC = run_block(block, self.checkpointing, x_BTC, added_BTC, *shared)
        return x_BTC, added_BTC

    def _output_losses(
        self, x_BTC: Tensor, added_BTC: Tensor | None, targets_BT: Tensor, weights_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_BTC = self.ops.add_and_norm(x_BTC, added_BTC, self.norm)[1]
        multiplier = self.parametrization.logits_multiplier
        return self.ops.cross_entropy(n_BTC, self.head, targets_BT, weights_B, multiplier)

    def fill_buffers(self) -> None:
        """Compute what is neither trained nor saved anew, as where the model was built without
        memory.
        """

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Matrices ~ N(0, 2/(5 d_model)) (Nguyen & Salazar 2019); those that write into the
        residual stream are divided by √(2 n_layer) (Radford et al. 2019), so that its variance does
        not grow with depth; norms 1, biases 0; all times what the parametrization says."""
        std = math.sqrt(2 / (5 * self.shape.d_model))
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                continue
            scale = (
                1 / math.sqrt(2 * self.shape.n_layer) if name.endswith(RESIDUAL_WRITERS) else 1.0
            )
            deviation = std * scale * self.parametrization.init_multiplier(name)
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
    """The Transformer of `shape` on the CPU, with weights that depend on `seed` alone; by plain
    float32 operations.
    """
    model = empty_model(shape, parametrization, ops or build_operations("plain", "float32"))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def empty_model(shape: Shape, parametrization: str, ops: Operations) -> LanguageModel:
    """The Transformer of `shape` before `init_weights`."""
    module = importlib.import_module(f"llmscale.measure.models.{shape.arch}")
    model: LanguageModel = module.Model(shape, parametrize(shape, parametrization), ops)
    return model


def _part_of(whole: Tensor, weight: Any) -> Tensor:
    """What this process holds of `whole`, which is shared out as `weight` is."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(
        whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )


def run_block(block: Callable[..., Any], checkpointing: bool, *inputs: Any) -> Any:
    """block(*inputs), whose activations are kept for the backward pass, or computed again there
    (Chen et al. 2016).
    """
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


def _put(places: Mapping[str, nn.Module], weights: Mapping[str, Tensor]) -> None:
    for name, module in places.items():
        module._parameters[name.rpartition(".")[2]] = weights[name]  # type: ignore[assignment]


def scaled(x: Tensor, multiplier: float) -> Tensor:
    """multiplier · x, and x itself where that is the same."""
    return x if multiplier == 1 else x * multiplier
