"""How initialisation, multipliers and steps follow width and depth, so that one learning rate suits
every size.

With m = d_model / BASE.d_model and m_L = n_layer / BASE.n_layer, relative to `standard`, which is 1
throughout:

    mup                      init std    learning rate    weight decay    AdamW's epsilon
    matrices in blocks         1 (a)       1/m (b)          m (b)           1/(m m_L)
    norms, biases in blocks                1                                1/(m m_L)
    embeddings, final norm     √m          1                                1/m
    output projection          √m          1                1               1/m

Every block adds 1/m_L of its output to the residual stream, logits are multiplied by 1/m, and
attention scores by √(BASE.d_head) / d_head. Width: Yang et al. 2022, tables 3 and 8; depth, weight
decay and epsilon: Dey et al. 2025 (CompleteP, alpha = 1), table 1. At the base shape `mup` is
`standard`, weight for weight.

(a) The standard deviation of `standard` already goes with 1/√d_model. If a matrix writes into the
residual stream, `standard` divides by √(2 n_layer); `mup` divides by that of the base, √m_L more,
since 1/m_L takes its place. (b) AdamW's. Other optimisers have rules of their own:
optimizers/muon.py.

`mup` is for d_ff in proportion to d_model, as the built-in sizes have it; and neither batch nor
tokens enter it."""

import math
from dataclasses import dataclass

from llmscale.errors import InputError
from llmscale.runs.shape import Shape

PARAMETRIZATIONS = ("standard", "mup")
BASE = Shape(n_layer=2, d_model=64, n_head=4, d_ff=168, vocab_size=1024, context=256)
"""Where `mup` equals `standard`: 0.16M weights, in the middle of the sizes at which the rule for
the learning rate was measured (35k to 430k, of two and three layers), so that its learning rate is
known to be good there."""


@dataclass(frozen=True)
class Role:
    """What one weight of a model is, which decides how it is first drawn and how it is stepped."""

    in_block: bool
    is_matrix: bool
    is_embedding: bool = False
    """Of tokens or positions; the output projection is none."""
    is_output: bool = False
    """Whether it is the output projection."""
    parts: int = 1
    """Matrices that it holds, one below the other."""
    writes: bool = False
    """Whether it is a matrix that writes into the residual stream."""
    start: float = 0.0
    """What it is before the first step, if it is no matrix."""

    @property
    def hidden(self) -> bool:
        """A matrix inside a block, whose two sides both grow with the width."""
        return self.in_block and self.is_matrix

    @property
    def decays(self) -> bool:
        return self.is_matrix and not self.is_embedding


@dataclass(frozen=True)
class Parametrization:
    """What models and optimisers need to know of a shape; everything is 1 under `standard`, but
    attention's scale."""

    name: str
    width: float
    """m, the width over that of the base."""
    depth: float
    """m_L, the layers over those of the base."""
    attention_scale: float
    """On the scores q · k."""

    @property
    def logits_multiplier(self) -> float:
        return 1 / self.width

    @property
    def residual_multiplier(self) -> float:
        """On what each half of a block adds to the residual stream."""
        return 1 / self.depth

    def init_multiplier(self, role: Role) -> float:
        """On the standard deviation of a matrix under `standard`."""
        if role.is_embedding or role.is_output:
            return math.sqrt(self.width)
        return math.sqrt(self.depth) if role.writes else 1.0


def parametrize(shape: Shape, name: str = "standard") -> Parametrization:
    """The parametrization `name` of `shape`. Raises InputError for a name that is not known."""
    if name == "standard":
        return Parametrization(name, 1.0, 1.0, 1 / math.sqrt(shape.d_head))
    if name == "mup":
        width, depth = shape.d_model / BASE.d_model, shape.n_layer / BASE.n_layer
        return Parametrization(name, width, depth, math.sqrt(BASE.d_head) / shape.d_head)
    raise InputError(
        f"parametrization {name!r} is not known", f"choose one of {', '.join(PARAMETRIZATIONS)}"
    )
