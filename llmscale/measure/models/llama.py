"""A decoder-only Transformer as in LLaMA (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU,
no biases.

    x_0     = E[tokens]
    h_l     = x_l + W_o · attention(rope(W_q n), rope(W_k n), W_v n)        n = RMSNorm(x_l)
    x_{l+1} = h_l + W_down · (silu(W_gate m) ⊙ W_up m)                      m = RMSNorm(h_l)
    logits  = W_head · RMSNorm(x_L)"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.measure.models import Architecture, Layer, Linear, RMSNorm
from llmscale.runs.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Llama(Architecture):
    """RMSNorm, rotary positions, SwiGLU, no biases."""

    d_ff_ratio = 8 / 3  # SwiGLU's three matrices then weigh as much as GELU's two
    head_multiple = 2  # rotary positions turn channels in pairs

    def __init__(self, norm_eps: float = 1e-6, rope_base: float = 10_000.0) -> None:
        self.norm_eps, self.rope_base = norm_eps, rope_base

    def with_options(self, text: str) -> "tuple[Architecture, str]":
        """`llama:eps=1e-05,theta=500000`: what is added to the mean square in norms, and the base
        of the rotary positions."""
        given = dict(re.findall(r"(eps|theta)=([\d.e+-]+)(?:,|$)", text))
        try:
            eps = float(given.get("eps", self.norm_eps))
            theta = float(given.get("theta", self.rope_base))
        except ValueError:
            given = {}
        is_read = text in ("", ",".join(f"{name}={value}" for name, value in given.items()))
        if not is_read or not (0 < eps < 1 and 1 < theta < math.inf):
            raise InputError(
                f"llama has no {text!r}",
                "write it like llama:theta=500000 or llama:eps=1e-05,theta=500000",
            )
        said = {"eps": (eps, self.norm_eps), "theta": (theta, self.rope_base)}
        kept = [f"{name}={value!r}" for name, (value, usual) in said.items() if value != usual]
        return type(self)(eps, theta), ",".join(kept)

    def layers(self, shape: Shape) -> Mapping[str, Layer]:
        C, F = shape.d_model, shape.d_ff
        return {
            "attention_norm": RMSNorm(C, self.norm_eps),
            "attention.qkv": Linear(C, 3 * C, parts=3),
            "attention.out": Linear(C, C, writes=True),
            "mlp_norm": RMSNorm(C, self.norm_eps),
            "mlp.gate_up": Linear(C, 2 * F, parts=2),
            "mlp.down": Linear(F, C, writes=True),
        }

    def norm(self, shape: Shape) -> Layer:
        return RMSNorm(shape.d_model, self.norm_eps)

    def activations(self, shape: Shape) -> int:
        return 14 * shape.d_model + 4 * shape.d_ff

    def tables(self, shape: Shape) -> "Mapping[str, Tensor]":
        cos_TD, sin_TD = rotary_table(shape.context, shape.d_head, self.rope_base)
        return {"cos_TD": cos_TD, "sin_TD": sin_TD}

    def shared(self, model: Any, T: int) -> tuple[Any, ...]:
        return ((model.cos_TD[:T], model.sin_TD[:T]),)

    def attention(self, block: Any, n_BTC: "Tensor", *shared: Any) -> "Tensor":
        """softmax(scale · q kᵀ + causal mask) v for each head, queries and keys turned by their
        position."""
        (rotary,) = shared
        ops, weights = block.ops, block.attention
        y_BTC = ops.attention(ops.linear(n_BTC, weights.qkv), block.n_head, rotary, block.scale)
        written_BTC: Tensor = ops.linear(y_BTC, weights.out)
        return written_BTC

    def mlp(self, block: Any, n_BTC: "Tensor") -> "Tensor":
        """W_down (silu(W_gate x) ⊙ W_up x)  (Shazeer 2020, eq. 6)."""
        ops, weights = block.ops, block.mlp
        written_BTC: Tensor = ops.linear(
            ops.swiglu(ops.linear(n_BTC, weights.gate_up)), weights.down
        )
        return written_BTC


def rotary_table(context: int, d_head: int, base: float = 10_000.0) -> "tuple[Tensor, Tensor]":
    """cos and sin of position · base^(-2i/D), each (context, d_head), both halves alike (Su et al.
    2021, eq. 15)."""
    import torch

    frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().float(), angles.sin().float()
