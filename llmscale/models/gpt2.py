"""A decoder-only Transformer as in GPT-2 (Radford et al. 2019): LayerNorm, learned positions, GELU, biases.

    x_0     = E[tokens] + P[positions]
    h_l     = x_l + W_o · attention(W_q n, W_k n, W_v n)      n = LayerNorm(x_l)
    x_{l+1} = h_l + W_down · gelu(W_up m)                      m = LayerNorm(h_l)
    logits  = W_head · LayerNorm(x_L)

Unlike GPT-2's, the output projection is a matrix of its own, as in the other architectures here.
Shapes in suffixes: B sequences, T positions, C = d_model, H heads, D = d_head, V = vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmscale.shape import Shape


class Attention(nn.Module):
    """softmax(q kᵀ / √D + causal mask) v for each head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head, self.d_head = shape.n_head, shape.d_head
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model)
        self.out = nn.Linear(shape.d_model, shape.d_model)

    def forward(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        q_BHTD, k_BHTD, v_BHTD = self.qkv(x_BTC).view(B, T, 3, self.n_head, self.d_head).permute(2, 0, 3, 1, 4)
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)
        return self.out(y_BHTD.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """W_down gelu(W_up x)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.d_model, shape.d_ff)
        self.down = nn.Linear(shape.d_ff, shape.d_model)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_BTC), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.d_model)
        self.attention = Attention(shape)
        self.mlp_norm = nn.LayerNorm(shape.d_model)
        self.mlp = MLP(shape)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.attention(self.attention_norm(x_BTC))
        return x_BTC + self.mlp(self.mlp_norm(x_BTC))


class Model(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab_size, shape.d_model)
        self.positions = nn.Embedding(shape.context, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.norm = nn.LayerNorm(shape.d_model)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        x_BTC = self.embed(tokens_BT) + self.positions.weight[:T]
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return self.head(self.norm(x_BTC))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """As in models/llama.py; norms 1, biases 0."""
        std = math.sqrt(2 / (5 * self.shape.d_model))
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                continue
            writes_residual = name.endswith(("attention.out.weight", "mlp.down.weight"))
            scale = 1 / math.sqrt(2 * self.shape.n_layer) if writes_residual else 1.0
            weight.normal_(0.0, std * scale, generator=generator)
