"""AdamW (Loshchilov & Hutter 2019): Adam's step, and weight decay applied to the weights themselves.

m ← β1 m + (1-β1) g      v ← β2 v + (1-β2) g²      w ← w - lr (m̂ / (√v̂ + ε) + λ w)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BETA1, EPSILON = 0.9, 1e-8


def build(
    decayed: Sequence[Tensor], others: Sequence[Tensor], *, lr: float, beta2: float, weight_decay: float, fused: bool
) -> torch.optim.Optimizer:
    """AdamW with one fused kernel a step; λ = `weight_decay` on `decayed`, 0 on `others`."""
    groups = [
        {"params": list(decayed), "weight_decay": weight_decay},
        {"params": list(others), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(BETA1, beta2), eps=EPSILON, fused=fused)
