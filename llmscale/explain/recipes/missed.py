"""Recipes whose laws miss their largest runs, from which all is forecast."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmscale.errors import Note, listed
from llmscale.explain.recipes.joined import Joined
from llmscale.explain.recipes.posterior import LawDraws
from llmscale.notes.comparing import LARGEST_RUNS_MISSED

_LEAST = 0.01
"""Of the loss: laws that miss by less are good enough."""
_LARGEST = 0.5
"""Runs of half of a recipe's largest compute or more are its largest."""


@dataclass(frozen=True)
class Missed:
    """How far the largest runs of a recipe are above its law in the mean, as a share of the loss,
    and in standard errors of that mean."""

    recipe: str
    off: float
    errors: float

    def __str__(self) -> str:
        where = "above" if self.off > 0 else "below"
        return (
            f"those of {self.recipe} are {100 * abs(self.off):.2g}% {where} it, "
            f"{self.errors:.2g} standard errors"
        )


def missed_notes(joined: Joined, draws: LawDraws) -> Iterator[Note]:
    """A note if the laws drawn miss the largest runs of recipes."""
    found = [_missed(joined, draws, name) for name in joined.names]
    said = [
        str(one)
        for one in found
        if abs(one.off) >= _LEAST and one.errors >= LARGEST_RUNS_MISSED.limit
    ]
    if said:
        yield LARGEST_RUNS_MISSED.note(
            f"the law misses the largest runs ({listed(said, 3, '; ')}): what is said of their "
            "compute and beyond it is off"
        )


def _missed(joined: Joined, draws: LawDraws, name: str) -> Missed:
    runs, place = draws.runs, joined.names.index(name)
    own_R = runs.recipe_R == runs.names.index(name)
    flops_R = joined.frame["flops"].to_numpy(dtype=float)
    largest_R = own_R & (flops_R >= _LARGEST * flops_R[own_R].max())
    powers_BRT = np.exp(-draws.exponent_BRT[:, None, place] * runs.log_inputs_RT[None, largest_R])
    loss_BR = draws.E_BR[:, [place]] + (draws.amplitude_BRT[:, None, place] * powers_BRT).sum(
        axis=2
    )
    off = float(np.median(np.log(runs.loss_R[largest_R] / loss_BR).mean(axis=1)))
    spread_R = runs.spread_R[largest_R] * np.median(draws.noise_B * draws.factor_BR[:, place])
    error = float(np.sqrt((spread_R**2).sum()) / len(spread_R))
    return Missed(name, off, abs(off) / error)
