"""How large each part of the noise in ln L is: of sizes, of points (or runs), and of their rows.

Rows of a point (seeds, or checkpoints of a run) share the point's misfit, and runs of a size share
its shape and tuning. The parts are mean squares of the residuals after the nearest least-squares
fit (Henderson's method 3: Searle, Casella & McCulloch 1992, "Variance components", sec. 5.6). A
part of size is taken only if the residuals show one (F test), so that independent runs get no wider
intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from llmscale.errors import Note
from llmscale.explain.estimation.noise import least_squares_residual
from llmscale.explain.estimation.relative import size
from llmscale.explain.laws import Array
from llmscale.notes.fitting import INTERVAL_NOT_TRUSTED, PARAMETRIC_BOOTSTRAP, SIZE_EFFECT

LARGEST_NOISE = 2.0
"""Simulated ln L moves by at most this: a heavy tail must not overflow."""
_RARE = SIZE_EFFECT.limit
_SEEN = 0.1
"""Shifts of sizes that the law takes up to a larger share than 1 - 0.1 tell nothing of them."""
_MOST_SIZES = 1000
"""The spread between more sizes than this needs no estimate: they are resampled."""


@dataclass(frozen=True)
class SizeEffect:
    """How far runs of one size are off the law together: `square` is the mean square of
    `free` contrasts between sizes, each of which holds `rows` times the variance of sizes and
    `within`, that of runs on `free_within`. `left_R` is what is left of the residuals."""

    size_R: NDArray[np.int_]
    square: float
    free: int
    within: float
    free_within: int
    rows: float
    left_R: Array

    @property
    def sizes(self) -> int:
        """How many there are."""
        return int(self.size_R.max()) + 1

    @property
    def variance(self) -> float:
        """Of ln L between sizes."""
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
        drawn = rng.standard_normal((len(scale_B), self.sizes))
        return bounded((scale_B[:, None] * drawn)[:, self.size_R])

    def one_more(self, rng: np.random.Generator, count: int) -> Array:
        """How far one more run, of one more size, is off the law (B,)."""
        size_B = np.sqrt(self.variance) * rng.standard_normal(count)
        return bounded(size_B + rng.choice(self.left_R, size=count))

    def note(self) -> Note:
        sizes, runs = self.sizes, len(self.size_R)
        return SIZE_EFFECT.note(
            f"runs of one size are off the law together, by {size(np.sqrt(self.variance))} of the "
            f"loss (F test over {sizes} sizes, p = {self.p_value:.0e}): the intervals rest on "
            f"{sizes} sizes rather than on {runs} rows"
        )


def size_effect(
    residual_R: Array, jacobian_RP: Array, size_R: NDArray[np.int_], point_R: NDArray[np.int_]
) -> SizeEffect | None:
    """The part of size, or None if it cannot be told or the residuals show none.

    Contrasts are orthogonal combinations of sizes that the law does not take up; their spread is
    compared with that of points (`point_R`) of a size."""
    rows_S = np.bincount(size_R).astype(float)
    sizes, points = len(rows_S), int(point_R.max()) + 1
    if sizes < 2 or sizes > _MOST_SIZES or sizes == points:
        return None
    left, rank = least_squares_residual(residual_R, jacobian_RP)
    base = np.linalg.svd(jacobian_RP, full_matrices=False)[0][:, :rank]
    taken = np.stack([np.bincount(size_R, column, sizes) for column in base.T], axis=1)
    held, way = np.linalg.eigh(np.diag(rows_S) - taken @ taken.T)
    # A contrast of w ln-shifts of sizes moves the residuals by way w; w is scaled to length one.
    seen = held > _SEEN * np.median(rows_S)
    held, way = held[seen], way[:, seen]
    free, free_within = int(seen.sum()), points - rank - int(seen.sum())
    if free < 1 or free_within < 1:
        return None
    found = (way.T @ np.bincount(size_R, left, sizes)) / np.sqrt(held)
    shift = (way / np.sqrt(held)) @ found
    rest = left - (shift[size_R] - base @ (taken.T @ shift))
    runs_P = np.bincount(point_R).astype(float)
    within = float((np.bincount(point_R, rest) ** 2 / runs_P).sum()) / free_within
    effect = SizeEffect(
        size_R,
        float((found**2).mean()),
        free,
        within,
        free_within,
        float(held.mean()),
        rest * np.sqrt(len(rest) / (len(rest) - rank - free)),
    )
    return effect if effect.variance > 0 and effect.p_value < _RARE else None


@dataclass(frozen=True)
class Variances:
    """Mean squares of log residuals: of points about the law (times runs a point), and of seeds
    about their point; and the part of size, if there is one."""

    points: float
    free_points: int
    seeds: float
    free_seeds: int
    runs_a_point: float
    sizes: SizeEffect | None = None

    def scales(self, count: int, rng: np.random.Generator) -> "Scales":
        """Standard deviations for `count` tables, from their sampling distribution."""
        seeds_B = redraw(self.seeds, self.free_seeds, count, rng)
        points_B = redraw(self.points, self.free_points, count, rng)
        misfit_B = np.sqrt(np.maximum(points_B - seeds_B, 0.0) / self.runs_a_point)
        size_B = None if self.sizes is None else self.sizes.scales(count, rng)
        return Scales(misfit_B, np.sqrt(seeds_B), size_B)

    def draw(
        self, point_R: NDArray[np.int_], spread_R: Array, count: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Shifts of ln L for `count` simulated tables (B, R), and of one more run each (B,)."""
        scales, number = self.scales(count, rng), int(point_R.max()) + 1
        shift = scales.points[:, None] * rng.standard_normal((count, number))[:, point_R]
        shift += scales.seeds[:, None] * rng.standard_normal((count, len(point_R)))
        noise = scales.one_more(rng)
        shift *= spread_R
        if self.sizes is not None and scales.sizes is not None:
            shift += self.sizes.shifts(scales.sizes, rng)
        return bounded(shift), noise

    def notes(self, number: int, points_word: str, spread_word: str, count: int) -> list[Note]:
        parts = []
        if self.free_points > 0:
            spread = size(np.sqrt(self.points / self.runs_a_point), 2)
            degrees = "1 degree" if self.free_points == 1 else f"{self.free_points} degrees"
            parts.append(f"misfit {spread} of the loss on {degrees} of freedom")
        if self.free_seeds > 0:
            parts.append(f"{spread_word} {size(np.sqrt(self.seeds))} on {self.free_seeds}")
        notes = [
            PARAMETRIC_BOOTSTRAP.note(
                f"{number} {points_word} are too few to resample: the intervals come from {count} "
                "tables simulated from the law with the noise that the runs show "
                f"({', '.join(parts)})",
            )
        ]
        if self.sizes is not None:
            notes.append(self.sizes.note())
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
    """Standard deviations of points, of seeds and of sizes (if there is a part) a table (B,)."""

    points: Array
    seeds: Array
    sizes: Array | None

    def one_more(self, rng: np.random.Generator) -> Array:
        """How far one more run is off the law, one a table (B,)."""
        count = len(self.points)
        off = self.points * rng.standard_normal(count) + self.seeds * rng.standard_normal(count)
        if self.sizes is not None:
            off += self.sizes * rng.standard_normal(count)
        return bounded(off)


