"""The architectures: `--arch llama` is models/llama.py.

A member defines `Model(LanguageModel)`, built from a `Shape`, its `Parametrization` and the operations to use:
- `features(tokens_BT) -> x_BTC`, what the output projection reads, where position t sees tokens 0..t and nothing later;
- its weights number exactly `shape.params_total`, with the token embedding in `embed` and the output projection in
  `head`, and GPT-2's learned positions in `positions`; the weights of its norms are named `...norm.weight`.
"""

import importlib
import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmscale.ops import Operations, build_operations
from llmscale.parametrization import RESIDUAL_WRITERS, Parametrization, parametrize
from llmscale.shape import Shape


class LanguageModel(nn.Module, ABC):
    """What all architectures share: the output projection, its loss, and the first weights."""

    head: nn.Linear
    stack_dims = 0
    """Dimensions that every weight has before its own: one where several models are trained as one."""

    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__()
        self.shape, self.parametrization, self.ops = shape, parametrization, ops
        self.checkpointing = False
        """Whether activations inside blocks are computed again in the backward pass, to save memory."""

    @abstractmethod
    def features(self, tokens_BT: Tensor) -> Tensor:
        """What the output projection reads, (B, T, C)."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return scaled(self.ops.linear(self.features(tokens_BT), self.head), self.parametrization.logits_multiplier)

    def for_each(self, tokens_BT: Tensor) -> Tensor:
        """Sequences as `losses` takes them."""
        return tokens_BT

    def clip_gradient(self, norm: float) -> Tensor:
        """Scale the gradient down to `norm` where it is larger; its norm before."""
        before = nn.utils.clip_grad_norm_(self.parameters(), norm)
        # Of gradients that are shared out among processes, each knows the norm of its part.
        return before.full_tensor() if hasattr(before, "full_tensor") else before

    def losses(self, inputs_BT: Tensor, targets_BT: Tensor, weights_B: Tensor) -> tuple[Tensor, Tensor]:
        """sum_b weights_b · mean_t loss, with its gradient, and the cross-entropies in nats (B, T), without."""
        x_BTC = self.features(inputs_BT)
        multiplier = self.parametrization.logits_multiplier
        return self.ops.cross_entropy(x_BTC, self.head, targets_BT, weights_B, multiplier)

    def run(self, block: nn.Module, *inputs: Any) -> Any:
        """block(*inputs), whose activations are kept for the backward pass, or computed again there."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def fill_buffers(self) -> None:
        """Compute what is neither trained nor saved anew, as where the model was built without memory."""

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Matrices ~ N(0, 2/(5 d_model)) (Nguyen & Salazar 2019); those that write into the residual stream are
        divided by √(2 n_layer) (Radford et al. 2019), so that its variance does not grow with depth; norms 1, biases 0;
        all times what the parametrization says."""
        std = math.sqrt(2 / (5 * self.shape.d_model))
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                continue
            scale = 1 / math.sqrt(2 * self.shape.n_layer) if name.endswith(RESIDUAL_WRITERS) else 1.0
            deviation = std * scale * self.parametrization.init_multiplier(name)
            if hasattr(weight, "full_tensor"):  # shared out among processes: each draws it whole and keeps its part
                weight.copy_(_part_of(torch.empty(weight.shape).normal_(0.0, deviation, generator=generator), weight))
            else:
                weight.normal_(0.0, deviation, generator=generator)


def build_model(
    shape: Shape, seed: int = 0, parametrization: str = "standard", ops: Operations | None = None
) -> LanguageModel:
    """The Transformer of `shape` on the CPU, with weights that depend on `seed` alone; by plain float32 operations."""
    model = empty_model(shape, parametrization, ops or build_operations("plain", "float32"))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def empty_model(shape: Shape, parametrization: str, ops: Operations) -> LanguageModel:
    """The Transformer of `shape` before `init_weights`."""
    module = importlib.import_module(f"llmscale.models.{shape.arch}")
    model: LanguageModel = module.Model(shape, parametrize(shape, parametrization), ops)
    return model


def _part_of(whole: Tensor, weight: Any) -> Tensor:
    """What this process holds of `whole`, which is shared out as `weight` is."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def scaled(x: Tensor, multiplier: float) -> Tensor:
    """multiplier · x, and x itself where that is the same."""
    return x if multiplier == 1 else x * multiplier
