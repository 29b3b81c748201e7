"""Trying an optimiser of the user's own on a few weights, before it trains anything."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from llmscale.errors import InputError
from llmscale.measure.optimizers import Weight, allocate_state, set_learning_rate
from llmscale.measure.parametrization import BASE, Role, parametrize

FIX = (
    "write a class of torch.optim.Optimizer that takes (groups, lr), or a function "
    "build(weights, parametrization, *, lr, beta2, weight_decay, dtype, compile)"
)
_LR = 0.01
_ROLES = (
    Role(in_block=True, is_matrix=True),
    Role(in_block=True, is_matrix=False, start=1.0),
    Role(in_block=False, is_matrix=True, is_embedding=True),
    Role(in_block=False, is_matrix=True, is_output=True),
)
"""Of the weights that it is tried on."""


def check(member: Any, title: str) -> None:
    """Raise InputError unless what `member` builds steps all weights, and goes on from what it has
    saved as if it had never stopped.

    Whatever else it raises is left to the caller."""
    with torch.random.fork_rng(devices=[]):
        weights, optimizer = _built(member, title)
        _check_groups(weights, optimizer, title)
        start = [weight.detach().clone() for weight in weights]
        allocate_state(optimizer)
        if not _equal(weights, start):
            raise InputError(
                f"{title} changes weights in a step of gradient 0 at learning rate 0",
                "let it leave them as they are: such a step comes first, to see that memory "
                "holds what it keeps",
            )
        _step(weights, optimizer, seed=1)
        if not all(weight.isfinite().all() for weight in weights):
            raise InputError(
                f"{title} makes weights that are no finite numbers in its first step",
                "look for a division by 0: what it keeps is 0 then",
            )
        if _equal(weights, start):
            raise InputError(f"{title} changes no weight", "let step() change weights in place")
        twins, twin = _built(member, title)
        allocate_state(twin)
        _step(twins, twin, seed=1)
        if not _equal(weights, twins):
            raise InputError(
                f"{title} makes two different steps of the same gradients",
                "let step() draw no random numbers and keep nothing outside the optimizer: a run "
                "that is trained again would come out otherwise",
            )
        others, resumed = _built(member, title)
        for other, weight in zip(others, weights, strict=True):
            other.data.copy_(weight)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for each, stepped in ((weights, optimizer), (others, resumed)):
            _step(each, stepped, seed=2)
        if not _equal(weights, others):
            raise InputError(
                f"{title} steps otherwise after a checkpoint",
                "keep all that steps depend on in self.state[weight] or in the groups, which "
                "checkpoints hold",
            )


def _built(member: Any, title: str) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    numbers = torch.Generator().manual_seed(0)
    sizes = [(8, 8) if role.is_matrix else (8,) for role in _ROLES]
    weights = [nn.Parameter(torch.randn(size, generator=numbers)) for size in sizes]
    with_roles = [Weight(weight, role) for weight, role in zip(weights, _ROLES, strict=True)]
    optimizer = member.build(
        with_roles,
        parametrize(BASE),
        lr=_LR,
        beta2=0.99,
        weight_decay=0.1,
        dtype="float32",
        compile=False,
    )
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise InputError(f"{title} makes a {kind}, and no torch.optim.Optimizer", FIX)
    # Unwrapped: torch wraps the step of every class that it makes an optimizer of.
    if inspect.unwrap(type(optimizer).step) is inspect.unwrap(torch.optim.Optimizer.step):
        raise InputError(f"{title} has no step()", "let step() change weights in place")
    return weights, optimizer


def _check_groups(weights: list[nn.Parameter], optimizer: Any, title: str) -> None:
    """Raise InputError unless each weight is stepped once, at the learning rate of its group."""
    groups = optimizer.param_groups
    stepped = sorted(id(weight) for group in groups for weight in group["params"])
    if stepped != sorted(map(id, weights)):
        raise InputError(
            f"{title} steps {len(set(stepped))} of the {len(weights)} weights that it is given",
            "put every weight into one group",
        )
    if not all("lr_multiplier" in group for group in groups):
        raise InputError(
            f"{title} has groups without `lr_multiplier`",
            "give each the factor on the learning rate of the schedule, such as "
            '{"params": [...], "lr_multiplier": 1.0}',
        )


def _step(weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, seed: int) -> None:
    # Not from torch's own numbers, which go on: an optimizer that draws some steps otherwise.
    numbers = torch.Generator().manual_seed(seed)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=numbers)
    set_learning_rate(optimizer, _LR)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _equal(weights: list[nn.Parameter], others: "list[nn.Parameter] | list[Tensor]") -> bool:
    return all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))