def variances(
    residual_R: Array,
    jacobian_RP: Array,
    point_R: NDArray[np.int_],
    sizes: SizeEffect | None = None,
) -> Variances:
    """Mean squares after the least-squares fit that is nearest to this one, so that degrees of
    freedom are right; with a part of size, of what that leaves."""
    residual_R, rank = least_squares_residual(residual_R, jacobian_RP)
    runs_P = np.bincount(point_R).astype(float)
    mean_P = np.bincount(point_R, weights=residual_R) / runs_P
    free_points, free_seeds = len(runs_P) - rank, len(residual_R) - len(runs_P)
    total = runs_P.sum()
    runs_a_point = (total - (runs_P**2).sum() / total) / max(len(runs_P) - 1, 1)
    within = float(((residual_R - mean_P[point_R]) ** 2).sum())
    points = float((runs_P * mean_P**2).sum()) / max(free_points, 1)
    if sizes is not None:
        points, free_points = sizes.within, sizes.free_within
    return Variances(
        points if free_points > 0 else 0.0,
        free_points,
        within / free_seeds if free_seeds > 0 else 0.0,
        free_seeds,
        max(float(runs_a_point), 1.0),
        sizes,
    )


def redraw(mean_square: float, free: int, count: int, rng: np.random.Generator) -> Array:
    """`count` draws of what a mean square on so many degrees of freedom may be one of."""
    if free <= 0:
        return np.zeros(count)
    return np.asarray(mean_square * free / np.maximum(rng.chisquare(free, count), 1e-12))


def bounded(shift: Array) -> Array:
    """Simulated shifts of ln L that overflow nothing."""
    return np.clip(shift, -LARGEST_NOISE, LARGEST_NOISE)
