"""Where the target of a forecast lies among the runs: inside them, below, or beyond."""

import math
from typing import Literal

from llmscale.explain import digits
from llmscale.explain.estimation.reach import Reach

Side = Literal["inside", "below", "beyond"]

_THERE = 0.05
"""A distance of less than this, in ln C, is none to speak of."""


def side_of(reach: Reach, params: float, tokens: float) -> Side:
    """On which side of the runs a point lies by the coordinate in which it is furthest away."""
    at = {reach.size or "params": math.log(params), "tokens": math.log(tokens)}
    above = [at[name] - reach.ranges[name][1] for name in at]
    if reach.largest is not None:
        above.append(sum(at.values()) - reach.largest)
    below = [reach.ranges[name][0] - at[name] for name in at]
    if max(*above, *below) <= _THERE:
        return "inside"
    return "below" if max(below) > max(above) else "beyond"


def how_far(horizon: float, side: Side = "beyond") -> str:
    """`11x beyond`, or `inside`."""
    if horizon <= _THERE:
        return "inside"
    return f"{digits.times(math.exp(horizon))} {side}"


def nearer(before: float, after: float, side: Side) -> str:
    """What a run does that leaves the target less far from the runs: ln of how many times `before`
    and `after` it."""
    was = digits.times(math.exp(before))
    if side == "below":
        if after <= _THERE:
            return f"takes the runs down to the target, which is {was} below them"
        return f"the target is {was} below the runs, then {digits.times(math.exp(after))}"
    if after <= _THERE:
        return f"reaches the target, which is {was} beyond the runs"
    return f"shortens the extrapolation from {was} to {digits.times(math.exp(after))}"
