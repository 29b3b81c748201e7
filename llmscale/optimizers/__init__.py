"""The optimisers: `optimizer = "adamw"` is optimizers/adamw.py.

A member defines `build(decayed, others, *, lr, beta2, weight_decay, fused) -> torch.optim.Optimizer` over two lists
of parameters: weight matrices, which decay, and everything else, which does not. The training loop sets each
group's `lr` before every step.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def optimizer_names() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def build_optimizer(
    name: str, model: "nn.Module", *, lr: float, beta2: float, weight_decay: float
) -> "torch.optim.Optimizer":
    """The optimiser `name`, one of `optimizer_names()`, over the model's weights."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for weight_name, weight in model.named_parameters():
        is_embedding = weight_name.startswith(("embed.", "positions."))
        (decayed if weight.dim() >= 2 and not is_embedding else others).append(weight)
    module = importlib.import_module(f"llmscale.optimizers.{name}")
    optimizer: torch.optim.Optimizer = module.build(
        decayed, others, lr=lr, beta2=beta2, weight_decay=weight_decay, fused=True
    )
    return optimizer
