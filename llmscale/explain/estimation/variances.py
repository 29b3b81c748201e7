"""How large each part of the noise in ln L is: of sizes, of points (or runs), and of their rows.

Rows of a point (seeds, or checkpoints of a run) share the point's misfit, and runs of a size share
its shape and tuning. The parts are mean squares of the residuals after the nearest least-squares
fit (Henderson's method 3: Searle, Casella & McCulloch 1992, "Variance components", sec. 5.6). A
part of size is taken only if the residuals show one (F test), so that independent runs get no wider
intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from llmscale.errors import Note
from llmscale.explain.estimation.dependence import Shared
from llmscale.explain.estimation.levels import distinct
from llmscale.explain.estimation.newton import unit_columns
from llmscale.explain.estimation.noise import least_squares_residual
from llmscale.explain.estimation.relative import size
from llmscale.explain.laws import Array
from llmscale.notes.fitting import INTERVAL_NOT_TRUSTED, PARAMETRIC_BOOTSTRAP, SIZE_EFFECT

LARGEST_NOISE = 2.0
"""Simulated ln L moves by at most this: a heavy tail must not overflow."""
_SEEN = 0.1
"""Shifts of sizes that the law takes up to a larger share than 1 - 0.1 tell nothing of them."""
_MOST_GROUPS = 1000
"""The spread between more sizes than this needs no estimate: they are resampled."""


@dataclass(frozen=True)
class SharedEffect:
    """How far the runs of one size (or trunk: `what`) are off the law together: `square` is the
    mean square of `free` contrasts between sizes, each of which holds `rows` times the variance of
    sizes and `within`, that of runs on `free_within`. `left_R` is what is left of the residuals."""

    what: str
    index_R: NDArray[np.int_]
    square: float
    free: int
    within: float
    free_within: int
    rows: float
    left_R: Array
    within_points: bool
    """Whether runs of one point may be of several sizes (or trunks)."""

    @property
    def groups(self) -> int:
        """How many sizes or trunks there are."""
        return int(self.index_R.max()) + 1

    @property
    def variance(self) -> float:
        """Of ln L between sizes (or trunks)."""
        return max(self.square - self.within, 0.0) / self.rows

    @property
    def p_value(self) -> float:
        """How likely so large a spread between sizes is among independent runs."""
        if self.within <= 0:
            return 1.0
        return float(fdtrc(self.free, self.free_within, self.square / self.within))

    @property
    def shared(self) -> float:
        """What of a size's standard deviation runs drawn one by one do not have already."""
        return float(np.sqrt(max(1 - 1 / self.rows, 0.0)))

    def scales(self, count: int, rng: np.random.Generator) -> Array:
        """Standard deviations of sizes for `count` tables, from their sampling distribution."""
        between_B = redraw(self.square, self.free, count, rng)
        within_B = redraw(self.within, self.free_within, count, rng)
        return np.asarray(np.sqrt(np.maximum(between_B - within_B, 0.0) / self.rows))

    def shifts(self, scale_B: Array, rng: np.random.Generator) -> Array:
        """ln L of every row moved by its size (B, R)."""
        drawn = rng.standard_normal((len(scale_B), self.groups))
        return bounded((scale_B[:, None] * drawn)[:, self.index_R])

    def note(self) -> Note:
        """What to say of it."""
        groups, rows = self.groups, len(self.index_R)
        return SIZE_EFFECT.note(
            f"runs of one {self.what} are off the law together, by {size(np.sqrt(self.variance))} "
            f"of the loss (F test over {groups} {self.what}s, p = {self.p_value:.0e}): the "
            f"intervals rest on {groups} {self.what}s rather than on {rows} rows"
        )


def shared_effect(
    residual_R: Array,
    jacobian_RP: Array,
    shared: Shared,
    point_R: NDArray[np.int_],
    others: Sequence[SharedEffect] = (),
) -> SharedEffect | None:
    """The part of what runs share, or None if it cannot be told or the residuals show none.

    Contrasts are orthogonal combinations of sizes that neither the law takes up nor `others`; their
    spread is compared with that of points (`point_R`) of a size."""
    index_R, points_crossed = shared.index_R, int(point_R.max()) + 1
    point_R = distinct([index_R, point_R])
    rows_S = np.bincount(index_R).astype(float)
    sizes, points = len(rows_S), int(point_R.max()) + 1
    if sizes < 2 or sizes > _MOST_GROUPS or sizes >= points:
        return None
    apart = [np.eye(other.groups)[other.index_R] for other in others]
    columns = np.hstack([unit_columns(jacobian_RP), *apart])
    left, rank = least_squares_residual(residual_R, columns)
    base = np.linalg.svd(columns, full_matrices=False)[0][:, :rank]
    taken = np.stack([np.bincount(index_R, column, sizes) for column in base.T], axis=1)
    held, way = np.linalg.eigh(np.diag(rows_S) - taken @ taken.T)
    # `way` times shifts of sizes is a contrast; to be seen, the law must leave some of it.
    seen = held > _SEEN * np.median(rows_S)
    held, way = held[seen], way[:, seen]
    free, free_within = int(seen.sum()), points - rank - int(seen.sum())
    if free < 2 or free_within < 1:
        return None
    found = (way.T @ np.bincount(index_R, left, sizes)) / np.sqrt(held)
    shift = (way / np.sqrt(held)) @ found
    rest = left - (shift[index_R] - base @ (taken.T @ shift))
    runs_P = np.bincount(point_R).astype(float)
    within = float((np.bincount(point_R, rest) ** 2 / runs_P).sum()) / free_within
    effect = SharedEffect(
        shared.what,
        index_R,
        float((found**2).mean()),
        free,
        within,
        free_within,
        float(held.mean()),
        rest,
        points > points_crossed,
    )
    return effect if effect.variance > 0 and effect.p_value < shared.rare else None


