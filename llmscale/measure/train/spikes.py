"""Spikes of the training loss: rises far above its scatter just before. A run that recovers has not
diverged.

On the 104 runs under results/ 8 standard deviations find none, 6 none either and 4 a quarter of the
runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmscale.runs.run import CurvePoint

WINDOW, FEWEST = 32, 16
"""Logged points before a point that it is compared with, at most and at least."""
SPREADS = 8.0
"""A spike is at least so many robust standard deviations above the median of its window ..."""
NATS = 0.2
"""... and at least this many nats: what bears on a run, however quiet it is."""
_MAD = 1.4826  # standard deviation of normal noise in its median absolute deviation


@dataclass(frozen=True)
class Spike:
    """The logged step where a spike is highest, and how far above the median before it, in nats."""

    step: int
    height: float


def largest_spike(curve: Sequence[CurvePoint]) -> Spike | None:
    """The highest spike of a run's training loss, or None. Each logged point is compared with the
    WINDOW points before it: their median, and their median absolute deviation."""
    largest: Spike | None = None
    losses = np.array([point.train_loss for point in curve])
    for number in range(FEWEST, len(losses)):
        before = losses[max(0, number - WINDOW) : number]
        median = float(np.median(before))
        height = float(losses[number]) - median
        is_highest = largest is None or height > largest.height
        if not (is_highest and NATS <= height < math.inf):
            continue
        if height > SPREADS * _MAD * float(np.median(np.abs(before - median))):
            largest = Spike(curve[number].step, height)
    return largest
