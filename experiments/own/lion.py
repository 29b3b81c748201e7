"""Lion (Chen et al. 2023, algorithm 2), which steps by a sign: an optimiser of one's own.

llmscale sweep --sizes 10k,30k --optimizer experiments/own/lion.py:Lion --lr-scale 0.1
"""

from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """w ← w - lr (sign(0.9 m + 0.1 g) + λ w), then m ← 0.99 m + 0.01 g: one number a weight."""

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                direction = state["mean"].lerp(weight.grad, 0.1).sign_()
                weight.add_(direction, alpha=-group["lr"])
                state["mean"].lerp_(weight.grad, 0.01)
