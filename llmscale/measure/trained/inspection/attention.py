"""The attention that a model computes: its forward pass, by operations that keep the weights."""

from typing import Any

import torch
from torch import Tensor

from llmscale.errors import InputError
from llmscale.measure.models import scaled
from llmscale.measure.ops.plain import rotate
from llmscale.measure.transformer import Block, LanguageModel
from llmscale.menu import bare_name


@torch.inference_mode()
def read_with_attention(model: LanguageModel, tokens_BT: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits (B, T, V) of the model, and of each layer the weights (B, H, T, T) by which its
    attention sums up values. Raises InputError for an architecture that has none."""
    x_BTC, added_BTC = model.embedded(tokens_BT), None
    shared = model.shared(tokens_BT.shape[1])
    found: list[Tensor] = []
    for block in model.blocks:
        assert isinstance(block, Block)
        watching = _Watching(block.ops)
        x_BTC, added_BTC, *_ = block.with_operations(watching)(x_BTC, added_BTC, *shared)
        if not watching.weights:
            raise InputError(
                f"{bare_name(model.shape.arch)} has no attention that can be looked at",
                "let it call ops.attention, as llmscale/measure/models/llama.py does",
            )
        # Of a block with several calls of attention, the heads of all.
        found.append(torch.cat(watching.weights, dim=1))
    logits_BTV = model.output_logits(x_BTC, added_BTC)
    return scaled(logits_BTV, model.parametrization.logits_multiplier), found


class _Watching:
    """The operations of a block, whose attention is computed in full and kept."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self.weights: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def attention(
        self,
        qkv: Tensor,
        n_head: int,
        rotary: tuple[Tensor, Tensor] | None,
        scale: float,
        seen_TT: Tensor | None = None,
    ) -> Tensor:
        """As Operations says."""
        B, T, _ = qkv.shape
        q_BHTD, k_BHTD, v_BHTD = qkv.view(B, T, 3, n_head, -1).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            q_BHTD, k_BHTD = rotate(q_BHTD, *rotary), rotate(k_BHTD, *rotary)
        if seen_TT is None:
            seen_TT = torch.ones(T, T, dtype=torch.bool, device=qkv.device).tril()
        scores_BHTT = (q_BHTD @ k_BHTD.transpose(-1, -2)).float() * scale
        weights_BHTT = scores_BHTT.masked_fill(~seen_TT, -torch.inf).softmax(dim=-1)
        self.weights.append(weights_BHTT)
        y_BHTD = weights_BHTT.type_as(v_BHTD) @ v_BHTD
        return y_BHTD.transpose(1, 2).reshape(B, T, -1)
