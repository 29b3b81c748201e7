"""The optima of a law between bounds: from many starts at once, by Levenberg–Marquardt, under a
weak prior and a loss that outlying runs do not bend.

Laws with many coefficients and few runs have more than one optimum, and directions that no run
says anything of. The prior (standard normal in the coordinates of a Box) keeps those near the
middle of their bounds, and gives way to what runs say. The scale of the noise is integrated out:
the objective of N runs is N/2 ln(sum of squares) + |z|²/2."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from box import EDGE, Box

from llmscale.explain.laws import Array

LawAt = Callable[[Array, Array], tuple[Array, Array]]
"""From coefficients (S, P) and inputs (N, d): what the law says (S, N), and its slopes in the
coefficients (S, N, P)."""

PRIOR = 0.3
"""Precision of the prior in a Box's coordinates."""
FAR = 2.0
"""Misses beyond this many standard deviations count by their size, not by its square, as in Huber's
loss (smoothed). A loss that ignores them, as Student's t does, settles on one of several recipes in
a table that mixes them."""
_FREE = 1e-3
"""Share of the prior in the first half of the search: with few runs a strong one holds starts in
the middle, since the noise seems large there."""
_FLOOR = 0.005
"""Least noise, as a share of the spread of the losses: laws with as many coefficients as runs would
claim to know them exactly."""
_FLOOR_OF_LEVEL = 0.03
"""Runs whose losses differ by less than this share of their mean say little of their spread."""
_LONGEST_STEP = 1.0
_SETTLED = 1e-7
_SLOWEST = 1e10
"""Damping at which a start is left."""


@dataclass(frozen=True)
class Measured:
    """N runs that a law is fitted to."""

    law: LawAt
    box: Box
    inputs: Array
    losses: Array
    whitening: Array
    """(N, N): see Misfit."""
    scale: float | None = None
    """Of the misses, as far as known: outliers are those far beyond it."""
    prior: float = PRIOR

    @property
    def spread(self) -> float:
        """Of the losses."""
        return float(max(self.losses.std(), _FLOOR_OF_LEVEL * np.abs(self.losses).mean()))

    @property
    def floor(self) -> float:
        """The sum of squares that is always there."""
        return float(len(self.losses) * (_FLOOR * self.spread) ** 2)

    def misses(self, z: Array) -> tuple[Array, Array]:
        """(S, N) and (S, N, P): what starts z (S, P) miss, whitened, and the slopes in z. Half the
        square of a miss that is beyond the scale is the smoothed Huber loss of it."""
        coefficients = self.box.coefficients(z)
        said, slopes = self.law(coefficients, self.inputs)
        missed = (said - self.losses) @ self.whitening.T
        slopes = self.whitening @ (slopes * self.box.slopes(coefficients)[:, None, :])
        if self.scale is None:
            return missed, slopes
        stretched = np.sqrt(1 + np.square(missed / (FAR * self.scale)))
        bent = np.sqrt(2 / (1 + stretched))
        return missed * bent, slopes / (stretched * bent)[:, :, None]


@dataclass(frozen=True)
class Optima:
    """Where S starts came to rest."""

    z: Array
    objective: Array
    misses: Array
    slopes: Array

    def best(self, count: int) -> "Optima":
        """The first `count` of those that came to a finite place, from the lowest on."""
        order = np.argsort(self.objective, kind="stable")
        kept = order[np.isfinite(self.objective[order])][:count]
        return Optima(self.z[kept], self.objective[kept], self.misses[kept], self.slopes[kept])


def find_optima(runs: Measured, starts: Array, steps: int = 60) -> Optima:
    """Where each start (S, P) comes to rest, the lowest first."""
    with np.errstate(all="ignore"):
        free = _descend(replace(runs, prior=_FREE * runs.prior), starts, steps // 2)
        found = _descend(runs, free.z, steps)
    return found.best(len(starts))


def scattered_starts(count: int, coefficients: int, generator: np.random.Generator) -> Array:
    """Starts between the bounds: half of them anywhere, half of them near the middle."""
    starts = generator.uniform(-EDGE, EDGE, (count, coefficients))
    starts[: count // 2] /= 2
    return starts


def _objective(runs: Measured, misses: Array, z: Array) -> Array:
    squares = np.sum(np.square(misses), axis=1) + runs.floor
    value = 0.5 * len(runs.losses) * np.log(squares) + 0.5 * runs.prior * np.sum(z * z, axis=1)
    return np.where(np.isfinite(value), value, np.inf)


def _descend(runs: Measured, starts: Array, steps: int) -> Optima:
    z = np.clip(starts, -EDGE, EDGE)
    misses, slopes = runs.misses(z)
    objective = _objective(runs, misses, z)
    damping, still = np.full(len(z), 1e-2), np.zeros(len(z), dtype=int)
    moving = np.isfinite(objective) & np.isfinite(slopes).all(axis=(1, 2))
    for _ in range(steps):
        at = np.flatnonzero(moving)
        if not len(at):
            break
        tried = np.clip(
            z[at] + _step(runs, misses[at], slopes[at], z[at], damping[at]), -EDGE, EDGE
        )
        new_misses, new_slopes = runs.misses(tried)
        new_objective = _objective(runs, new_misses, tried)
        better = np.isfinite(new_slopes).all(axis=(1, 2)) & (new_objective <= objective[at])
        gain = np.where(better, objective[at] - new_objective, 0.0)
        to = at[better]
        z[to], misses[to], slopes[to] = tried[better], new_misses[better], new_slopes[better]
        objective[to] = new_objective[better]
        damping[at] = np.maximum(damping[at] * np.where(better, 0.2, 4.0), 1e-9)
        still[at] = np.where(
            better & (gain < _SETTLED), still[at] + 1, np.where(better, 0, still[at])
        )
        moving[at] = (still[at] < 2) & (damping[at] < _SLOWEST)
    return Optima(z, objective, misses, slopes)


def _step(runs: Measured, misses: Array, slopes: Array, z: Array, damping: Array) -> Array:
    """(S, P): a damped Gauss–Newton step that leaves coordinates at a bound they press on."""
    count, coefficients = z.shape
    noise = (np.sum(np.square(misses), axis=1) + runs.floor) / len(runs.losses)
    turned = np.swapaxes(slopes, 1, 2)
    curvature = turned @ slopes / noise[:, None, None]
    gradient = (turned @ misses[:, :, None])[:, :, 0] / noise[:, None] + runs.prior * z
    at_edge = np.abs(z) >= EDGE - 1e-9
    held = at_edge & (np.sign(z) * gradient < 0)
    diagonal = np.arange(coefficients)
    own = curvature[:, diagonal, diagonal]
    curvature[:, diagonal, diagonal] += runs.prior + damping[:, None] * (own + runs.prior)
    curvature[held[:, :, None] | held[:, None, :]] = 0.0
    curvature[:, diagonal, diagonal] += np.where(held, 1.0, 1e-12 * own)
    wanted = np.where(held, 0.0, -gradient)
    step = np.linalg.solve(curvature, wanted.reshape(count, coefficients, 1))[:, :, 0]
    return np.asarray(np.clip(step, -_LONGEST_STEP, _LONGEST_STEP))
