"""LoRA as an optimiser: the model holds W = W_0 + (alpha/rank) B A at every step, and its gradient
gives those of A and B by the chain rule, so that passes, kernels and checkpoints are those of
any run.

dB = (alpha/rank) dW A^T      dA = (alpha/rank) B^T dW      (Hu et al. 2021, eq. 3, differentiated)

A step takes as long as one of all weights; what is saved is the optimiser's state, and what has
been learnt fits into A and B. The gradient is clipped by the norm over the adapted matrices."""

import math
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
        self, groups: list[dict[str, Any]], beta2: float, low_rank: LowRank, seed: int
    ) -> None:
        super().__init__(groups, {})
        self._beta2, self._scale = beta2, low_rank.alpha / low_rank.rank
        generator = torch.Generator().manual_seed(seed)
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight] = _first_state(weight.detach(), low_rank.rank, generator)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step of A and B, and merge them."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                down, up = state["A"], state["B"]
                slopes = {
                    "B": self._scale * weight.grad @ down.mT,
                    "A": self._scale * up.mT @ weight.grad,
                }
                state["step"] += 1
                for name, slope in slopes.items():
                    self._take_step(group, state, name, slope)
                weight.copy_(state["start"] + self._scale * (up @ down))

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
    names = {one.name for one in adapted(model.shape, low_rank)}
    weights = []
    for name, tensor in model.named_parameters():
        holder, _, last = name.rpartition(".")
        is_adapted = holder.partition("blocks.")[2].partition(".")[2] in names
        tensor.requires_grad_(is_adapted and last == "weight")
        if tensor.requires_grad:
            weights.append(Weight(tensor, model.roles[name]))
    groups = adamw_groups(weights, model.parametrization, lr, weight_decay)
    return LowRankAdamW(groups, beta2, low_rank, seed)


def _first_state(weight: Tensor, rank: int, generator: torch.Generator) -> dict[str, Any]:
    """A is random and B is 0: the model begins as its parent (Hu et al. 2021, sect. 4.1)."""
    outputs, inputs = weight.shape
    down = torch.empty(rank, inputs).normal_(0.0, 1 / math.sqrt(inputs), generator=generator)
    matrices = {"A": down.to(weight.device), "B": weight.new_zeros(outputs, rank)}
    moments = {
        f"{kind}_{name}": torch.zeros_like(value)
        for kind in ("mean", "square")
        for name, value in matrices.items()
    }
    return {"start": weight.clone(), **matrices, **moments, "step": torch.zeros(())}
