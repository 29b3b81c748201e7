"""Bootstrap: how far the coefficients would move if the runs were made again.

Tables of more rows than can be refitted a thousand times are in `large_tables.py`. Else there are
two ways, chosen by the number of points (distinct sizes, or sizes × budgets; or runs, if rows are
checkpoints or branches of one):

- `runs`, from 30 points: points are drawn with replacement, then their seeds, as counts on the same
  arrays.
- `parametric`, below: too few points to resample, since a draw often holds fewer sizes than the law
  has coefficients. Tables are simulated from the fitted law instead, and each is fitted. Their
  noise is what the runs show: the misfit of points, on (points - coefficients) degrees of freedom,
  and the spread between seeds, on (runs - points). Each table first draws the two variances from
  their sampling distribution (scaled inverse chi-square), so that with few degrees of freedom the
  intervals widen as Student's t does.

If runs of one size are off the law together (see `variances.py`), either way moves sizes, too."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note
from llmscale.explain.estimation import large_tables as _large
from llmscale.explain.estimation import newton
from llmscale.explain.estimation.dependence import UNITS_TO_RESAMPLE, Dependence, dependence
from llmscale.explain.estimation.evaluation import noise_spread
from llmscale.explain.estimation.levels import distinct
from llmscale.explain.estimation.noise import least_squares_residual
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.estimation.relative import size
from llmscale.explain.estimation.result import run_weights
from llmscale.explain.estimation.variances import (
    SharedEffect,
    Variances,
    bounded,
    shared_effect,
    variances,
)
from llmscale.explain.laws import Array, Surface
from llmscale.explain.table import RunTable
from llmscale.notes import Weight
from llmscale.notes.fitting import NO_INTERVAL, REFITS_NOT_SETTLED, SIZE_EFFECT

_FAR_ABOVE = 10.0
_MOST_WEIGHTS = 2**24
"""Runs × refits whose weights are held at once."""
_UNSETTLED_DOUBT, _UNSETTLED_WRONG = 0.05, 0.2


@dataclass(frozen=True)
class Replicates:
    """Refits: coefficients (bootstrap, K), one log residual each, how they were made, and what to
    say."""

    coefficients: Array
    noise: Array
    method: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Fitted:
    """Where a fit ended (theta, P), on which runs (ln L and weights, R) and which of these hang
    together; `spread_R` is how large the noise of each run is next to that of others."""

    surface: Surface
    theta_P: Array
    log_loss_R: Array
    weight_R: Array
    spread_R: Array
    related: Dependence
    objective: Objective

    @cached_property
    def value(self) -> Array:
        """ln of the loss of the law (R,)."""
        return np.asarray(self.surface.evaluate(self.theta_P[None])[0][0])

    @cached_property
    def residual(self) -> Array:
        """ln of the loss over that of the law (R,)."""
        return self.log_loss_R - self.value

    @cached_property
    def jacobian(self) -> Array:
        """Of the coefficients that are on no bound."""
        lower, upper = self.surface.lower, self.surface.upper
        free = (self.theta_P > lower) & (self.theta_P < upper)
        return np.asarray(self.surface.jacobian(self.theta_P)[:, free])

    @cached_property
    def shared(self) -> tuple[SharedEffect, ...]:
        """What runs of one size, or trunk, are off the law by together, if they are."""
        found: list[SharedEffect] = []
        scaled = self.residual / self.spread_R, self.jacobian / self.spread_R[:, None]
        finer = [one.index_R for one in self.related.shared[1:]]
        for shared, unit_R in zip(self.related.shared, [*finer, self.related.unit_R], strict=False):
            effect = shared_effect(*scaled, shared, unit_R, found)
            found += [] if effect is None else [effect]
        return tuple(found)

    @property
    def drawn(self) -> "tuple[NDArray[np.int_], bool, tuple[SharedEffect, ...]]":
        """What is drawn as one, whether with all its rows, and what besides moves at random: many
        sizes that are off the law are drawn as wholes."""
        if self.shared and self.shared[0].groups >= UNITS_TO_RESAMPLE:
            return self.shared[0].index_R, True, ()
        unit_R = self.related.unit_R
        for effect in self.shared:
            if effect.within_points:
                # Branches at one point are of other trunks, and no seeds of it.
                unit_R = distinct([effect.index_R, unit_R])
        return unit_R, self.related.rows_together, self.shared

    @property
    def notes(self) -> list[Note]:
        """On what is not independent."""
        seen = [effect for effect in self.shared if effect.p_value < SIZE_EFFECT.limit]
        return [*self.related.notes, *(effect.note() for effect in seen)]

    def one_more(self, rng: np.random.Generator, count: int) -> Array:
        """How far one more run is off the law, by the residuals (B,)."""
        if not self.shared:
            return np.asarray(rng.choice(self.residual, size=count))
        runs, lost = len(self.residual), sum(effect.free for effect in self.shared)
        scale = np.sqrt(runs / max(runs - self.jacobian.shape[1] - lost, 1))
        off = scale * rng.choice(self.shared[-1].left_R * self.spread_R, size=count)
        for effect in self.shared:
            off = off + np.sqrt(effect.variance) * rng.standard_normal(count)
        return bounded(off)

    @cached_property
    def variances(self) -> Variances:
        """How large each part of the noise is."""
        scaled = self.residual / self.spread_R, self.jacobian / self.spread_R[:, None]
        return variances(*scaled, self.related.unit_R, self.shared)

    @cached_property
    def parts(self) -> tuple[tuple[NDArray[np.int_], float, int], ...]:
        """What runs are off the law by together: whose, its variance, and the degrees of freedom
        that this rests on. Empty if they are independent."""
        parts = [(one.index_R, one.variance, one.free) for one in self.shared]
        if self.related.rows_together and self.variances.free_points > 0:
            found = self.variances
            between = max(found.points - found.seeds, 0.0) / found.runs_a_point
            parts.append((self.related.unit_R, between, found.free_points))
        return tuple(parts)

    @property
    def own_variance(self) -> float:
        """What a row is off the law by for itself, if runs are not independent."""
        apart = not self.shared or self.related.rows_together
        return self.variances.seeds if apart else self.shared[-1].within

    def inflation(self, along_R: Array) -> tuple[float, float]:
        """How much larger the variance of a coefficient is than of independent runs, and the
        degrees of freedom that it rests on (Satterthwaite 1946). The coefficient moves by `along_R`
        times what is added to ln L."""
        left, rank = least_squares_residual(self.residual, self.jacobian)
        degrees = len(left) - rank
        squares = float(along_R @ along_R)
        alone = float((left**2).sum()) / max(degrees, 1) * squares
        if not self.parts or alone <= 0 or degrees <= 0:
            return 1.0, float(max(degrees, 1))
        pulls = [(self.own_variance * squares, degrees)]
        for index_R, part, free in self.parts:
            pulls.append((part * float((np.bincount(index_R, along_R) ** 2).sum()), free))
        total = sum(pull for pull, _ in pulls)
        return max(total / alone, 1.0), total**2 / sum(pull**2 / free for pull, free in pulls)

    @property
    def is_large(self) -> bool:
        return len(self.log_loss_R) > _large.ROWS


def fitted_to(
    table: RunTable, inputs: tuple[str, ...], surface: Surface, theta_P: Array, how: Objective
) -> Fitted:
    """A fit to a table that ended at theta, and what its runs share."""
    log_loss = surface.level_of(table.frame["loss"].to_numpy(dtype=float))
    related = dependence(table.frame, inputs)
    weight, spread = run_weights(table), noise_spread(table)
    return Fitted(surface, theta_P, log_loss, weight, spread, related, how)


def bootstrap(fitted: Fitted, *, count: int, seed: int, spread_word: str) -> Replicates:
    """`count` refits around theta, by the method that the number of points allows.
    `spread_word` is what runs of one point differ by."""
    rng = np.random.default_rng(seed)
    if count == 0:
        return _nothing(fitted.theta_P, "none", ())
    if fitted.related.units >= UNITS_TO_RESAMPLE:
        resampled = _from_scores if fitted.is_large else _resampled
        return resampled(fitted, count, rng)
    return _simulated(fitted, count, rng, spread_word)


def _resampled(fitted: Fitted, count: int, rng: np.random.Generator) -> Replicates:
    """Refits of runs drawn again, and of few sizes that are off the law moved at random."""
    unit_R, together, moved = fitted.drawn
    runs, objectives = len(fitted.log_loss_R), [fitted.objective]
    scales = [effect.shared * effect.scales(count, rng) for effect in moved]
    if fitted.shared:
        objectives = fitted.objective.graduated()
    parts = []
    for first in range(0, count, most := max(_MOST_WEIGHTS // runs, 1)):
        number = min(most, count - first)
        weight_BR = fitted.weight_R * _draw_runs(unit_R, number, rng, together=together)
        target_BR = fitted.log_loss_R[None]
        for effect, scale_B in zip(moved, scales, strict=True):
            target_BR = target_BR + effect.shifts(scale_B[first : first + number], rng)
        ends = newton.resolve(fitted.surface, target_BR, weight_BR, fitted.theta_P, objectives)
        parts.append(ends)
    ends = newton.joined(parts)
    noise = fitted.one_more(rng, count)
    if not fitted.shared:
        noise = noise * np.sqrt(runs / (runs - fitted.jacobian.shape[1]))
    notes = (*fitted.notes, *_unsettled(fitted, ends))
    return Replicates(fitted.surface.coefficients(ends.theta), noise, "runs", notes)


def _from_scores(fitted: Fitted, count: int, rng: np.random.Generator) -> Replicates:
    """As `_resampled`, of a table too large to be refitted often."""
    unit_R, together, moved = fitted.drawn
    surface, theta_P, weight_R = fitted.surface, fitted.theta_P, fitted.weight_R
    drawn, note = _large.replicates(
        surface,
        theta_P,
        fitted.log_loss_R,
        unit_R,
        weight_R,
        count=count,
        objective=fitted.objective,
        rng=rng,
        steps=together,
    )
    if moved:
        shared = [(one.index_R, one.shared * one.scales(count, rng)) for one in moved]
        drawn += _large.simulated(surface, theta_P, weight_R, shared, None, rng) - theta_P
        drawn = np.clip(drawn, surface.lower, surface.upper)
    noise = fitted.one_more(rng, count)
    return Replicates(surface.coefficients(drawn), noise, "scores", (note, *fitted.notes))


def _simulated(
    fitted: Fitted, count: int, rng: np.random.Generator, spread_word: str
) -> Replicates:
    """Refits of tables simulated from the law, with the noise that the runs show."""
    related, theta_P = fitted.related, fitted.theta_P
    variance = fitted.variances
    if variance.free_points <= 0 and variance.free_seeds <= 0:
        message = (
            f"{related.units} {related.word} fix the {len(theta_P)} coefficients exactly, and "
            "nothing is left to tell how far to believe them: no interval is given"
        )
        return _nothing(theta_P, "none", (NO_INTERVAL.note(message),))
    notes = [
        *related.notes,
        *variance.notes(
            related.units, related.word, spread_word, count, plain=fitted.surface.plain
        ),
    ]
    if fitted.is_large:
        scales = variance.scales(count, rng)
        shared = [(related.unit_R, scales.points)]
        for effect, scale_B in zip(variance.shared, scales.shared, strict=True):
            shared.append((effect.index_R, scale_B))
        drawn = _large.simulated(
            fitted.surface, theta_P, fitted.weight_R, shared, scales.seeds, rng
        )
        coefficients = fitted.surface.coefficients(drawn)
        return Replicates(coefficients, scales.one_more(rng), "scores", tuple(notes))
    shift_BR, noise = variance.draw(related.unit_R, fitted.spread_R, count, rng)
    stages = fitted.objective.graduated()
    target_BR = fitted.value + shift_BR
    ends = newton.resolve(fitted.surface, target_BR, fitted.weight_R[None], theta_P, stages)
    notes += _unsettled(fitted, ends)
    coefficients = fitted.surface.coefficients(ends.theta)
    return Replicates(coefficients, noise, "parametric", tuple(notes))


def _unsettled(fitted: Fitted, ends: newton.Solutions) -> list[Note]:
    """What to say of refits that did not settle."""
    unsettled, count = int((~ends.settled).sum()), len(ends.settled)
    if not unsettled:
        return []
    misfit = 1.4826 * float(np.median(np.abs(fitted.residual)))
    message = f"{unsettled} of {count} bootstrap refits did not settle; they are used as they are"
    objective = fitted.objective
    shown = size(misfit, 1, plain=fitted.surface.plain)
    if objective.name != "squared" and misfit > _FAR_ABOVE * objective.delta:
        message += (
            f" (the typical residual, {shown} by the median, is far above delta: --delta "
            f"{misfit:.1g} settles sooner)"
        )
    return [REFITS_NOT_SETTLED.note(message, _weight(unsettled / count))]


def _weight(unsettled: float) -> Weight:
    """How much a share of refits that did not settle matters: 5% of refits lie outside of an end
    of a 90% interval, and where they stopped is where that end lies."""
    if unsettled >= _UNSETTLED_WRONG:
        return Weight.WRONG
    return Weight.DOUBT if unsettled >= _UNSETTLED_DOUBT else Weight.NEWS


def _draw_runs(
    point_R: NDArray[np.int_], count: int, rng: np.random.Generator, *, together: bool
) -> Array:
    """How often each run is drawn: points with replacement, then as many of a point's seeds as it
    has, or if they go `together` all its rows."""
    number = int(point_R.max()) + 1
    drawn_BP = rng.multinomial(number, np.full(number, 1 / number), size=count)
    weight_BR = drawn_BP[:, point_R].astype(float)
    if together:
        return weight_BR
    for point in np.flatnonzero(np.bincount(point_R) > 1):
        runs = np.flatnonzero(point_R == point)
        weight_BR[:, runs] = rng.multinomial(
            drawn_BP[:, point] * len(runs), np.full(len(runs), 1 / len(runs))
        )
    return weight_BR


def _nothing(theta_P: Array, method: str, notes: tuple[Note, ...]) -> Replicates:
    return Replicates(np.empty((0, len(theta_P))), np.empty(0), method, notes)
