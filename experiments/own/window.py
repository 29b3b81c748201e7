"""Attention to the last 64 positions, each head's answer gated: an architecture of one's own.

    llmscale shapes 1M --arch experiments/own/window.py:GatedWindow
    llmscale sweep --sizes 10k,30k,100k --arch experiments/own/window.py:GatedWindow

All else is LLaMA. The window is that of Beltagy et al. 2020 (Longformer, section 3.1), the gate
that of Qiu et al. 2025 (Gated attention, after the scores and before the output projection)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmscale.measure.models import Layer, Linear
from llmscale.measure.models.llama import Llama
from llmscale.measure.ops.plain import rotate
from llmscale.runs.shape import Shape

WINDOW = 64


class GatedWindow(Llama):
    """LLaMA with a window of 64 positions and a gate on what attention writes."""

    def layers(self, shape: Shape) -> Mapping[str, Layer]:
        return {**super().layers(shape), "attention.gate": Linear(shape.d_model, shape.d_model)}

    def attention_flops(self, shape: Shape) -> int:
        return 12 * shape.n_layer * min(WINDOW, shape.context) * shape.d_model

    def tables(self, shape: Shape) -> Mapping[str, Tensor]:
        place_T = torch.arange(shape.context)
        behind_TT = place_T[:, None] - place_T[None, :]
        seen_TT = (behind_TT >= 0) & (behind_TT < WINDOW)
        return {**super().tables(shape), "seen_TT": seen_TT}

    def shared(self, model: Any, T: int) -> tuple[Any, ...]:
        return (*super().shared(model, T), model.seen_TT[:T, :T])

    def attention(self, block: Any, n_BTC: Tensor, *shared: Any) -> Tensor:
        (cos_TD, sin_TD), seen_TT = shared
        ops, weights = block.ops, block.attention
        qkv_BTC = ops.linear(n_BTC, weights.qkv)
        q_BHTD, k_BHTD, v_BHTD = qkv_BTC.unflatten(-1, (3, block.n_head, -1)).permute(2, 0, 3, 1, 4)
        q_BHTD, k_BHTD = rotate(q_BHTD, cos_TD, sin_TD), rotate(k_BHTD, cos_TD, sin_TD)
        y_BHTD = F.scaled_dot_product_attention(
            q_BHTD, k_BHTD, v_BHTD, attn_mask=seen_TT, scale=block.scale
        )
        gate_BTC = torch.sigmoid(ops.linear(n_BTC, weights.gate))
        written_BTC: Tensor = ops.linear(y_BHTD.transpose(1, 2).flatten(2) * gate_BTC, weights.out)
        return written_BTC
