"""Losses of one recipe that step along its ladder, as of runs in bits among runs in nats."""

import math
from collections.abc import Iterator

import numpy as np

from llmscale.errors import Note, listed
from llmscale.explain.estimation.levels import SAME, levels, numbers
from llmscale.explain.laws import Array
from llmscale.explain.recipes.joined import LADDER, RECIPE, Joined
from llmscale.notes.comparing import LOSSES_STEP

_LEAST = 3
_STEP = math.log(LOSSES_STEP.limit)
_RISE = 0.05
"""In ln L between neighbours: noise is of less."""
_STEEPER = 3.0
"""Falls that are so many times steeper than the others are of no law."""
_BITS, _OF_BITS = math.log(1.0 / math.log(2.0)), 0.05
_MOST_SAID = 3


def step_notes(joined: Joined) -> Iterator[Note]:
    """What is to be doubted of recipes whose losses step between two budgets."""
    if joined.law != LADDER:
        return
    for name in joined.names:
        own = joined.frame[joined.frame[RECIPE] == name]
        points = own.assign(level=levels(numbers(own, "flops"))).groupby("level")
        middle = points[["flops", "loss", "params", "tokens"]].median()
        if not all(_rises(numbers(middle, column)) for column in ("params", "tokens")):
            continue
        said = list(_steps(numbers(middle, "flops"), numbers(middle, "loss")))
        if said:
            yield LOSSES_STEP.note(
                f"losses of {name} step ({listed(said, _MOST_SAID, '; ')}): some are of another "
                f"unit (bits are {math.exp(_BITS):.4g} times nats), text or setting"
            )


def _rises(values_P: Array) -> bool:
    """Whether sizes or tokens rise with compute, as far as they are known: else the larger budget
    may be split worse, which raises its loss."""
    return not (np.diff(values_P) < -SAME * values_P[:-1]).any()


def _steps(flops_P: Array, loss_P: Array) -> Iterator[str]:
    """Where losses rise with compute, or fall far more than between the other budgets."""
    if len(flops_P) < _LEAST:
        return
    gaps, moves = np.diff(np.log(flops_P)), np.diff(np.log(loss_P))
    usual = np.minimum(np.median(moves / gaps), 0.0) * gaps
    beyond = moves - usual
    rises = (moves > _RISE) & (beyond > _STEP)
    falls = (beyond < -_STEP) & (moves < _STEEPER * usual)
    for at in np.flatnonzero(rises | falls):
        as_bits = abs(abs(beyond[at]) - _BITS) < _OF_BITS
        yield (
            f"{loss_P[at]:.4g} at {flops_P[at]:.3g} FLOPs and {loss_P[at + 1]:.4g} at "
            f"{flops_P[at + 1]:.3g}, {math.exp(abs(beyond[at])):.2f} times off the others' slope"
            f"{', as bits and nats are' if as_bits else ''}"
        )
