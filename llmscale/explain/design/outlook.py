"""How wide a forecast would be after more runs, before any of them is made.

The interval that `predict` gives has two parts (see forecast/widths.py), and a run narrows both.
The part of the law is what is believed of the loss at the target (see belief.py); a run that is
measured to within its noise takes some of that variance away. The part of the misfit grows with the
distance from the runs, and a larger run makes the distance shorter. A design by the first part only
would buy small runs and believe them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, TypeAlias

import numpy as np

from llmscale.explain.design.belief import Belief
from llmscale.explain.design.prospects import Prospects
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.estimation.reach import Reach
from llmscale.explain.forecast.widths import PublicNeeds, growth, multipliers
from llmscale.explain.laws import Array


@dataclass(frozen=True)
class Misfit:
    """What a forecast is widened by beyond the runs: the needs of public tables and of this one,
    the scale s that they multiply, and what is added off the optimum however far away."""

    public: PublicNeeds
    own: OwnNeeds | None
    scale: float
    off: float
    level: float

    def halves(self, h: Array) -> tuple[Array, Array]:
        """What is added below and above, in ln L, at every distance h."""
        unit = self.scale * growth(h)
        low, high = multipliers(self.public, self.own, h, self.level)
        return np.hypot(low * unit, self.off), np.hypot(high * unit, self.off)


@dataclass(frozen=True)
class Outlook:
    """The forecast of one target as things stand, and what K candidate runs would make of it.

    `plain` is the plain interval below and above the forecast in ln L, of which `variance` is the
    square of a standard deviation: the law's and that of a new run's noise, `run_noise`. `reach_at`
    (K, 2) and `target` are ln N and ln D; a candidate that is unlike the target, as far off the
    optimum, reaches less far than it lies."""

    belief: Belief
    plain: tuple[float, float]
    variance: float
    run_noise: float
    misfit: Misfit
    reach: Reach
    reach_at: Array
    target: Array

    @property
    def horizon(self) -> float:
        """ln of how many times beyond the runs the target lies."""
        N, D = np.exp(self.target)
        return float(self.reach.beyond(_names(self.reach), (N, D)))

    @property
    def halves(self) -> tuple[float, float]:
        """The interval below and above the forecast, in ln L."""
        low, high = self._halves(np.array([self.belief.variance]), np.array([self.horizon]))
        return float(low[0]), float(high[0])

    @property
    def width(self) -> float:
        """The width of the interval, in ln L."""
        return sum(self.halves)

    @property
    def least_width(self) -> float:
        """The width if the law were known and the runs reached the target: what a new run there
        varies by."""
        low, high = self._halves(np.zeros(1), np.zeros(1))
        return float(low[0] + high[0])

    @cached_property
    def widths_with(self) -> Array:
        """The width with each candidate, one at a time: (K,)."""
        left = np.maximum(self.belief.variance - self.belief.gains(), 0.0)
        low, high = self._halves(left, self._horizons_with())
        return np.asarray(low + high)

    def width_by_reach(self, one: int) -> float:
        """The width if this candidate only made the distance shorter."""
        return replace(self, reach=self._reach_with(one)).width

    def after(self, one: int) -> Self:
        """The outlook once this candidate was measured."""
        return replace(self, belief=self.belief.after(one), reach=self._reach_with(one))

    def _reach_with(self, one: int) -> Reach:
        ranges = dict(self.reach.ranges)
        for name, value in zip(_names(self.reach), self.reach_at[one].tolist(), strict=True):
            low, high = ranges[name]
            ranges[name] = (min(low, value), max(high, value))
        largest = max(_largest(self.reach), float(self.reach_at[one].sum()))
        return replace(self.reach, ranges=ranges, largest=largest)

    def _horizons_with(self) -> Array:
        """The horizon with each candidate, as Reach.beyond has it of one table."""
        beyond = np.zeros(len(self.reach_at))
        for value, target, name in zip(
            self.reach_at.T, self.target, _names(self.reach), strict=True
        ):
            low, high = self.reach.ranges[name]
            above, below = target - np.maximum(high, value), np.minimum(low, value) - target
            beyond = np.maximum(beyond, np.maximum(above, below))
        largest = np.maximum(_largest(self.reach), self.reach_at.sum(axis=1))
        beyond = np.maximum(beyond, self.target.sum() - largest)
        return np.where(beyond > 1e-9, beyond, 0.0)

    def _halves(self, law_variance: Array, horizon: Array) -> tuple[Array, Array]:
        """Both halves of the interval if so much of the law's variance is left."""
        left = np.sqrt((law_variance + self.run_noise**2) / self.variance)
        ends = []
        for plain, extra in zip(self.plain, self.misfit.halves(horizon), strict=True):
            half = plain * left
            ends.append(np.hypot(half, np.minimum(extra, self.misfit.public.most * half)))
        return ends[0], ends[1]


Outlooks: TypeAlias = Prospects[Outlook]
"""Those of the laws that forecast a table well."""


def _names(reach: Reach) -> tuple[str, str]:
    return reach.size or "params", "tokens"


def _largest(reach: Reach) -> float:
    return -np.inf if reach.largest is None else reach.largest
