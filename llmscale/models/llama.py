"""A decoder-only Transformer as in LLaMA (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU, no biases.

    x_0     = E[tokens]
    h_l     = x_l + W_o · attention(rope(W_q n), rope(W_k n), W_v n)        n = RMSNorm(x_l)
    x_{l+1} = h_l + W_down · (silu(W_gate m) ⊙ W_up m)                      m = RMSNorm(h_l)
    logits  = W_head · RMSNorm(x_L)

Shapes in suffixes: B sequences, T positions, C = d_model, H heads, D = d_head, F = d_ff, V = vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmscale.shape import Shape

ROPE_BASE = 10_000.0


class Attention(nn.Module):
    """softmax(q kᵀ / √D + causal mask) v for each head, queries and keys turned by their position."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head, self.d_head = shape.n_head, shape.d_head
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model, bias=False)
        self.out = nn.Linear(shape.d_model, shape.d_model, bias=False)

    def forward(self, x_BTC: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        q_BHTD, k_BHTD, v_BHTD = self.qkv(x_BTC).view(B, T, 3, self.n_head, self.d_head).permute(2, 0, 3, 1, 4)
        q_BHTD, k_BHTD = rotate(q_BHTD, cos_TD, sin_TD), rotate(k_BHTD, cos_TD, sin_TD)
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)
        return self.out(y_BHTD.transpose(1, 2).reshape(B, T, C))


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) ⊙ W_up x)  (Shazeer 2020, eq. 6)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_up = nn.Linear(shape.d_model, 2 * shape.d_ff, bias=False)
        self.down = nn.Linear(shape.d_ff, shape.d_model, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate_BTF, up_BTF = self.gate_up(x_BTC).chunk(2, dim=-1)
        return self.down(F.silu(gate_BTF) * up_BTF)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.mlp = SwiGLU(shape)

    def forward(self, x_BTC: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
        x_BTC = x_BTC + self.attention(self.attention_norm(x_BTC), cos_TD, sin_TD)
        return x_BTC + self.mlp(self.mlp_norm(x_BTC))


class Model(nn.Module):
    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab_size, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.norm = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        cos_TD, sin_TD = rotary_table(shape.context, shape.d_head)
        self.register_buffer("cos_TD", cos_TD, persistent=False)
        self.register_buffer("sin_TD", sin_TD, persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        cos_TD, sin_TD = self.cos_TD[:T], self.sin_TD[:T]
        x_BTC = self.embed(tokens_BT)
        for block in self.blocks:
            x_BTC = block(x_BTC, cos_TD, sin_TD)
        return self.head(self.norm(x_BTC))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Matrices ~ N(0, 2/(5 d_model)) (Nguyen & Salazar 2019); those that write into the residual stream are
        divided by √(2 n_layer) (Radford et al. 2019), so that its variance does not grow with depth; norms 1."""
        std = math.sqrt(2 / (5 * self.shape.d_model))
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
                continue
            writes_residual = name.endswith(("attention.out.weight", "mlp.down.weight"))
            scale = 1 / math.sqrt(2 * self.shape.n_layer) if writes_residual else 1.0
            weight.normal_(0.0, std * scale, generator=generator)


def rotary_table(context: int, d_head: int) -> tuple[Tensor, Tensor]:
    """cos and sin of position · base^(-2i/D), each (context, d_head), both halves alike (Su et al. 2021, eq. 15)."""
    frequencies = ROPE_BASE ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+D/2}) by its position's angle (Su et al. 2021, eq. 34)."""
    first, second = x_BHTD.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x_BHTD * cos_TD + turned * sin_TD).type_as(x_BHTD)
