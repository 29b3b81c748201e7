"""A decoder-only Transformer as in GPT-2 (Radford et al. 2019): LayerNorm, learned positions, GELU,
biases.

    x_0     = E[tokens] + P[positions]
    h_l     = x_l + W_o · attention(W_q n, W_k n, W_v n)      n = LayerNorm(x_l)
    x_{l+1} = h_l + W_down · gelu(W_up m)                      m = LayerNorm(h_l)
    logits  = W_head · LayerNorm(x_L)

Unlike GPT-2's, the output projection is a matrix of its own, as in the other architectures here.
Shapes in suffixes: B sequences, T positions, C = d_model, H heads, D = d_head, V = vocab_size.
"""

from torch import Tensor, nn

from llmscale.measure.models import LanguageModel, scaled
from llmscale.measure.ops import Operations
from llmscale.measure.parametrization import Parametrization
from llmscale.runs.shape import Shape


class Attention(nn.Module):
    """softmax(scale · q kᵀ + causal mask) v for each head."""

    def __init__(self, shape: Shape, scale: float, ops: Operations) -> None:
        super().__init__()
        self.ops, self.n_head, self.scale = ops, shape.n_head, scale
        self.qkv = nn.Linear(shape.d_model, 3 * shape.d_model)
        self.out = nn.Linear(shape.d_model, shape.d_model)

    def forward(self, n_BTC: Tensor) -> Tensor:
        y_BTC = self.ops.attention(self.ops.linear(n_BTC, self.qkv), self.n_head, None, self.scale)
        return self.ops.linear(y_BTC, self.out)


class MLP(nn.Module):
    """W_down gelu(W_up x)."""

    def __init__(self, shape: Shape, ops: Operations) -> None:
        super().__init__()
        self.ops = ops
        self.up = nn.Linear(shape.d_model, shape.d_ff)
        self.down = nn.Linear(shape.d_ff, shape.d_model)

    def forward(self, n_BTC: Tensor) -> Tensor:
        return self.ops.linear(self.ops.gelu(self.ops.linear(n_BTC, self.up)), self.down)


class Block(nn.Module):
    """One layer.

    The residual x is kept apart from what was last written into it, `added`, until the next norm.
    """

    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__()
        self.ops, self.multiplier = ops, parametrization.residual_multiplier
        self.attention_norm = nn.LayerNorm(shape.d_model)
        self.attention = Attention(shape, parametrization.attention_scale, ops)
        self.mlp_norm = nn.LayerNorm(shape.d_model)
        self.mlp = MLP(shape, ops)

    def forward(self, x_BTC: Tensor, added_BTC: Tensor | None) -> tuple[Tensor, Tensor]:
        x_BTC, n_BTC = self.ops.add_and_norm(x_BTC, added_BTC, self.attention_norm)
        x_BTC, n_BTC = self.ops.add_and_norm(
            x_BTC, scaled(self.attention(n_BTC), self.multiplier), self.mlp_norm
        )
        return x_BTC, scaled(self.mlp(n_BTC), self.multiplier)


class Model(LanguageModel):
    def __init__(self, shape: Shape, parametrization: Parametrization, ops: Operations) -> None:
        super().__init__(shape, parametrization, ops)
        self.embed = nn.Embedding(shape.vocab_size, shape.d_model)
        self.positions = nn.Embedding(shape.context, shape.d_model)
        self.blocks = nn.ModuleList(
            Block(shape, parametrization, ops) for _ in range(shape.n_layer)
        )
        self.norm = nn.LayerNorm(shape.d_model)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)

    def embedded(self, tokens_BT: Tensor) -> Tensor:
        x_BTC: Tensor = self.embed(tokens_BT) + self.positions.weight[: tokens_BT.shape[1]]
        return x_BTC
