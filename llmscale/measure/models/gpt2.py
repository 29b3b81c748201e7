"""A decoder-only Transformer as in GPT-2 (Radford et al. 2019): LayerNorm, learned positions, GELU,
biases.

    x_0     = E[tokens] + P[positions]
    h_l     = x_l + W_o · attention(W_q n, W_k n, W_v n)      n = LayerNorm(x_l)
    x_{l+1} = h_l + W_down · gelu(W_up m)                      m = LayerNorm(h_l)
    logits  = W_head · LayerNorm(x_L)

Unlike GPT-2's, the output projection is a matrix of its own, as in the other architectures here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscale.measure.models import Architecture, Embedding, Layer, LayerNorm, Linear
from llmscale.runs.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


class GPT2(Architecture):
    """LayerNorm, learned positions, GELU, biases."""

    def layers(self, shape: Shape) -> Mapping[str, Layer]:
        C, F = shape.d_model, shape.d_ff
        return {
            "attention_norm": LayerNorm(C),
            "attention.qkv": Linear(C, 3 * C, bias=True, parts=3),
            "attention.out": Linear(C, C, bias=True, writes=True),
            "mlp_norm": LayerNorm(C),
            "mlp.up": Linear(C, F, bias=True),
            "mlp.down": Linear(F, C, bias=True, writes=True),
        }

    def norm(self, shape: Shape) -> Layer:
        return LayerNorm(shape.d_model)

    def stem(self, shape: Shape) -> Mapping[str, Layer]:
        return {"positions": Embedding(shape.context, shape.d_model)}

    def activations(self, shape: Shape) -> int:
        return 14 * shape.d_model + 3 * shape.d_ff

    def embedded(self, model: Any, tokens_BT: "Tensor", first: int = 0) -> "Tensor":
        positions_TC = model.positions.weight[first : first + tokens_BT.shape[1]]
        x_BTC: Tensor = model.embed(tokens_BT) + positions_TC
        return x_BTC

    def attention(self, block: Any, n_BTC: "Tensor", *shared: Any) -> "Tensor":
        """softmax(scale · q kᵀ + causal mask) v for each head."""
        ops, weights = block.ops, block.attention
        y_BTC = ops.attention(ops.linear(n_BTC, weights.qkv), block.n_head, None, block.scale)
        written_BTC: Tensor = ops.linear(y_BTC, weights.out)
        return written_BTC

    def mlp(self, block: Any, n_BTC: "Tensor") -> "Tensor":
        """W_down gelu(W_up x)."""
        ops, weights = block.ops, block.mlp
        hidden_BTF = ops.gelu(ops.linear(n_BTC, weights.up))
        written_BTC: Tensor = ops.linear(hidden_BTF, weights.down)
        return written_BTC
