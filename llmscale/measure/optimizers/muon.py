"""Muon (Jordan et al. 2024) for the matrices in blocks; AdamW for embeddings, output projection,
norms and biases.

M ← μ M + (1-μ) G      U = orthogonal(μ M + (1-μ) G)      W ← W - lr (0.2 √max(rows, columns) U + λ
W)

The factor gives U the root mean square of a usual AdamW step, so that learning rate and weight
decay suit both (Liu et al. 2025, eq. 4). `orthogonal` keeps the singular vectors and takes all
singular values near 1: five steps of Newton and Schulz with the coefficients of Jordan et al., in
the number type of the run.

Q, K and V, and SwiGLU's gate and up, lie in one weight each but are matrices of their own, and each
is made orthogonal by itself: together, the one with the largest gradient would set the scale of the
others. torch.optim.Muon takes weights whole, which is why it is not used here; on a single matrix
both agree.

Under `mup` the spectral norm of a step must not depend on the width (Yang, Simon & Bernstein 2023).
It is 0.2 √max(rows, columns), so the learning rate of these matrices goes with m^-1/2, where
AdamW's goes with 1/m, and their weight decay with m^1/2."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmscale.measure.optimizers import Weight, adamw
from llmscale.measure.optimizers.adamw import AdamW, Eager
from llmscale.measure.parametrization import Parametrization

MOMENTUM = 0.95
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5
ADAMW_RMS = 0.2
BATCHED = 2**24
"""Matrices of equal shape are made orthogonal together, up to this many entries at a time."""


def build(
    weights: Sequence[Weight],
    parametrization: Parametrization,
    *,
    lr: float,
    beta2: float,
    weight_decay: float,
    dtype: str,
    compile: bool = False,
) -> torch.optim.Optimizer:
    """Muon and AdamW as one optimiser; λ = `weight_decay` on matrices, 0 on embeddings, norms and
    biases.
    """
    hidden = [weight for weight in weights if weight.role.hidden]
    multiplier = parametrization.width**-0.5
    common = {
        "lr": lr * multiplier,
        "lr_multiplier": multiplier,
        "weight_decay": weight_decay / multiplier,
    }
    groups = [
        {
            "params": [weight.tensor for weight in hidden if weight.role.parts == parts],
            "parts": parts,
            **common,
        }
        for parts in sorted({weight.role.parts for weight in hidden})
    ]
    others = [weight for weight in weights if not weight.role.hidden]
    rest = adamw.build(
        others, parametrization, lr=lr, beta2=beta2, weight_decay=weight_decay, dtype=dtype
    )
    return Muon(groups, rest, getattr(torch, dtype), compile)


class Muon(Eager):
    """Muon on the groups that say how many matrices each of their weights holds (`parts`), AdamW on
    its own.
    """

    def __init__(
        self, groups: list[dict[str, Any]], adamw: AdamW, dtype: torch.dtype, compile: bool = False
    ) -> None:
        super().__init__([*groups, *adamw.param_groups], defaults={})
        self._adamw, self._dtype = adamw, dtype
        self._orthogonal = (
            torch.compile(orthogonal, dynamic=False, fullgraph=True) if compile else orthogonal
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both, with the learning rates that the groups hold."""
        assert closure is None
        # Groups and state are kept only here, and load_state_dict replaces them.
        self._adamw.param_groups = [group for group in self.param_groups if "parts" not in group]
        self._adamw.state = self.state
        self._adamw.step()
        for batch in _batches(list(self._directions())):
            updates = self._orthogonal(torch.cat([one.matrices for one in batch]).to(self._dtype))
            for one, update in zip(
                batch, updates.split([len(one.matrices) for one in batch]), strict=True
            ):
                rows, columns = update.shape[-2:]
                lr, decay = one.group["lr"], one.group["weight_decay"]
                one.weight.mul_(1 - lr * decay)
                step = _part_of(update.reshape(one.weight.shape), one.weight)
                one.weight.add_(step, alpha=-lr * ADAMW_RMS * math.sqrt(max(rows, columns)))
        return None

    def _directions(self) -> Iterator["_Direction"]:
        """Every weight's momentum after this step's gradient (Nesterov's, as in the formula
        above).
        """
        for group in self.param_groups:
            weights = (
                [weight for weight in group["params"] if weight.grad is not None]
                if "parts" in group
                else []
            )
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            gradients = [weight.grad for weight in weights]
            momenta = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            directions = [gradient.clone() for gradient in gradients]
            torch._foreach_lerp_(directions, momenta, MOMENTUM)
            for weight, direction in zip(weights, directions, strict=True):
                matrices = _whole(direction).unflatten(-2, (group["parts"], -1)).flatten(0, -3)
                yield _Direction(weight, group, matrices)


@dataclass(frozen=True)
class _Direction:
    weight: Tensor
    group: dict[str, Any]
    matrices: Tensor
    """What is to be made orthogonal, (matrices, rows, columns)."""


def _whole(tensor: Any) -> Tensor:
    """`tensor`, of which each of several processes may hold a part."""
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


def _part_of(whole: Tensor, weight: Any) -> Tensor:
    """What this process holds of `whole`, if `weight` is shared out among several."""
    if not hasattr(weight, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(weight.dtype)
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _batches(directions: Sequence[_Direction]) -> Iterator[list[_Direction]]:
    """Directions of equal shape together, at most BATCHED entries unless one has more."""
    shapes: dict[tuple[int, ...], list[_Direction]] = {}
    for one in directions:
        shapes.setdefault(tuple(one.matrices.shape[-2:]), []).append(one)
    for together in shapes.values():
        batch: list[_Direction] = []
        for one in together:
            if (
                batch
                and sum(other.matrices.numel() for other in batch) + one.matrices.numel() > BATCHED
            ):
                yield batch
                batch = []
            batch.append(one)
        yield batch


def orthogonal(matrices: Tensor) -> Tensor:
    """U Vᵀ of each U S Vᵀ of (matrices, rows, columns), with singular values between about 0.5 and
    1.2; 0 for 0.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
