"""Whether what was taken for N, D, C and loss can be that: units, swapped columns, perplexities and
accuracies.

C stands against 6ND wherever all three are given. A constant factor far from 1 is a unit, a
scattered one a wrong column, and a few rows that are off are in other units. Without C, the
magnitudes of N, D and D/N speak. What would give a wrong forecast is refused, with the `--units`
that fixes it; `--units params=1` (or tokens, flops; loss=nats) says that the numbers are as they
stand, and ends the checks of that quantity."""

import numpy as np

from llmscale.errors import Note
from llmscale.explain.table.columns.names import is_loss
from llmscale.explain.table.doubts.amounts import (
    doubtful_compute,
    doubtful_experts,
    doubtful_sizes,
    refuse_alone,
    refuse_derived,
)
from llmscale.explain.table.doubts.flops_counts import doubtful_counts
from llmscale.explain.table.doubts.logarithms import refuse_logarithms
from llmscale.explain.table.doubts.losses import (
    doubtful_accuracy,
    doubtful_loss,
    refuse_named_rising,
    refuse_rising,
)
from llmscale.explain.table.doubts.row_units import rows_in_other_units
from llmscale.explain.table.doubts.taken import Taken

FEWEST_ROWS = 4
"""Fewer rows are not judged: they hardly make a fit."""

FEWEST_SIZES = 3
"""With fewer sizes, budgets and FLOPs than this, they are hardly what a law is fitted in."""


def check_score(taken: Taken) -> list[Note]:
    """Notes on a score that is taken for the loss, of a table whose sizes are known to be right.
    Raises InputError for one that rises."""
    refuse_named_rising(taken)
    if len(taken.frame) >= FEWEST_ROWS and not is_loss(taken.columns["loss"]):
        refuse_rising(taken)
    return [*doubtful_loss(taken), *doubtful_accuracy(taken)]


def check(taken: Taken) -> list[Note]:
    """Notes on what is doubtful. Raises InputError for what cannot be, with the fix."""
    if len(taken.frame) >= FEWEST_ROWS:
        refuse_rising(taken)
    notes = [*doubtful_loss(taken), *doubtful_accuracy(taken), *doubtful_experts(taken)]
    there = [name for name in ("params", "tokens", "flops") if taken.has(name)]
    most = max((len(np.unique(taken.values(name))) for name in there), default=0)
    if len(taken.frame) < FEWEST_ROWS or most < FEWEST_SIZES:
        return notes
    refuse_logarithms(taken)
    if taken.has("params", "tokens", "flops"):
        compute = doubtful_compute(taken)
        notes += compute or doubtful_counts(taken)
    if taken.has("params", "tokens"):
        by_hand = all(name in taken.units for name in ("params", "tokens"))
        if not (by_hand or taken.insists("params") or taken.insists("tokens")):
            notes += doubtful_sizes(taken)
            notes += rows_in_other_units(taken)
    elif there == ["params", "flops"] and not taken.sure(*there):
        refuse_derived(taken, "params", "tokens", "D = C/(6N)")
    elif there == ["tokens", "flops"] and not taken.sure(*there):
        refuse_derived(taken, "tokens", "params", "N = C/(6D)")
    elif there[0] != "flops" and not taken.sure(there[0]):
        refuse_alone(taken, there[0])
    return notes
