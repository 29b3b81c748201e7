"""What the runs of a comparison can tell of a multiplier, and which more runs would tell it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.errors import both
from llmscale.explain.laws import Array
from llmscale.explain.recipes.frontiers import Frontiers
from llmscale.explain.recipes.multiplier import Multiplier

_MOST_TIMES = 30
"""More repeats than this are no advice."""
_AHEAD = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""How far beyond the runs a pair that decides is looked for."""


@dataclass(frozen=True)
class Power:
    """Multipliers of `recipe` `below` or `above` which the runs tell from 1 at `flops`, and what
    would decide what they leave open."""

    recipe: str
    flops: float
    below: float
    above: float
    more: str

    @property
    def ends(self) -> str:
        """`below 0.92 or above 1.09`, to as many digits as tell both from 1."""
        return f"below {_written(self.below)} or above {_written(self.above)}"

    @property
    def sentence(self) -> str:
        """What the runs tell, and what would tell more."""
        if self.below <= 0:
            return self.more
        said = (
            f"at {self.flops:.3g} FLOPs these runs tell a multiplier of {self.recipe} from 1 if it "
            f"is {self.ends}"
        )
        return f"{said}; {self.more}" if self.more else said

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return {
            "recipe": self.recipe,
            "flops": self.flops,
            "told_from_1_below": self.below,
            "told_from_1_above": self.above,
            "more": self.more,
        }


def power_of(
    frontiers: Frontiers, place: int, now: Multiplier, last: Multiplier, pair_noise: float
) -> Power:
    """What the runs tell from 1 at today's scale, and what would decide what they leave open there
    or at the largest scale. `place` is the recipe's, `pair_noise` the standard deviation of the
    difference of ln L of a pair of runs."""
    if math.isinf(now.high):
        more = f"the interval of {now.recipe} has no end: measure more sizes"
        return Power(now.recipe, now.flops, 0.0, math.inf, more)
    below, above = math.log(now.value / now.low), math.log(now.high / now.value)
    more = ""
    if now.includes_one:
        more = _more_repeats(now, above if now.value < 1 else below)
    elif last.includes_one:
        more = _larger_pair(frontiers, place, now, last, pair_noise)
    return Power(now.recipe, now.flops, math.exp(-above), math.exp(below), more)


def power_said(found: Sequence[Power]) -> Iterator[str]:
    """Sentences on one recipe, or on all."""
    if len(found) == 1:
        yield found[0].sentence
        return
    told = [one for one in found if one.below > 0]
    if told:
        each = both([f"{one.recipe} {one.ends}" for one in told])
        yield f"at {told[0].flops:.3g} FLOPs these runs tell multipliers from 1: {each}"
    for one in found:
        if one.more:
            yield one.more if one.recipe in one.more else f"{one.recipe}: {one.more}"


def _written(value: float) -> str:
    """To two digits of how far it is from 1: 0.921, 1.09, 0.99946."""
    off = abs(value - 1.0)
    return f"{value:.{max(2, 1 - math.floor(math.log10(off))) if off else 2}f}"


def _more_repeats(now: Multiplier, half: float) -> str:
    """How many times the runs would tell today's multiplier from 1."""
    off = abs(math.log(now.value))
    times = (half / off) ** 2 if off > 0 else math.inf
    if times > _MOST_TIMES:
        return f"{now.recipe} and {now.baseline} are alike to within that"
    return f"about {math.ceil(times)} times as many runs would tell {now.value:.3g} from 1"


def _larger_pair(
    frontiers: Frontiers, place: int, now: Multiplier, last: Multiplier, pair_noise: float
) -> str:
    """The smallest budget at which one more pair of runs is expected to decide the multiplier at
    the largest scale, if it is about what it is expected to be."""
    at = np.array([now.flops * ahead for ahead in _AHEAD if now.flops * ahead <= last.flops])
    log_k = frontiers.log_multiplier(place, 0, np.log([*at, last.flops]))
    log_k = log_k[np.isfinite(log_k).all(axis=1)]
    off = abs(math.log(last.value)) if math.isfinite(last.value) else math.inf
    ends = np.quantile(log_k[:, -1], [0.5 - 0.5 * last.level, 0.5 + 0.5 * last.level])
    half = 0.5 * float(ends[1] - ends[0])
    for budget, known in zip(at, log_k[:, :-1].T, strict=True):
        slope = float(np.median(frontiers.log_slope(math.log(budget))[:, place]))
        left = _left(known, log_k[:, -1], (pair_noise / slope) ** 2)
        if half * left < off:
            return f"a pair of runs at {budget:.2g} FLOPs would tell it from 1 at {last.flops:.3g}"
    return f"only runs near {last.flops:.3g} FLOPs would tell it from 1 there"


def _left(known_B: Array, target_B: Array, noise: float) -> float:
    """The share of the spread of `target` that is left once `known` is measured with a noise of
    this variance, if both are normal."""
    covariance = np.cov(known_B, target_B)
    told = covariance[0, 1] ** 2 / ((covariance[0, 0] + noise) * covariance[1, 1])
    return math.sqrt(max(1.0 - float(told), 0.0))
