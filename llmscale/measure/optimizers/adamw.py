"""AdamW (Loshchilov & Hutter 2019): Adam's step, and weight decay applied to the weights
themselves.

m ← β1 m + (1-β1) g      v ← β2 v + (1-β2) g²      w ← w - lr (m̂ / (√v̂ + ε) + λ w)
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from llmscale.measure.optimizers import Weight
from llmscale.measure.parametrization import Parametrization

BETA1, EPSILON = 0.9, 1e-8


class Eager(torch.optim.Optimizer):
    """What torch's optimisers have in common, without loading torch's compiler, which takes every
    process two seconds.

    torch wraps these methods so that code that is compiled leaves them out. Here no compiled code
    calls them."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(Eager, torch.optim.AdamW):
    """torch.optim.AdamW, as above."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def build(
    weights: Sequence[Weight],
    parametrization: Parametrization,
    *,
    lr: float,
    beta2: float,
    weight_decay: float,
    dtype: str,
    compile: bool = False,
) -> AdamW:
    """AdamW with one fused kernel a step; λ = `weight_decay` on matrices, 0 on embeddings, norms
    and biases.

    It has no matrix products: all is float32, whatever `dtype`, and there is nothing to compile.
    """
    groups = adamw_groups(weights, parametrization, lr, weight_decay)
    return AdamW(groups, betas=(BETA1, beta2), fused=True)


def adamw_groups(
    weights: Sequence[Weight], parametrization: Parametrization, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Weights with equal settings together, scaled as the table in parametrization.py says."""
    m, m_L = parametrization.width, parametrization.depth
    groups: dict[tuple[float, ...], list[torch.Tensor]] = {}
    for weight in weights:
        lr_multiplier = 1 / m if weight.role.hidden else 1.0
        decay = weight_decay / lr_multiplier if weight.role.decays else 0.0
        epsilon = EPSILON / (m * m_L if weight.role.in_block else m)
        groups.setdefault((lr_multiplier, decay, epsilon), []).append(weight.tensor)
    return [
        {
            "params": params,
            "lr": lr * multiplier,
            "lr_multiplier": multiplier,
            "weight_decay": decay,
            "eps": epsilon,
        }
        for (multiplier, decay, epsilon), params in groups.items()
    ]
