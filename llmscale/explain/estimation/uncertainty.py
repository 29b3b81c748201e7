"""Bootstrap: how far the coefficients would move if the runs were made again.

Tables of more rows than can be refitted a thousand times are in `_large.py`. Else there are two
ways, chosen by the number of points (distinct sizes, or sizes × budgets):

- `runs`, from 30 points: points are drawn with replacement, then their seeds, as counts on the same
  arrays.
- `parametric`, below: too few points to resample, since a draw often holds fewer sizes than the law
  has coefficients. Tables are simulated from the fitted law instead, and each is fitted. Their
  noise is what the runs show: the misfit of points, on (points - coefficients) degrees of freedom,
  and the spread between seeds, on (runs - points). Each table first draws the two variances from
  their sampling distribution (scaled inverse chi-square), so that with few degrees of freedom the
  intervals widen as Student's t does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note
from llmscale.explain.estimation import large_tables as _large
from llmscale.explain.estimation import solver
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.estimation.relative import size
from llmscale.explain.laws import Array, Surface
from llmscale.notes import Weight
from llmscale.notes.fitting import (
    INTERVAL_NOT_TRUSTED,
    NO_INTERVAL,
    PARAMETRIC_BOOTSTRAP,
    REFITS_NOT_SETTLED,
)

POINTS_TO_RESAMPLE = 30
_FAR_ABOVE = 10.0
_MOST_WEIGHTS = 2**24
"""Runs × refits whose weights are held at once."""
_UNSETTLED_DOUBT, _UNSETTLED_WRONG = 0.05, 0.2
LARGEST_NOISE = 2.0
"""Simulated ln L moves by at most this: a heavy tail must not overflow."""


@dataclass(frozen=True)
class Replicates:
    """Refits: coefficients (bootstrap, K), one log residual each, how they were made, and what to
    say."""

    coefficients: Array
    noise: Array
    method: str
    notes: tuple[Note, ...]


def bootstrap(
    surface: Surface,
    theta_P: Array,
    log_loss_R: Array,
    point_R: NDArray[np.int_],
    weight_R: Array,
    *,
    count: int,
    objective: Objective,
    seed: int,
    points_word: str,
    spread_word: str = "seed noise",
    steps: bool = False,
) -> Replicates:
    """`count` refits around theta, by the method that the number of points allows.

    `spread_word` is what runs of one point differ by. With `steps` the rows of a point are the
    steps of one run, and are drawn together."""
    rng = np.random.default_rng(seed)
    number = int(point_R.max()) + 1
    if count == 0:
        return _nothing(theta_P, "none", ())
    value_BR, _ = surface.evaluate(theta_P[None])
    jacobian = surface.jacobian(theta_P)
    free = ~((theta_P <= surface.lower) | (theta_P >= surface.upper))
    residual_R = log_loss_R - value_BR[0]
    if number >= POINTS_TO_RESAMPLE and len(residual_R) > _large.ROWS:
        drawn, note = _large.replicates(
            surface,
            theta_P,
            log_loss_R,
            point_R,
            weight_R,
            count=count,
            objective=objective,
            rng=rng,
            steps=steps,
        )
        return Replicates(
            surface.coefficients(drawn), rng.choice(residual_R, size=count), "scores", (note,)
        )
    if number >= POINTS_TO_RESAMPLE:
        parts = []
        for first in range(0, count, most := max(_MOST_WEIGHTS // len(residual_R), 1)):
            weight_BR = weight_R * _draw_runs(point_R, min(most, count - first), rng, steps=steps)
            parts.append(solver.resolve(surface, log_loss_R[None], weight_BR, theta_P, [objective]))
        ends = solver.joined(parts)
        spread = np.sqrt(len(residual_R) / (len(residual_R) - free.sum()))
        noise = spread * rng.choice(residual_R, size=count)
        method, notes = "runs", []
    else:
        variance = _variances(residual_R, jacobian[:, free], point_R, plain=surface.plain)
        if variance.free_points <= 0 and variance.free_seeds <= 0:
            message = (
                f"{number} {points_word} fix the {len(theta_P)} coefficients exactly, and nothing "
                "is left to tell how far to believe them: no interval is given"
            )
            return _nothing(theta_P, "none", (NO_INTERVAL.note(message),))
        if len(residual_R) > _large.ROWS:
            misfit_B, seed_B = variance.scales(count, rng)
            noise = np.clip(
                misfit_B * rng.standard_normal(count) + seed_B * rng.standard_normal(count),
                -LARGEST_NOISE,
                LARGEST_NOISE,
            )
            drawn = _large.simulated(surface, theta_P, point_R, weight_R, misfit_B, seed_B, rng)
            return Replicates(
                surface.coefficients(drawn),
                noise,
                "scores",
                tuple(variance.notes(number, points_word, spread_word, count)),
            )
        shift_BR, noise = variance.draw(point_R, count, rng)
        ends = solver.resolve(
            surface, value_BR + shift_BR, weight_R[None], theta_P, objective.graduated()
        )
        method, notes = "parametric", variance.notes(number, points_word, spread_word, count)
    unsettled = int((~ends.settled).sum())
    misfit = 1.4826 * float(np.median(np.abs(residual_R)))
    shown = size(misfit, 1, plain=surface.plain)
    if unsettled:
        notes.append(
            REFITS_NOT_SETTLED.note(
                f"{unsettled} of {count} bootstrap refits did not settle; they are used as they are"
                + (
                    f" (the misfit, {shown}, is far above delta: --delta {misfit:.1g} "
                    "settles sooner)"
                    if objective.name != "squared" and misfit > _FAR_ABOVE * objective.delta
                    else ""
                ),
                _weight(unsettled / count),
            )
        )
    return Replicates(surface.coefficients(ends.theta), noise, method, tuple(notes))


def _weight(unsettled: float) -> Weight:
    """How much a share of refits that did not settle matters: 5% of refits lie outside of an end
    of a 90% interval, and where they stopped is where that end lies."""
    if unsettled >= _UNSETTLED_WRONG:
        return Weight.WRONG
    return Weight.DOUBT if unsettled >= _UNSETTLED_DOUBT else Weight.NEWS


@dataclass(frozen=True)
class _Variances:
    """Mean squares of log residuals: of points about the law (times runs a point), and of seeds
    about their point."""

    points: float
    free_points: int
    seeds: float
    free_seeds: int
    runs_a_point: float
    plain: bool
    """Whether they are of differences of losses, not of log losses."""

    def scales(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Standard deviations of points and of seeds for `count` tables, from their sampling
        distribution."""
        seeds_B = _redraw(self.seeds, self.free_seeds, count, rng)
        points_B = _redraw(self.points, self.free_points, count, rng)
        return np.sqrt(np.maximum(points_B - seeds_B, 0.0) / self.runs_a_point), np.sqrt(seeds_B)

    def draw(
        self, point_R: NDArray[np.int_], count: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Shifts of ln L for `count` simulated tables (B, R), and of one more run each (B,)."""
        misfit_B, seed_B = self.scales(count, rng)
        number = int(point_R.max()) + 1
        shift = misfit_B[:, None] * rng.standard_normal((count, number))[:, point_R]
        shift += seed_B[:, None] * rng.standard_normal((count, len(point_R)))
        one_more = misfit_B * rng.standard_normal(count) + seed_B * rng.standard_normal(count)
        return np.clip(shift, -LARGEST_NOISE, LARGEST_NOISE), np.clip(
            one_more, -LARGEST_NOISE, LARGEST_NOISE
        )

    def notes(self, number: int, points_word: str, spread_word: str, count: int) -> list[Note]:
        parts = []
        if self.free_points > 0:
            spread = size(np.sqrt(self.points / self.runs_a_point), plain=self.plain)
            degrees = "1 degree" if self.free_points == 1 else f"{self.free_points} degrees"
            share = spread if self.plain else f"{spread} of the loss"
            parts.append(f"misfit {share} on {degrees} of freedom")
        if self.free_seeds > 0:
            spread = size(np.sqrt(self.seeds), plain=self.plain)
            parts.append(f"{spread_word} {spread} on {self.free_seeds}")
        notes = [
            PARAMETRIC_BOOTSTRAP.note(
                f"{number} {points_word} are too few to resample: the intervals come from {count} "
                "tables simulated from the law with the noise that the runs show "
                f"({', '.join(parts)})",
            )
        ]
        if self.free_points <= 1:
            left = "one degree of freedom" if self.free_points == 1 else "no degree of freedom"
            notes.append(
                INTERVAL_NOT_TRUSTED.note(
                    f"{number} {points_word} leave {left} to judge the misfit by: the intervals "
                    "are not to be trusted",
                )
            )
        return notes


def least_squares_residual(residual_R: Array, jacobian_RP: Array) -> tuple[Array, int]:
    """What the nearest least-squares fit would leave of the residuals, and the rank of the
    Jacobian.

    A robust fit passes exactly through some runs; this one does not, and says better how large the
    noise is."""
    correction, _, rank, _ = np.linalg.lstsq(jacobian_RP, residual_R, rcond=1e-9)
    return residual_R - jacobian_RP @ correction, int(rank)


def _variances(
    residual_R: Array, jacobian_RP: Array, point_R: NDArray[np.int_], *, plain: bool
) -> _Variances:
    """Mean squares after the least-squares fit that is nearest to this one, so that degrees of
    freedom are right."""
    residual_R, rank = least_squares_residual(residual_R, jacobian_RP)
    runs_P = np.bincount(point_R).astype(float)
    mean_P = np.bincount(point_R, weights=residual_R) / runs_P
    free_points, free_seeds = len(runs_P) - rank, len(residual_R) - len(runs_P)
    total = runs_P.sum()
    runs_a_point = (total - (runs_P**2).sum() / total) / max(len(runs_P) - 1, 1)
    within = float(((residual_R - mean_P[point_R]) ** 2).sum())
    between = float((runs_P * mean_P**2).sum())
    return _Variances(
        between / free_points if free_points > 0 else 0.0,
        free_points,
        within / free_seeds if free_seeds > 0 else 0.0,
        free_seeds,
        max(float(runs_a_point), 1.0),
        plain,
    )


def _redraw(mean_square: float, free: int, count: int, rng: np.random.Generator) -> Array:
    if free <= 0:
        return np.zeros(count)
    return np.asarray(mean_square * free / np.maximum(rng.chisquare(free, count), 1e-12))


def _draw_runs(
    point_R: NDArray[np.int_], count: int, rng: np.random.Generator, *, steps: bool
) -> Array:
    """How often each run is drawn: points with replacement, then as many of a point's seeds as it
    has, or its steps."""
    number = int(point_R.max()) + 1
    drawn_BP = rng.multinomial(number, np.full(number, 1 / number), size=count)
    weight_BR = drawn_BP[:, point_R].astype(float)
    if steps:
        return weight_BR
    for point in np.flatnonzero(np.bincount(point_R) > 1):
        runs = np.flatnonzero(point_R == point)
        weight_BR[:, runs] = rng.multinomial(
            drawn_BP[:, point] * len(runs), np.full(len(runs), 1 / len(runs))
        )
    return weight_BR


def _nothing(theta_P: Array, method: str, notes: tuple[Note, ...]) -> Replicates:
    return Replicates(np.empty((0, len(theta_P))), np.empty(0), method, notes)
