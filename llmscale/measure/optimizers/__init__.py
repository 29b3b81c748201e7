"""The optimisers: `optimizer = "adamw"` is optimizers/adamw.py.

A member defines `build(weights, parametrization, *, lr, beta2, weight_decay, dtype, compile) ->
torch.optim.Optimizer` over all weights of a model. Matrix products, if it has any, are computed in
`dtype`, and compiled by torch if asked for. Every group has an `lr_multiplier` for
`set_learning_rate`: so members keep their own rules of how steps go with width and depth."""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscale.measure.parametrization import EMBEDDINGS, Parametrization

if TYPE_CHECKING:
    import torch
    from torch import nn

PARTS = {"attention.qkv.weight": 3, "mlp.gate_up.weight": 2}
"""Matrices that one weight holds, one below the other, by the end of its name."""


@dataclass(frozen=True)
class Weight:
    """One weight of a model, and what optimisers ask about it."""

    tensor: "nn.Parameter"
    in_block: bool
    is_matrix: bool
    is_embedding: bool
    """Of tokens or positions; the output projection is none."""
    parts: int
    """Matrices that it holds, one below the other."""

    @property
    def hidden(self) -> bool:
        """A matrix inside a block, whose two sides both grow with the width."""
        return self.in_block and self.is_matrix

    @property
    def decays(self) -> bool:
        return self.is_matrix and not self.is_embedding


def optimizer_names() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def build_optimizer(
    name: str,
    model: "nn.Module",
    *,
    lr: float,
    beta2: float,
    weight_decay: float,
    dtype: str = "float32",
    compile: bool = False,
) -> "torch.optim.Optimizer":
    """The optimiser `name`, one of `optimizer_names()`, over the weights of a model or of a stack
    of models.
    """
    stack_dims: int = model.stack_dims  # type: ignore[assignment]
    weights = [
        _weight(weight_name, tensor, stack_dims) for weight_name, tensor in model.named_parameters()
    ]
    parametrization: Parametrization = model.parametrization  # type: ignore[assignment]
    module = importlib.import_module(f"llmscale.measure.optimizers.{name}")
    optimizer: torch.optim.Optimizer = module.build(
        weights,
        parametrization,
        lr=lr,
        beta2=beta2,
        weight_decay=weight_decay,
        dtype=dtype,
        compile=compile,
    )
    return optimizer


def set_learning_rate(optimizer: "torch.optim.Optimizer", lr: float) -> None:
    """Give every group the learning rate of the schedule times its own multiplier, as before every
    step.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]


def allocate_state(optimizer: "torch.optim.Optimizer") -> None:
    """Have the optimiser make its state now, as it is before the first step, which would do so
    otherwise.

    Then memory that does not hold it is found out before anything has changed. Weights stay as they
    are: it takes a step of gradient 0 at learning rate 0, and is told that it has taken none."""
    import torch

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for state in optimizer.state.values():
        if "step" in state:
            state["step"].zero_()


def _weight(name: str, tensor: "nn.Parameter", stack_dims: int) -> Weight:
    return Weight(
        tensor=tensor,
        in_block=name.startswith("blocks."),
        is_matrix=tensor.dim() - stack_dims >= 2,
        is_embedding=name.startswith(EMBEDDINGS),
        parts=next((count for end, count in PARTS.items() if name.endswith(end)), 1),
    )