@dataclass(frozen=True)
class Variances:
    """Mean squares of log residuals: of points about the law (times runs a point), and of seeds
    about their point; and the parts that runs share."""

    points: float
    free_points: int
    seeds: float
    free_seeds: int
    runs_a_point: float
    shared: tuple[SharedEffect, ...] = ()

    def scales(self, count: int, rng: np.random.Generator) -> "Scales":
        """Standard deviations for `count` tables, from their sampling distribution."""
        seeds_B = redraw(self.seeds, self.free_seeds, count, rng)
        points_B = redraw(self.points, self.free_points, count, rng)
        misfit_B = np.sqrt(np.maximum(points_B - seeds_B, 0.0) / self.runs_a_point)
        shared = [effect.scales(count, rng) for effect in self.shared]
        return Scales(misfit_B, np.sqrt(seeds_B), tuple(shared))

    def draw(
        self, point_R: NDArray[np.int_], spread_R: Array, count: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Shifts of ln L for `count` simulated tables (B, R), and of one more run each (B,)."""
        scales, number = self.scales(count, rng), int(point_R.max()) + 1
        shift = scales.points[:, None] * rng.standard_normal((count, number))[:, point_R]
        shift += scales.seeds[:, None] * rng.standard_normal((count, len(point_R)))
        noise = scales.one_more(rng)
        shift *= spread_R
        for effect, scale_B in zip(self.shared, scales.shared, strict=True):
            shift += effect.shifts(scale_B, rng)
        return bounded(shift), noise

    def notes(
        self, number: int, points_word: str, spread_word: str, count: int, *, plain: bool = False
    ) -> list[Note]:
        parts = []
        if self.free_points > 0:
            spread = size(np.sqrt(self.points / self.runs_a_point), 2, plain=plain)
            share = spread if plain else f"{spread} of the loss"
            degrees = "1 degree" if self.free_points == 1 else f"{self.free_points} degrees"
            means = "" if self.runs_a_point == 1 else " of the mean of a point's runs"
            beside = " beside what they share" if self.shared else ""
            parts.append(f"root mean square misfit{means}{beside} {share} on {degrees} of freedom")
        if self.free_seeds > 0:
            parts.append(
                f"{spread_word} {size(np.sqrt(self.seeds), plain=plain)} on {self.free_seeds}"
            )
        notes = [
            PARAMETRIC_BOOTSTRAP.note(
                f"{number} {points_word} are too few to resample: the intervals come from {count} "
                "tables simulated from the law with the noise that the runs show "
                f"({', '.join(parts)})",
            )
        ]
        notes += [effect.note() for effect in self.shared]
        if self.free_points <= 1:
            left = "one degree of freedom" if self.free_points == 1 else "no degree of freedom"
            notes.append(
                INTERVAL_NOT_TRUSTED.note(
                    f"{number} {points_word} leave {left} to judge the misfit by: the intervals "
                    "are not to be trusted",
                )
            )
        return notes


@dataclass(frozen=True)
class Scales:
    """Standard deviations a table (B,): of points, of seeds and of what runs share."""

    points: Array
    seeds: Array
    shared: tuple[Array, ...]

    def one_more(self, rng: np.random.Generator) -> Array:
        """How far one more run is off the law, one a table (B,)."""
        count = len(self.points)
        off = self.points * rng.standard_normal(count) + self.seeds * rng.standard_normal(count)
        for scale_B in self.shared:
            off += scale_B * rng.standard_normal(count)
        return bounded(off)


def variances(
    residual_R: Array,
    jacobian_RP: Array,
    point_R: NDArray[np.int_],
    shared: tuple[SharedEffect, ...] = (),
) -> Variances:
    """Mean squares after the least-squares fit that is nearest to this one, so that degrees of
    freedom are right; with parts that runs share, of what these leave."""
    residual_R, rank = least_squares_residual(residual_R, jacobian_RP)
    residual_R = shared[-1].left_R if shared else residual_R
    lost = sum(effect.free for effect in shared if not effect.within_points)
    lost_seeds = sum(effect.free for effect in shared if effect.within_points)
    runs_P = np.bincount(point_R).astype(float)
    mean_P = np.bincount(point_R, weights=residual_R) / runs_P
    free_points = len(runs_P) - rank - lost
    free_seeds = len(residual_R) - len(runs_P) - lost_seeds
    total = runs_P.sum()
    runs_a_point = (total - (runs_P**2).sum() / total) / max(len(runs_P) - 1, 1)
    within = float(((residual_R - mean_P[point_R]) ** 2).sum())
    between = float((runs_P * mean_P**2).sum())
    return Variances(
        between / free_points if free_points > 0 else 0.0,
        free_points,
        within / free_seeds if free_seeds > 0 else 0.0,
        free_seeds,
        max(float(runs_a_point), 1.0),
        shared,
    )


def redraw(mean_square: float, free: int, count: int, rng: np.random.Generator) -> Array:
    """`count` draws of what a mean square on so many degrees of freedom may be one of."""
    if free <= 0:
        return np.zeros(count)
    return np.asarray(mean_square * free / np.maximum(rng.chisquare(free, count), 1e-12))


def bounded(shift: Array) -> Array:
    """Simulated shifts of ln L that overflow nothing."""
    return np.clip(shift, -LARGEST_NOISE, LARGEST_NOISE)
