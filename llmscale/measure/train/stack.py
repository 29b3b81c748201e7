"""Several models of one shape as one: their weights stacked, their products batched.

For a GPU, which a small model leaves idle most of the time. Each member learns as it would by
itself, within rounding."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from llmscale.measure.ops.plain import cross_entropies, weighted_sum
from llmscale.measure.transformer import LanguageModel, nothing_added, of_sequences, run_block

Weights = Mapping[str, Tensor]
"""Stacked weights by their names in one model, or in one of its parts."""


class Stack(nn.Module):
    """S models of one shape. Like one of them to passes and optimisers, but that every weight and
    loss has S members.

    Shapes in suffixes: B sequences for each, S members, T positions, C = d_model, V = vocab_size.
    """

    stack_dims = 1

    def __init__(self, models: Sequence[LanguageModel]) -> None:
        super().__init__()
        first = models[0]
        self.members, self.shape = len(models), first.shape
        self.ops, self.parametrization = first.ops, first.parametrization
        self.roles = first.roles
        self.checkpointing = False
        members = [dict(model.named_parameters()) for model in models]
        self._names = list(members[0])
        self._weights = nn.ParameterList()
        for name in self._names:
            of_members = [weights[name].detach() for weights in members]
            self._weights.append(nn.Parameter(torch.stack(of_members)))
        self._used: dict[str, nn.Parameter] = {}
        self.one = first
        """Whose code and buffers serve all members; its own weights are never read."""
        self._embedded, self._logits = _Calling(first, "embedded"), _Calling(first, "output_logits")
        self._block: Callable[..., tuple[Tensor, ...]] = self._every_block
        self._output: Callable[..., tuple[Tensor, Tensor]] = self._output_losses
        self._compiled = False

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The stacked weights, by their names in one model."""
        return zip(self._names, self._weights, strict=True)

    def member(self, number: int) -> dict[str, Tensor]:
        """The weights of one member, as its own state_dict."""
        return {name: weight.detach()[number] for name, weight in self.named_parameters()}

    def load_members(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Take over the weights of all members."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.copy_(torch.stack([state[name] for state in states]))

    def compile_parts(self) -> None:
        """Have torch compile one block, which serves all, and the output with its loss."""
        self._block = torch.compile(self._every_block, dynamic=False, fullgraph=True)
        self._output = torch.compile(self._output_losses, dynamic=False, fullgraph=True)
        self._compiled = True

    def for_each(self, tokens_BT: Tensor) -> Tensor:
        """The same sequences for every member, (B, S, T)."""
        return tokens_BT[:, None].expand(-1, self.members, -1)

    def clip_gradient(self, norm: float) -> Tensor:
        """Scale each member's gradient down to `norm` if it is larger; the norms before, (S,)."""
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        by_member = list(zip(*(gradient.unbind() for gradient in gradients), strict=True))
        every = list(itertools.chain.from_iterable(by_member))
        norm_SW = torch.stack(torch._foreach_norm(every)).view(self.members, len(gradients))
        norm_S = torch.linalg.vector_norm(norm_SW, dim=1)
        factor_S = (norm / (norm_S + 1e-6)).clamp(max=1.0)
        for parts, factor in zip(by_member, factor_S.unbind(), strict=True):
            torch._foreach_mul_(parts, factor)
        return norm_S

    @contextmanager
    def using(self, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """While this lasts, compute with `weights` in place of those of the same names."""
        self._used = dict(weights)
        try:
            yield
        finally:
            self._used = {}

    def losses(
        self, inputs_BST: Tensor, targets_BST: Tensor, weights_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As LanguageModel.losses, summed over the members, and (B, S, T)."""
        weights = dict(self.named_parameters()) | self._used
        one, T = self.one, inputs_BST.shape[-1]
        outer = {name: own for name, own in weights.items() if not name.startswith("blocks.")}
        outside = {f"model.{name}": weight for name, weight in outer.items()}
        x_SBTC = self._embed(outside, inputs_BST)
        added_SBTC = nothing_added(x_SBTC, self.ops) if self._compiled else None
        shared = one.shared(T)
        auxiliary_SB: list[Tensor] = []
        for number in range(self.shape.n_layer):
            own = _below(weights, f"blocks.{number}.")
            x_SBTC, added_SBTC, *own_SB = run_block(
                self._block, self.checkpointing, own, x_SBTC, added_SBTC, *shared
            )
            auxiliary_SB += own_SB
        total, losses_SBT = self._output(
            outside, x_SBTC, added_SBTC, targets_BST.transpose(0, 1), weights_B
        )
        for of_block_SB in auxiliary_SB:
            each = of_sequences(weights_B)
            if each.dim() == 1:
                total = total + (of_block_SB @ each).sum()
            else:  # (B, S)
                total = total + (of_block_SB.mT * each).sum()
        return total, losses_SBT.transpose(0, 1)

    def _embed(self, weights: Weights, inputs_BST: Tensor) -> Tensor:
        def of_one(own: Weights, inputs_BT: Tensor) -> Tensor:
            x_BTC: Tensor = functional_call(self._embedded, dict(own), (inputs_BT,))
            return x_BTC

        x_SBTC: Tensor = torch.vmap(of_one, in_dims=(0, 1))(weights, inputs_BST)
        return x_SBTC

    def _every_block(
        self, weights: Weights, x_SBTC: Tensor, added_SBTC: Tensor | None, *shared: Any
    ) -> tuple[Tensor, ...]:
        """The blocks of all members at one depth, whose stacked weights these are."""
        block = self.one.blocks[0]

        def of_one(own: Weights, x_BTC: Tensor, added_BTC: Tensor | None) -> tuple[Tensor, ...]:
            written: tuple[Tensor, ...] = functional_call(
                block, dict(own), (x_BTC, added_BTC, *shared)
            )
            return written

        every = torch.vmap(of_one, in_dims=(0, 0, _member_dim(added_SBTC)))
        written: tuple[Tensor, ...] = every(weights, x_SBTC, added_SBTC)
        return written

    def _output_losses(
        self,
        weights: Weights,
        x_SBTC: Tensor,
        added_SBTC: Tensor | None,
        targets_SBT: Tensor,
        weights_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        def of_one(own: Weights, x_BTC: Tensor, added_BTC: Tensor | None) -> Tensor:
            logits_BTV: Tensor = functional_call(self._logits, dict(own), (x_BTC, added_BTC))
            return logits_BTV

        every = torch.vmap(of_one, in_dims=(0, 0, _member_dim(added_SBTC)))
        logits_SBTV = every(weights, x_SBTC, added_SBTC)
        # Cross-entropy under vmap would scatter into a tensor as large as the logits: it is taken
        # of all rows at once.
        losses_SBT = cross_entropies(
            logits_SBTV, targets_SBT, self.parametrization.logits_multiplier
        )
        if weights_B.dim() > 1:  # (B, S, T)
            weights_B = weights_B.transpose(0, 1)
        return weighted_sum(losses_SBT, weights_B), losses_SBT.detach()


def tensors_of_members(
    model: LanguageModel | Stack, optimizer: torch.optim.Optimizer
) -> list[dict[str, Any]]:
    """What each member has learnt, `model` and `optimizer`, as its own state_dicts."""
    state = optimizer.state_dict()
    if not isinstance(model, Stack):
        return [{"model": model.state_dict(), "optimizer": state}]
    return [
        {"model": model.member(number), "optimizer": _of_member(state, number)}
        for number in range(model.members)
    ]


def stack_optimizers(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The state of a stack's optimiser from its members'."""
    tensors: dict[Any, dict[str, Tensor]] = {}
    for weight, first in states[0]["state"].items():
        tensors[weight] = dict(first)
        for name, value in first.items():
            if value.dim():  # but for the count of steps, which they share
                of_members = [state["state"][weight][name] for state in states]
                tensors[weight][name] = torch.stack(of_members)
    return {**states[0], "state": tensors}


def _of_member(state: dict[str, Any], number: int) -> dict[str, Any]:
    """The other way round: one member's part of it."""
    tensors: dict[Any, dict[str, Tensor]] = {}
    for weight, of_weight in state["state"].items():
        tensors[weight] = dict(of_weight)
        for name, value in of_weight.items():
            if value.dim():
                tensors[weight][name] = value[number]
    return {**state, "state": tensors}


class Losses(nn.Module):
    """The losses of a model as `forward`, which is all that DDP calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, *batch: Tensor, **others: Any) -> tuple[Tensor, Tensor]:
        losses: tuple[Tensor, Tensor] = self.model.losses(*batch, **others)
        return losses


class _Calling(nn.Module):
    """A method of a model as `forward`, which is all that functional_call calls."""

    def __init__(self, model: LanguageModel, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.model, self.method)(*inputs)


def _below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }


def _member_dim(value: Tensor | None) -> int | None:
    """The dimension of the members, for torch.vmap; None for what is not there."""
    return None if value is None else 0
