"""How flat the valley is: sizes that cost next to nothing at equal compute, and smaller models
trained for longer to an equal loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import LossSurface
from llmscale.explain.search import crossing

SMALLER = (0.5, 0.25)
"""Shares of N* that are asked to reach the loss of the best size."""
_LEAST_SHARE = 1e-3
"""Of N*: no smaller model is looked at, and none that is larger by as much."""
_AT_THE_END = 1.001
"""An edge next to where the search ends lies beyond it."""


@dataclass(frozen=True)
class Basin:
    """Sizes whose loss at equal compute is at most a share `within` above the lowest, as shares of
    N*: from `smallest` to `largest`."""

    within: float
    smallest: Estimate
    largest: Estimate

    @property
    def edges(self) -> dict[str, float]:
        """Both by name, but for one that lies beyond where the search ends."""
        found = {"smaller": self.smallest.value, "larger": self.largest.value}
        return {name: share for name, share in found.items() if not _is_at_the_end(share)}

    def to_json(self) -> dict[str, Any]:
        return {
            "within": self.within,
            "smallest": self.smallest.to_json(),
            "largest": self.largest.to_json(),
            "searched": [_LEAST_SHARE, 1.0 / _LEAST_SHARE],
        }

    def __str__(self) -> str:
        smallest, largest = (one.written(_times) for one in (self.smallest, self.largest))
        cost = f"{100 * self.within:.3g}% of the loss"
        return f"{smallest} to {largest} of the size costs at most {cost}"


@dataclass(frozen=True)
class Smaller:
    """A model of `share` of N* that reaches the loss of the plan: by so many `tokens`, and so many
    times the compute; infinite if no tokens reach it."""

    share: float
    tokens: float
    compute: Estimate

    def to_json(self) -> dict[str, Any]:
        return {"share": self.share, "tokens": self.tokens, "compute": self.compute.to_json()}


def basin_of(judge: Judge, flops: float, within: float) -> Basin:
    """The basin of a budget."""
    sides = {}
    for name, end in (("smallest", np.log(_LEAST_SHARE)), ("largest", -np.log(_LEAST_SHARE))):

        def share(surface: LossSurface, end: float = end) -> Any:
            return np.exp(_edge(surface, flops, within, end))

        sides[name] = judge.estimate(share)
    return Basin(within, **sides)


def _edge(surface: LossSurface, flops: float, within: float, end: float) -> Any:
    """ln of the share of N* at which the loss is `within` above the lowest, looked for up to
    `end`."""
    N, D = surface.best(flops)
    lowest = surface.loss(N, D)
    allowed = lowest + within * np.abs(lowest)

    def spare(part: Any) -> Any:
        times = np.exp(part * end)
        return allowed - surface.loss(N * times, D / times)

    return end * crossing(spare, np.zeros(np.shape(N)), np.ones(np.shape(N)))


def smaller_models(judge: Judge, flops: float, shares: Sequence[float]) -> tuple[Smaller, ...]:
    """Models of these shares of N* that reach the loss of the best one."""
    found = []
    for share in shares:

        def compute(surface: LossSurface, share: float = share) -> Any:
            N, D = surface.best(flops)
            loss = surface.loss(N, D)
            return share * surface.tokens_for(share * N, loss, D / share) / D

        times = judge.estimate(compute)
        tokens = float(judge.surface.best(flops)[1])
        found.append(Smaller(share, times.value * tokens / share, times))
    return tuple(found)


def _is_at_the_end(share: float) -> bool:
    return max(share, 1.0 / share) * _AT_THE_END >= 1.0 / _LEAST_SHARE


def _times(share: float) -> str:
    if _is_at_the_end(share):
        end = 1.0 / _LEAST_SHARE
        return f"less than {_LEAST_SHARE:g}x" if share < 1.0 else f"more than {end:,.0f}x"
    if share < 0.1:
        return f"{share:.2g}x"
    return f"{share:.2f}x" if share < 10 else f"{share:.3g}x"
