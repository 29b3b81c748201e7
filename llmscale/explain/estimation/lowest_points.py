"""What the budgets of a table say of the best size by themselves, without a law."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np

from llmscale.explain.laws import Array
from llmscale.runs.json_values import plain


def errors_in_half(level: float) -> float:
    """Standard errors in half of a normal interval: 1.64 at 90%."""
    return NormalDist().inv_cdf(0.5 + 0.5 * level)


@dataclass(frozen=True)
class LowestPoints:
    """The lowest points of K budgets that bracket theirs (--method isoflop), less the bias that the
    method has on the law, and power laws N* = exp(log_params) C^a through them, C = 6ND: the best
    one first, then its refits. `error_K` is the standard error of ln N, NaN if not known."""

    log_flops_K: Array
    log_params_K: Array
    error_K: Array
    a_B: Array
    log_params_B: Array

    def line(self, flops: float) -> Array:
        """ln N* at C FLOPs by every power law, (B,)."""
        return self.log_params_B + self.a_B * np.log(flops)

    def nearest(self, flops: float) -> int:
        """The budget next to C FLOPs."""
        return int(np.argmin(np.abs(self.log_flops_K - np.log(flops))))

    def to_json(self) -> dict[str, list[float | None]]:
        return {one.name: plain(getattr(self, one.name).tolist()) for one in fields(self)}

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> "LowestPoints":
        """From what `to_json` gave. Raises KeyError, ValueError."""
        return cls(**{one.name: np.array(payload[one.name], dtype=float) for one in fields(cls)})
