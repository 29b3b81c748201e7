"""LoRA as an optimiser: the model holds W = W_0 + (alpha/rank) B A at every step, and its gradient
gives those of A and B by the chain rule, so that passes, kernels and checkpoints are those of
any run.

dB = (alpha/rank) dW A^T      dA = (alpha/rank) B^T dW      (Hu et al. 2021, eq. 3, differentiated)

A step takes as long as one of all weights; what is saved is the optimiser's state, and what has
been learnt fits into A and B. Each expert of a mixture has an A and a B of its own: the experts'
matrices lie one below the other in one weight, (E O, I), and their adapters in A (E, R, I) and
B (E, O, R). The gradient is clipped by the norm over the adapted matrices."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llmscale.measure.optimizers import Weight
from llmscale.measure.optimizers.adamw import BETA1, Eager, adamw_groups
from llmscale.measure.train.low_rank import LowRank, adapted
from llmscale.measure.transformer import LanguageModel


class LowRankAdamW(Eager):
    """AdamW's steps of A and B (optimizers/adamw.py), and their product added to the weights."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        experts: Mapping[Tensor, int],
        beta2: float,
        low_rank: LowRank,
        seed: int,
    ) -> None:
        """`experts` are the matrices that each weight holds, of which each has an adapter."""
        super().__init__(groups, {})
        self._beta2, self._scale = beta2, low_rank.alpha / low_rank.rank
        generator = torch.Generator().manual_seed(seed)
        for group in self.param_groups:
            for weight in group["params"]:
                matrices = weight.detach()
                if experts[weight] > 1:
                    matrices = matrices.unflatten(0, (experts[weight], -1))
                self.state[weight] = _first_state(matrices, low_rank.rank, generator)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step of A and B, and merge them."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                down, up = state["A"], state["B"]
                gradient = weight.grad.view_as(state["start"])
                slopes = {
                    "B": self._scale * gradient @ down.mT,
                    "A": self._scale * up.mT @ gradient,
                }
                state["step"] += 1
                for name, slope in slopes.items():
                    self._take_step(group, state, name, slope)
                weight.copy_((state["start"] + self._scale * (up @ down)).view_as(weight))

    def _take_step(
        self, group: dict[str, Any], state: dict[str, Any], name: str, slope: Tensor
    ) -> None:
        count, value = float(state["step"]), state[name]
        mean, square = state[f"mean_{name}"], state[f"square_{name}"]
        mean.lerp_(slope, 1 - BETA1)
        square.mul_(self._beta2).addcmul_(slope, slope, value=1 - self._beta2)
        value.mul_(1 - group["lr"] * group["weight_decay"])
        deviation = square.sqrt() / math.sqrt(1 - self._beta2**count)
        value.addcdiv_(mean, deviation.add_(group["eps"]), value=-group["lr"] / (1 - BETA1**count))


def build_low_rank(
    model: LanguageModel,
    low_rank: LowRank,
    *,
    lr: float,
    beta2: float,
    weight_decay: float,
    seed: int,
) -> LowRankAdamW:
    """The optimiser of the adapters; all weights but the adapted ones are frozen from here on."""
    found = {one.name: one for one in adapted(model.shape, low_rank)}
    weights: list[Weight] = []
    experts: dict[Tensor, int] = {}
    for name, tensor in model.named_parameters():
        holder, _, last = name.rpartition(".")
        matrix = found.get(holder.partition("blocks.")[2].partition(".")[2])
        tensor.requires_grad_(matrix is not None and last == "weight")
        if matrix is not None and last == "weight":
            weights.append(Weight(tensor, model.roles[name]))
            experts[tensor] = matrix.experts
    groups = adamw_groups(weights, model.parametrization, lr, weight_decay)
    return LowRankAdamW(groups, experts, beta2, low_rank, seed)


def _first_state(start: Tensor, rank: int, generator: torch.Generator) -> dict[str, Any]:
    """A is random and B is 0: the model begins as its parent (Hu et al. 2021, sect. 4.1)."""
    *experts, outputs, inputs = start.shape
    down = torch.empty(*experts, rank, inputs)
    down.normal_(0.0, 1 / math.sqrt(inputs), generator=generator)
    matrices = {"A": down.to(start.device), "B": start.new_zeros(*experts, outputs, rank)}
    moments = {
        f"{kind}_{name}": torch.zeros_like(value)
        for kind in ("mean", "square")
        for name, value in matrices.items()
    }
    return {"start": start.clone(), **matrices, **moments, "step": torch.zeros(())}
