"""What the runs of a comparison can tell of a multiplier, and which more runs would tell it."""

import math

import numpy as np

from llmscale.explain.laws import Array
from llmscale.explain.recipes.frontiers import Frontiers
from llmscale.explain.recipes.multiplier import Multiplier

_MOST_TIMES = 30
"""More repeats than this are no advice."""
_AHEAD = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""How far beyond the runs a pair that decides is looked for."""


def advice(
    frontiers: Frontiers, place: int, now: Multiplier, last: Multiplier, pair_noise: float
) -> str:
    """What the runs tell from 1 at today's scale, and what would decide what they leave open there
    or at the largest scale. `place` is the recipe's, `pair_noise` the standard deviation of the
    difference of ln L of a pair of runs."""
    if math.isinf(now.high):
        return f"the interval of {now.recipe} has no end: measure more sizes"
    below, above = math.log(now.value / now.low), math.log(now.high / now.value)
    said = (
        f"these runs tell multipliers of {now.recipe} below {math.exp(-above):.3g} or above "
        f"{math.exp(below):.3g} from 1"
    )
    if now.includes_one:
        return f"{said}; {_more_repeats(now, above if now.value < 1 else below)}"
    if last.includes_one:
        return f"{said}; {_larger_pair(frontiers, place, now, last, pair_noise)}"
    return said


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
            return f"a pair of runs at {budget:.2g} FLOPs would decide {last.flops:.3g}"
    return f"only runs near {last.flops:.3g} FLOPs would decide that"


def _left(known_B: Array, target_B: Array, noise: float) -> float:
    """The share of the spread of `target` that is left once `known` is measured with a noise of
    this variance, if both are normal."""
    covariance = np.cov(known_B, target_B)
    told = covariance[0, 1] ** 2 / ((covariance[0, 0] + noise) * covariance[1, 1])
    return math.sqrt(max(1.0 - float(told), 0.0))
