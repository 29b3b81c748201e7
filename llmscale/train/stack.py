"""Several models of one shape as one: their weights stacked, their products batched.

For a GPU, which a small model leaves idle most of the time. Each member learns as it would alone, within rounding.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from llmscale.models import LanguageModel


class Stack(nn.Module):
    """S models of one shape. Like one of them to passes and optimisers, but that every weight and loss has S members.

    Shapes in suffixes: B sequences for each, S members, T positions.
    """

    stack_dims = 1

    def __init__(self, models: Sequence[LanguageModel]) -> None:
        super().__init__()
        first = models[0]
        self.members, self.shape = len(models), first.shape
        self.ops, self.parametrization = first.ops, first.parametrization
        members = [dict(model.named_parameters()) for model in models]
        self._names = list(members[0])
        stacked = [torch.stack([weights[name].detach() for weights in members]) for name in self._names]
        self._weights = nn.ParameterList(nn.Parameter(weight) for weight in stacked)
        self._one = Losses(first)

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The stacked weights, by their names in one model."""
        return zip(self._names, self._weights, strict=True)

    def member(self, number: int) -> dict[str, Tensor]:
        """The weights of one member, as its own state_dict."""
        return {name: weight.detach()[number].clone() for name, weight in self.named_parameters()}

    def load_members(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Take over the weights of all members."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.copy_(torch.stack([state[name] for state in states]))

    @property
    def checkpointing(self) -> bool:
        return self._one.model.checkpointing

    @checkpointing.setter
    def checkpointing(self, value: bool) -> None:
        self._one.model.checkpointing = value

    def for_each(self, tokens_BT: Tensor) -> Tensor:
        """The same sequences for every member, (B, S, T)."""
        return tokens_BT[:, None].expand(-1, self.members, -1)

    def clip_gradient(self, norm: float) -> Tensor:
        """Scale each member's gradient down to `norm` where it is larger; the norms before, (S,)."""
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        norm_S = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        factor_S = (norm / (norm_S + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient *= factor_S.view(-1, *(1,) * (gradient.dim() - 1))
        return norm_S

    def losses(self, inputs_BST: Tensor, targets_BST: Tensor, weights_B: Tensor) -> tuple[Tensor, Tensor]:
        """As LanguageModel.losses, summed over the members, and (B, S, T)."""
        weights: dict[str, Tensor] = {f"model.{name}": weight for name, weight in self.named_parameters()}

        def one(weights: dict[str, Tensor], inputs_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
            losses: tuple[Tensor, Tensor] = functional_call(self._one, weights, (inputs_BT, targets_BT, weights_B))
            return losses

        total_S, losses_BST = torch.vmap(one, in_dims=(0, 1, 1), out_dims=(0, 1))(weights, inputs_BST, targets_BST)
        return total_S.sum(), losses_BST


class Losses(nn.Module):
    """The losses of a model as `forward`, which functional_call and DDP call alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        losses: tuple[Tensor, Tensor] = self.model.losses(*batch)
        return losses
