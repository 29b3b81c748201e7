"""Which budgets are one, and recipes that need more than they were measured at to reach the loss of
the baseline."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmscale.errors import both
from llmscale.explain import digits
from llmscale.explain.estimation.levels import SAME
from llmscale.explain.recipes.multiplier import Multiplier, possessive

_WORTH_SAYING = 1.1
"""A recipe that is hardly worse needs a little more than its largest run, which changes nothing."""


def is_same_budget(one: float, other: float) -> bool:
    """Whether two budgets differ by no more than measured ones of one level do."""
    return abs(math.log(one / other)) <= math.log1p(SAME)


@dataclass(frozen=True)
class Extrapolated:
    """A multiplier at `flops`, which the baseline was measured at, that rests on what `recipe`
    would reach with `times` the compute of its `largest` run."""

    recipe: str
    baseline: str
    flops: float
    largest: float
    times: float

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return {
            "recipe": self.recipe,
            "flops": self.flops,
            "needs": self.times * self.largest,
            "largest_run": self.largest,
            "times_largest_run": self.times,
        }


def extrapolated(
    multipliers: Sequence[Multiplier], reaches: Mapping[str, tuple[float, float]]
) -> Iterator[Extrapolated]:
    """The multipliers that need compute beyond a recipe's own runs, at budgets within the runs of
    all; `reaches` is the least and the most compute of every recipe."""
    shared = min(most for _, most in reaches.values())
    for one in multipliers:
        largest = reaches[one.recipe][1]
        times = one.value * one.flops / largest
        if one.flops <= shared and _WORTH_SAYING < times < math.inf:
            yield Extrapolated(one.recipe, one.baseline, one.flops, largest, times)


def extrapolated_said(found: Sequence[Extrapolated]) -> Iterator[str]:
    """A sentence on the largest of the budgets, at which recipes need the most, that names the
    others."""
    budgets = sorted({one.flops for one in found}, reverse=True)
    for flops in budgets[:1]:
        those = [one for one in found if one.flops == flops]
        first, *more = [(one.recipe, digits.times(one.times)) for one in those]
        needs = both([f"{first[0]} needs {first[1]}", *(" ".join(one) for one in more)])
        whose = (
            "their largest runs: those multipliers are"
            if more
            else ("its own largest run: that multiplier is")
        )
        lower = both([f"{one:.3g}" for one in budgets[1:]])
        yield (
            f"to reach {possessive(those[0].baseline)} loss at {flops:.3g} FLOPs {needs} {whose} "
            f"extrapolated{f', as at {lower} FLOPs' if lower else ''}"
        )
