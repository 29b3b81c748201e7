"""Whether the runs bear the floor that they are given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import fdtrc

from llmscale.errors import Note, listed
from llmscale.explain.laws import Array
from llmscale.explain.recipes.joined import Joined
from llmscale.explain.recipes.posterior import RecipeRuns
from llmscale.notes.comparing import FLOOR_MISSES

_USUAL = (0.15, 0.33)
"""Exponents to begin at, along a ladder and in N and D."""
_LOG_EXPONENTS = (-7.0, 1.5)
"""No law falls more slowly or steeply than with these."""
_OF_LOWEST = 0.7
"""The floor to begin at, in units of the lowest loss."""
_ROUNDING = 1e-6
"""Of a loss: none is known better."""


@dataclass(frozen=True)
class _Points:
    """The mean loss of each point of a recipe, its inputs as logarithms (X, T) and its weight."""

    log_inputs_XT: Array
    loss_X: Array
    weight_X: Array

    def residuals(self, log_exponent_T: Array, floor: float) -> Array:
        """How far the best law of these exponents and floor is off, as shares of the loss."""
        scale = self.weight_X / self.loss_X
        powers_XT = np.exp(-np.exp(log_exponent_T) * self.log_inputs_XT) * scale[:, None]
        target_X = (self.loss_X - floor) * scale
        amplitude_T = np.linalg.lstsq(powers_XT, target_X, rcond=None)[0]
        return np.asarray(target_X - powers_XT @ amplitude_T)


def floor_notes(joined: Joined) -> Iterator[Note]:
    """Whether floors that are found from the runs fit them better than the one that is given, by an
    F test over all recipes."""
    floor = joined.runs.floor
    if floor is None:
        return
    points = {name: _points(joined.runs, place) for place, name in enumerate(joined.runs.names)}
    told = {name: of for name, of in points.items() if of is not None}
    given = [_fitted(of, floor) for of in told.values()]
    free = [_fitted(of, None) for of in told.values()]
    count = sum(len(of.loss_X) for of in told.values())
    degrees = count - len(told) * _coefficients(joined.runs)
    if degrees < 1:
        return
    missed, least = _squares(given), _squares(free)
    ratio = (missed - least) / len(told) / (least / degrees + _ROUNDING**2)
    if fdtrc(len(told), degrees, max(ratio, 0.0)) < FLOOR_MISSES.limit:
        floors = [f"{name} {one.floor:.3g}" for name, one in zip(told, free, strict=True)]
        yield FLOOR_MISSES.note(
            f"with the floor {floor:g} laws miss the runs by {_percent(missed / count)}, and with "
            f"floors of their own ({listed(floors, 4)}) by {_percent(least / count)}"
        )


@dataclass(frozen=True)
class _FloorFit:
    floor: float
    residual_X: Array


def _fitted(points: _Points, floor: float | None) -> _FloorFit:
    """The law of the least squares, with this floor or any."""
    terms = points.log_inputs_XT.shape[1]
    start = np.full(terms, np.log(_USUAL[terms - 1]))
    if floor is not None:
        best = least_squares(
            lambda theta: points.residuals(theta, floor), start, bounds=_LOG_EXPONENTS
        )
        return _FloorFit(floor, best.fun)
    lowest, (least, most) = float(points.loss_X.min()), _LOG_EXPONENTS
    best = least_squares(
        lambda theta: points.residuals(theta[:-1], lowest * theta[-1]),
        [*start, _OF_LOWEST],
        bounds=([*np.full(terms, least), 0.0], [*np.full(terms, most), 1.0]),
    )
    return _FloorFit(lowest * float(best.x[-1]), best.fun)


def _points(runs: RecipeRuns, place: int) -> _Points | None:
    """The points of a recipe; none if they are too few to tell a floor."""
    of_recipe = runs.recipe_R == place
    inputs_XT, point_R, count_X = np.unique(
        runs.log_inputs_RT[of_recipe], axis=0, return_inverse=True, return_counts=True
    )
    if len(inputs_XT) < _coefficients(runs):
        return None
    point_R = point_R.ravel()
    loss_X = np.bincount(point_R, runs.loss_R[of_recipe]) / count_X
    spread_X = np.bincount(point_R, runs.spread_R[of_recipe]) / count_X
    return _Points(inputs_XT, loss_X, np.sqrt(count_X) / spread_X)


def _coefficients(runs: RecipeRuns) -> int:
    """Of a law with a floor."""
    return 1 + 2 * runs.terms


def _squares(fits: Sequence[_FloorFit]) -> float:
    return float(sum(one.residual_X @ one.residual_X for one in fits))


def _percent(mean_square: float) -> str:
    return f"{100 * np.sqrt(mean_square):.2g}%"
