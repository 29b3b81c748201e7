"""Plain's operations for a model that only reads: fewer calls for each token.

Of a small model most of the time goes by between the products, in calls of torch: of one token at a
time, they take as long as what they compute."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmscale.measure.ops.plain import Plain


class Quick(Plain):
    """Weights are made ready when they are first used, and must not change after."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._ready: dict[nn.Module, tuple[Any, ...]] = {}

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        ready = self._ready.get(layer)
        if ready is None:
            bias = None if layer.bias is None else layer.bias.to(self.dtype)
            ready = self._ready[layer] = (layer.weight.to(self.dtype), bias)
        if x.dtype is not self.dtype:
            x = x.to(self.dtype)
        return F.linear(x, *ready)

    def add_and_norm(
        self, x_BTC: Tensor, added_BTC: Tensor | None, norm: nn.Module
    ) -> tuple[Tensor, Tensor]:
        y_BTC = x_BTC if added_BTC is None else x_BTC + added_BTC
        ready = self._ready.get(norm)
        if ready is None:
            ready = self._ready[norm] = _norm_ready(norm)
        if len(ready) == 2:
            # |y| √(1 + C ε / |y|²) is √C times what RMSNorm divides by: torch's takes ten calls.
            scale_BT1 = torch.linalg.vector_norm(y_BTC, dim=-1, keepdim=True)
            return y_BTC, y_BTC.div(torch.hypot(scale_BT1, ready[1])).mul_(ready[0])
        return y_BTC, F.layer_norm(y_BTC, *ready)


def _norm_ready(norm: nn.Module) -> tuple[Any, ...]:
    """What is needed of it: of RMSNorm the weights times √C, and √(C ε); of LayerNorm all."""
    if isinstance(norm, nn.RMSNorm):
        width = norm.weight.numel()
        assert norm.eps is not None
        least = torch.tensor(math.sqrt(width * norm.eps), device=norm.weight.device)
        return norm.weight * math.sqrt(width), least
    assert isinstance(norm, nn.LayerNorm)
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps


def operations(model_operations: Any) -> Any:
    """The quickest that compute what these do."""
    if type(model_operations) is Plain:
        return Quick(model_operations.dtype)
    return model_operations
