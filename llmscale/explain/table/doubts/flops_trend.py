"""How C/(6ND) moves from small sizes to large ones, and how far rows scatter about that."""

from dataclasses import dataclass

import numpy as np

from llmscale.errors import Note
from llmscale.explain.table.doubts.taken import Array, Taken
from llmscale.notes.kind import Weight
from llmscale.notes.reading import FLOPS_DRIFT, FLOPS_SCATTERED
from llmscale.quantity import format_count

_SIZES_APART = 1.5
"""Sizes nearer than this tell no trend."""
_WRONG = 10.0
"""C/(6ND) that differs so often is of no count of FLOPs."""
_FOLLOWS = 0.7
"""The least share of the spread that a trend with size explains."""


@dataclass(frozen=True)
class FlopsTrend:
    """The line that ln C/(6ND) follows in ln N, from the smallest size to the largest."""

    slope: float
    """Per unit of ln N."""
    middle: float
    """ln C/(6ND) at the mean of ln N, which is `center`."""
    center: float
    sizes: tuple[float, float]
    scatter: float
    """The factor between the 10% of rows furthest above the line and the 10% furthest below."""
    follows: float
    """The share of the variance of ln C/(6ND) that the line explains."""

    def at(self, N: float) -> float:
        """C/(6ND) at a size."""
        return float(np.exp(self.middle + self.slope * (np.log(N) - self.center)))

    @property
    def drift(self) -> float:
        """How much C/(6ND) changes over the sizes, as a factor above 1."""
        small, large = self.sizes
        return max(self.at(large) / self.at(small), self.at(small) / self.at(large))


def flops_trend(N: Array, ratio: Array) -> FlopsTrend:
    """The trend of `ratio`, C/(6ND), with size; level if sizes hardly differ."""
    x, y = np.log(N), np.log(ratio)
    center, middle = float(x.mean()), float(y.mean())
    sizes = (float(N.min()), float(N.max()))
    slope = 0.0
    if sizes[1] > _SIZES_APART * sizes[0]:
        slope = float(np.polyfit(x - center, y, 1)[0])
    off = y - middle - slope * (x - center)
    spread = np.ptp(np.quantile(off, [0.1, 0.9]))
    total = float(y.var())
    follows = 1.0 - float(off.var()) / total if total > 0 else 0.0
    return FlopsTrend(slope, middle, center, sizes, float(np.exp(spread)), follows)


def scatter(taken: Taken, ratio: Array) -> Note | None:
    """A note on C/(6ND) that differs between rows of like sizes."""
    found = flops_trend(taken.values("params"), ratio)
    if found.scatter <= FLOPS_SCATTERED.limit:
        return None
    weight = Weight.WRONG if found.scatter > _WRONG else Weight.DOUBT
    return FLOPS_SCATTERED.note(
        f"{taken.columns['flops']!r} is between {ratio.min():.2g} and {ratio.max():.2g} "
        "times 6ND, not a constant times: one of the columns for N, D and C is another "
        "quantity, tokens were computed with a wrong batch, or N counts experts that C does not "
        "(say which: --columns params=...,tokens=...,flops=...; flops=none takes C = 6ND)",
        weight,
    )


def drift(taken: Taken, ratio: Array, N: Array) -> Note | None:
    """A note on C/(6ND) that rises or falls with size."""
    found = flops_trend(N, ratio)
    if found.drift < FLOPS_DRIFT.limit or found.follows < _FOLLOWS:
        return None
    small, large = found.sizes
    moves = "falls" if found.slope < 0 else "rises"
    return FLOPS_DRIFT.note(
        f"C/(6ND) {moves} with size, from {found.at(small):.2g} at N {format_count(small)} to "
        f"{found.at(large):.2g} at {format_count(large)}: attention and the output layer, or "
        "experts, explain a part of such a trend; else FLOPs are counted wrong at one end "
        "(--columns flops=none takes C = 6ND)"
    )
