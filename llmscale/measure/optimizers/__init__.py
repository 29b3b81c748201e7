"""The optimisers: `optimizer = "adamw"` is optimizers/adamw.py, `./mine.py:MyOptimizer` one's own.

A member is a class of torch.optim.Optimizer, or anything else with `build(weights, parametrization,
*, lr, beta2, weight_decay, dtype, compile) -> torch.optim.Optimizer` over all `Weight`s of a model.
Matrix products, if it has any, are computed in `dtype`, and compiled by torch if asked for. Every
group has an `lr_multiplier` for `set_learning_rate`: so members keep their own rules of how steps
go with width and depth. A class without `build` is given AdamW's groups, each with `lr` and
`weight_decay`, and steps weights one by one; if it has no `__init__`, nothing else.

A step of gradient 0 at learning rate 0 leaves weights as they are. What steps depend on is in
`state` and in the groups, of which checkpoints are made; they draw no random numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.measure.parametrization import BASE, Parametrization, Role, parametrize
from llmscale.menu import Menu
from llmscale.runs.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Weight:
    """One weight of a model, and what it is."""

    tensor: "nn.Parameter"
    role: Role


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
    """The optimiser `name` of the menu, over the weights of a model or of a stack of models."""
    roles: Mapping[str, Role] = model.roles  # type: ignore[assignment]
    weights = [Weight(tensor, roles[name]) for name, tensor in model.named_parameters()]
    optimizer: torch.optim.Optimizer = OPTIMIZERS.find(name).build(
        weights,
        model.parametrization,
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
    counts = [dict(group) for group in optimizer.param_groups]
    _step_nowhere(optimizer)
    for group, before in zip(optimizer.param_groups, counts, strict=True):
        group.update(before)
    for state in optimizer.state.values():
        counted = {name for name, value in state.items() if not _is_tensor(value)}
        if counted <= {"step"}:
            state.update({name: 0 * state[name] for name in counted})
        else:  # what it counts in its own way is counted anew
            state.clear()


def _step_nowhere(optimizer: "torch.optim.Optimizer") -> None:
    """Take a step of gradient 0 at learning rate 0."""
    import torch

    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def state_bytes(name: str, shape: Shape) -> int:
    """Bytes of what the optimiser keeps of all weights of `shape`, by what it keeps of few."""
    hidden, others = _bytes_a_weight(name)
    inside = shape.n_layer * shape.counts.matrices
    return round(hidden * inside + others * (shape.params_total - inside))


@cache
def _bytes_a_weight(name: str) -> tuple[float, float]:
    """Bytes of state for each weight of matrices in blocks, and for each of all others."""
    import torch
    from torch import nn

    roles = Role(in_block=True, is_matrix=True), Role(in_block=False, is_matrix=True)
    weights = [Weight(nn.Parameter(torch.zeros(64, 64)), role) for role in roles]
    optimizer = OPTIMIZERS.find(name).build(
        weights, parametrize(BASE), lr=0.0, beta2=0.99, weight_decay=0.0, dtype="float32"
    )
    _step_nowhere(optimizer)
    kept = [
        sum(value.nbytes for value in optimizer.state[weight.tensor].values() if _is_tensor(value))
        for weight in weights
    ]
    hidden, others = (count / 64**2 for count in kept)
    return hidden, others


def _is_tensor(value: Any) -> bool:
    """Whether a value of an optimiser's state is more than one number."""
    return bool(getattr(value, "ndim", 0))


def _tried(found: Any, title: str) -> Any:
    """An optimiser of the user's own, which has stepped a few weights."""
    from llmscale.measure.optimizers import _trial

    member = found
    if not hasattr(found, "build"):
        if not callable(found):
            raise InputError(f"{title} is a {type(found).__name__}", _trial.FIX)
        member = SimpleNamespace(build=partial(_build, found))
    _trial.check(member, title)
    return member


def _build(
    kind: Any, weights: Sequence[Weight], parametrization: Parametrization, **settings: Any
) -> "torch.optim.Optimizer":
    """An optimiser of the user's own that is a class of torch.optim.Optimizer."""
    import torch

    from llmscale.measure.optimizers.adamw import adamw_groups

    groups = adamw_groups(weights, parametrization, settings["lr"], settings["weight_decay"])
    if getattr(kind, "__init__", None) is torch.optim.Optimizer.__init__:
        plain: torch.optim.Optimizer = kind(groups, {})
        return plain
    optimizer: torch.optim.Optimizer = kind(groups, lr=settings["lr"])
    return optimizer


OPTIMIZERS: Menu[Any] = Menu(__name__, "optimizer", "--optimizer", tried=_tried, own="MyOptimizer")
