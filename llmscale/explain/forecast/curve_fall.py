"""What finished runs say of the end of another, from its training loss at a share of its training.

Under a schedule that decays, the loss falls at the end as the curve so far does not show: by how
much, finished runs do. Six regressions over them say what the final loss was, given the training
loss at the same share of training, the size and the tokens: of the fall from here on (alike for
all; linear; quadratic in ln N and ln D), of the final loss with the loss so far and how fast it
falls now, and without either. Each is shrunk by ridge, as much as leaving one run out likes best.
They are averaged by the inverse square of their mean squared error when one run is left out (a
super learner: van der Laan et al. 2007, Stat. Appl. Genet. Mol. Biol. 6). A law of the final losses
as a seventh did not lower the errors of our own sweeps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmscale.explain.forecast.curve import Curve
from llmscale.explain.laws import Array

FEWEST = 4
"""Finished runs, of other trunks: fewer say nothing of a fall."""
_RIDGES = np.array([1e6, 10.0, 3.0, 1.0, 0.3, 0.1, 1e-2, 1e-3])
_CLEARLY = 0.98
"""A lighter ridge is taken only if it lowers the squared error to this share."""
_OWN_VARIATION = 0.05
"""Standard deviation of ln x, or of what size and tokens leave of it: less tells nothing of runs
that are further away."""
_LEAST_ERROR = 1e-6
_MORE = ("unique_tokens", "params_total", "lr", "batch_tokens")
"""What runs may differ in besides size and tokens."""


@dataclass(frozen=True)
class Asked:
    """Finished runs J and, last, the run that is asked for, as numbers.

    `places` (J + 1, P) is ln N, ln D and whatever else tells runs apart; `level` and `before` the
    ln of the training loss at the share and at half of it; `end` (J,) that of the final loss."""

    places: Array
    level: Array
    before: Array
    end: Array
    compute: Array
    trunks: Array

    @classmethod
    def of(
        cls,
        run: Curve,
        finished: Sequence[Curve],
        share: float,
    ) -> "Asked":
        every = [*finished, run]
        before = np.array([one.level(share / 2) for one in every])
        compute = [one.traits["params"] * one.planned for one in every]
        return cls(
            places=_places(every),
            level=np.array([one.level(share) for one in every]),
            before=before if np.isfinite(before).all() else np.zeros(len(every)),
            end=np.log([one.loss for one in finished]),
            compute=np.array(compute),
            trunks=np.array([one.trunk for one in every]),
        )

    @property
    def at(self) -> Array:
        """ln N and ln D, (J + 1, 2)."""
        return self.places[:, :2]

    def level_apart(self) -> tuple[float, float]:
        """By how much the level of the run that is asked for lies above what a ridge regression on
        ln N and ln D says, and the root mean square of what such miss finished runs by."""
        told, miss = _ridge(self.at[:-1], self.level[:-1], self.at[-1], 0.0)
        return float(self.level[-1] - told), math.sqrt(float((miss**2).mean()))

    def forecast(self, place: int, by: Array) -> float:
        """ln of the final loss of one run by those of the finished runs `by` (J,)."""
        chosen = np.flatnonzero(by)
        level, end = self.level[chosen], self.end[chosen]
        here, fall = self.level[place], end - level
        varies = self.places[chosen].std(axis=0) > _OWN_VARIATION
        near, now = self.places[chosen] * varies, self.places[place] * varies
        bent, bent_now = _bent(near), _bent(now[None])[0]
        felt = np.column_stack([near, level])
        felt_now = np.append(now, here)
        speed = np.column_stack([felt, level - self.before[chosen]])
        speed_now = np.append(felt_now, here - self.before[place])
        ways = [
            (here + fall.mean(), (fall - fall.mean()) * len(fall) / (len(fall) - 1)),
            _ridge(near, fall, now, here),
            _ridge(bent, fall, bent_now, here),
            _ridge(near, end, now, 0.0),
            _ridge(felt, end, felt_now, 0.0),
            _ridge(speed, fall, speed_now, here),
        ]
        squared = np.array([max(float((miss**2).mean()), _LEAST_ERROR**2) for _, miss in ways])
        weights = (squared.min() / squared) ** 2
        weights /= weights.sum()
        return float(weights @ np.array([told for told, _ in ways]))


def _places(every: Sequence[Curve]) -> Array:
    """ln N and ln D of every run, and of what else is known of all, what these do not tell."""
    columns = [np.log([one.traits[name] for one in every]) for name in ("params", "tokens")]
    for name in _MORE:
        values = np.array([one.traits.get(name) or math.nan for one in every], dtype=float)
        if not (values > 0).all() or len(every) < 4 * (len(columns) + 1):
            continue
        known = np.column_stack([np.ones(len(every)), *columns])
        logs = np.log(values)
        left = logs - known @ np.linalg.lstsq(known, logs, rcond=1e-9)[0]
        if left.std() > _OWN_VARIATION:
            columns.append(logs)
    return np.column_stack(columns)


def _bent(places_JP: Array) -> Array:
    """With squares of ln N and ln D, and their product."""
    N, D = places_JP[:, 0], places_JP[:, 1]
    return np.column_stack([places_JP, N**2, D**2, N * D])


def _ridge(known_JP: Array, told_J: Array, asked_P: Array, base: float) -> tuple[float, Array]:
    """`base` and what a ridge regression of `told` says where asked, and what it misses each run by
    without it; the ridge is the heaviest that leaving one out does not clearly object to."""
    spread = known_JP.std(axis=0)
    varies = spread > 1e-9
    middle, spread = known_JP.mean(axis=0)[varies], spread[varies]
    mean = told_J.mean()
    U_JP, size_P, turn_PP = np.linalg.svd((known_JP[:, varies] - middle) / spread, False)
    along_P = U_JP.T @ (told_J - mean)
    kept_LP = size_P**2 / (size_P**2 + _RIDGES[:, None])
    leverage_LJ = 1 / len(told_J) + kept_LP @ (U_JP**2).T
    miss_LJ = (told_J - mean - (kept_LP * along_P) @ U_JP.T) / np.maximum(1 - leverage_LJ, 1e-12)
    squared_L = (miss_LJ**2).mean(axis=1)
    chosen = 0
    for ridge in range(1, len(_RIDGES)):
        is_exact = leverage_LJ[ridge].max() > 1 - 1e-6
        if not is_exact and squared_L[ridge] < _CLEARLY * squared_L[chosen]:
            chosen = ridge
    at = turn_PP @ ((asked_P[varies] - middle) / spread)
    step_P = size_P / (size_P**2 + _RIDGES[chosen]) * along_P
    return base + float(mean + at @ step_P), miss_LJ[chosen]
