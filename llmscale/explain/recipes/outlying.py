"""Runs that are far off the law of their recipe, which count less.

One spike moves a law by as much as many good runs hold it. Under the noise of the other runs such a
run has next to no chance; it gets the weight that Student's t gives it (Lange, Little & Taylor
1989), and the laws are drawn anew."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from llmscale.errors import WorkError
from llmscale.explain.laws import Array
from llmscale.explain.recipes.posterior import LawDraws, Posterior, RecipeRuns

_CHANCE = 0.01
"""Of one good run or more among all that is taken to be off."""
_DEGREES = 3.0
_SHARE = 0.1
"""No more runs than this are off: else it is the law."""
_DRAWS, _ROUNDS = 16, 3
_WORSE, _ALLOWED = 3.0, 0.003
"""Laws that are off by so many times as much as straight lines, and so much of ln L more, fit
nothing."""


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
    _check_fit(draws)
    return draws, tuple(found.values())


def _check_fit(draws: LawDraws) -> None:
    """Raise WorkError for laws that are off the runs by far more than straight lines are: all laws
    can be straight, so that those were not found."""
    runs = draws.runs
    of_lines, of_laws = _off_lines(runs), np.median(_off_laws(draws))
    if not of_laws <= _WORSE * of_lines + _ALLOWED:
        raise WorkError(
            f"no laws were found that fit the runs: those drawn are off by {of_laws:.2%} of the "
            f"loss, and straight lines by {of_lines:.2%}",
            "check the tables for runs that are copies of others or fit no law, or try another "
            "--seed",
        )


def _off_lines(runs: RecipeRuns) -> float:
    """How far, as a root mean square of ln L, the runs are from a straight line of each recipe."""
    inputs = np.column_stack([np.ones(len(runs.loss_R)), runs.log_inputs_RT])
    off = np.log(runs.loss_R) / runs.spread_R
    for recipe in range(runs.recipes):
        own = runs.recipe_R == recipe
        weighed = inputs[own] / runs.spread_R[own, None]
        off[own] -= weighed @ np.linalg.lstsq(weighed, off[own])[0]
    return float(np.sqrt((off**2).mean()))


def _off_laws(draws: LawDraws) -> Array:
    """How far the runs are from the laws of every draw: (B,)."""
    runs = draws.runs
    off = np.zeros(len(draws.E_BR))
    for place, recipe in enumerate(runs.recipe_R):
        powers = np.exp(-draws.exponent_BRT[:, recipe] * runs.log_inputs_RT[place])
        loss = draws.E_BR[:, recipe] + (draws.amplitude_BRT[:, recipe] * powers).sum(axis=1)
        off += (np.log(runs.loss_R[place] / loss) / runs.spread_R[place]) ** 2
    return np.sqrt(off / len(runs.loss_R))


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
