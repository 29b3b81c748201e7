"""Low-rank adapters: what is trained of a matrix by LoRA."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LowRank:
    """W = W_0 + (alpha/rank) B A, of which only B and A are trained (Hu et al. 2021, eq. 3)."""

    rank: int
    alpha: float
    matrices: str
    """Which matrices of blocks, by names with commas between."""
