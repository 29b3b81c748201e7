"""Runs that are far off the law of their recipe, which count less.

One spike moves a law by as much as many good runs hold it. Under the noise of the other runs such a
run has next to no chance; it gets the weight that Student's t gives it (Lange, Little & Taylor
1989), and the laws are drawn anew."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from llmscale.explain.laws import Array
from llmscale.explain.recipes.posterior import LawDraws, Posterior, RecipeRuns

_CHANCE = 0.01
"""Of one good run or more among all that is taken to be off."""
_DEGREES = 3.0
_SHARE = 0.1
"""No more runs than this are off: else it is the law."""
_DRAWS, _ROUNDS = 16, 3


@dataclass(frozen=True)
class Outlying:
    """A run (its place in the table), how far its loss is from what the others say, as a share of
    it, and in standard deviations."""

    place: int
    off: float
    deviations: float


def draws_of(runs: RecipeRuns, seed: int) -> tuple[LawDraws, tuple[Outlying, ...]]:
    """Draws of the laws, and the runs that count less in them."""
    found: dict[int, Outlying] = {}
    draws = Posterior(runs).draws(seed)
    for _ in range(_ROUNDS):
        more = list(_outlying(draws, most=int(_SHARE * len(runs.loss_R)) - len(found)))
        if not more:
            break
        found |= {one.place: one for one in more}
        draws = Posterior(_weighed(draws.runs, more)).draws(seed)
    return draws, tuple(found.values())


def _outlying(draws: LawDraws, most: int) -> Iterator[Outlying]:
    """The runs that are off, the farthest first; each counts less before the next is looked for,
    since it throws doubt on those that pair with it."""
    runs = draws.runs
    some = np.linspace(0, len(draws.theta_BK) - 1, _DRAWS).astype(int)
    for _ in range(most):
        residuals = Posterior(runs).deleted_residuals(draws.theta_BK[some])
        deviations = np.median(residuals.deviations, axis=0)
        place = int(np.argmax(np.abs(deviations)))
        limit = -stdtrit(residuals.degrees, 0.5 * _CHANCE / len(deviations))
        if not abs(deviations[place]) > limit:
            return
        off = float(np.median(residuals.off[:, place]))
        one = Outlying(place, off, float(abs(deviations[place])))
        yield one
        runs = _weighed(runs, [one])


def _weighed(runs: RecipeRuns, found: list[Outlying]) -> RecipeRuns:
    spread: Array = runs.spread_R.copy()
    for one in found:
        spread[one.place] *= np.sqrt((_DEGREES + one.deviations**2) / (_DEGREES + 1.0))
    return replace(runs, spread_R=spread)
