"""A decoder-only Transformer as in LLaMA (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU,
no biases.

    x_0     = E[tokens]
    h_l     = x_l + W_o · attention(rope(W_q n), rope(W_k n), W_v n)        n = RMSNorm(x_l)
    x_{l+1} = h_l + W_down · (silu(W_gate m) ⊙ W_up m)                      m = RMSNorm(h_l)
    logits  = W_head · RMSNorm(x_L)

Shapes in suffixes: B sequences, T positions, C = d_model, H heads, D = d_head, F = d_ff, V =
vocab_size."""

from typing import Any

import torch
from torch import Tensor, nn

from llmscale.measure.models import LanguageModel, scaled
from llmscale.measure.ops import Operations
from llmscale.measure.parametrization import Parametrization
from llmscale.runs.shape import Shape

ROPE_BASE = 10_000.0


class Attention(nn.Module):
    """softmax(scale · q kᵀ + causal mask) v for each head, queries and keys turned by their
    position.
    """

    def __init__(self, shape: Shape, scale: float, ops: Operations) -> None:
        super().__init__()
        self.ops, self.n_head, self.scale = ops, shape.n_head, scale
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model, bias=False)
        self.out = nn.Linear(shape.d_model, shape.d_model, bias=False)

    def forward(self, n_BTC: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        y_BTC = self.ops.attention(
            self.ops.linear(n_BTC, self.qkv), self.n_head, rotary, self.scale
        )
        return self.ops.linear(y_BTC, self.out)


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) ⊙ W_up x)  (Shazeer 2020, eq. 6)."""

    def __init__(self, shape: Shape, ops: Operations) -> None:
        super().__init__()
        self.ops = ops
        self.gate_up = nn.Linear(shape.d_model, 2 * shape.d_ff, bias=False)
        self.down = nn.Linear(shape.d_ff, shape.d_model, bias=False)

    def forward(self, n_BTC: Tensor) -> Tensor:
        return self.ops.linear(self.ops.swiglu(self.ops.linear(n_BTC, self.gate_up)), self.down)


class Block(nn.Module):
    """One layer.

    The residual x is kept apart from what was last written into it, `added`, until the next norm.
    """

    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__()
        self.ops, self.multiplier = ops, parametrization.residual_multiplier
        self.attention_norm = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.attention = Attention(shape, parametrization.attention_scale, ops)
        self.mlp_norm = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.mlp = SwiGLU(shape, ops)

    def forward(
        self, x_BTC: Tensor, added_BTC: Tensor | None, rotary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        x_BTC, n_BTC = self.ops.add_and_norm(x_BTC, added_BTC, self.attention_norm)
        x_BTC, n_BTC = self.ops.add_and_norm(
            x_BTC, scaled(self.attention(n_BTC, rotary), self.multiplier), self.mlp_norm
        )
        return x_BTC, scaled(self.mlp(n_BTC), self.multiplier)


class Model(LanguageModel):
    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__(shape, parametrization, ops)
        self.embed = nn.Embedding(shape.vocab_size, shape.d_model)
        self.blocks = nn.ModuleList(
            Block(shape, parametrization, ops) for _ in range(shape.n_layer)
        )
        self.norm = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        cos_TD, sin_TD = rotary_table(shape.context, shape.d_head)
        self.register_buffer("cos_TD", cos_TD, persistent=False)
        self.register_buffer("sin_TD", sin_TD, persistent=False)

    def fill_buffers(self) -> None:
        for buffer, table in zip(
            (self.cos_TD, self.sin_TD),
            rotary_table(self.shape.context, self.shape.d_head),
            strict=True,
        ):
            buffer.copy_(table)

    def embedded(self, tokens_BT: Tensor) -> Tensor:
        x_BTC: Tensor = self.embed(tokens_BT)
        return x_BTC

    def shared(self, T: int) -> tuple[Any, ...]:
        return ((self.cos_TD[:T], self.sin_TD[:T]),)


def rotary_table(context: int, d_head: int) -> tuple[Tensor, Tensor]:
    """cos and sin of position · base^(-2i/D), each (context, d_head), both halves alike (Su et al.
    2021, eq. 15)."""
    frequencies = ROPE_BASE ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().float(), angles.sin().float()
