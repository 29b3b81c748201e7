"""Lion (Chen et al. 2023, algorithm 2), which steps by a sign: an optimiser of one's own.

llmscale sweep --sizes 10k,30k --optimizer experiments/own/lion.py:Lion --lr-scale 0.1
"""

import torch


class Lion(torch.optim.Optimizer):
    """w ← w - lr (sign(0.9 m + 0.1 g) + λ w), then m ← 0.99 m + 0.01 g: one number a weight."""

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(mean.lerp(weight.grad, 0.1).sign_(), alpha=group["lr"])
                mean.lerp_(weight.grad, 0.01)
