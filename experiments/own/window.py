"""Attention to the last 64 positions, each head's answer gated: an architecture of one's own.

llmscale sweep --sizes 10k,30k,100k --arch experiments/own/window.py:GatedWindow

All else is LLaMA. The window is that of Beltagy et al. 2020 (Longformer, section 3.1), the gate
that of Qiu et al. 2025 (Gated attention, after the scores and before the output projection)."""

from typing import Any

import torch
from torch import Tensor

from llmscale.measure.models import Layer, Linear
from llmscale.measure.models.llama import Llama
from llmscale.runs.shape import Shape

WINDOW = 64


class GatedWindow(Llama):
    """LLaMA with a window of 64 positions and a gate on what attention writes."""

    def layers(self, shape: Shape) -> dict[str, Layer]:
        return {**super().layers(shape), "attention.gate": Linear(shape.d_model, shape.d_model)}

    def attention_flops(self, shape: Shape) -> int:
        return 12 * shape.n_layer * min(WINDOW, shape.context) * shape.d_model

    def shared(self, model: Any, T: int) -> tuple[Any, ...]:
        seen_TT = torch.ones(T, T, dtype=torch.bool, device=model.cos_TD.device)
        return (*super().shared(model, T), seen_TT.tril().triu(1 - WINDOW))

    def attention(self, block: Any, n_BTC: Tensor, *shared: Any) -> Tensor:
        rotary, seen_TT = shared
        ops, weights = block.ops, block.attention
        qkv_BTC = ops.linear(n_BTC, weights.qkv)
        y_BTC = ops.attention(qkv_BTC, block.n_head, rotary, block.scale, seen_TT)
        gate_BTC = torch.sigmoid(ops.linear(n_BTC, weights.gate))
        written_BTC: Tensor = ops.linear(y_BTC * gate_BTC, weights.out)
        return written_BTC
