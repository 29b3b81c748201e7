"""How wide a forecast would be after more runs, before any of them is made.

The interval that `predict` gives has two parts (see forecast/widths.py), and a run narrows both.
The part of the law is the variance of ln L at the target over draws of every law that is plausible:
a run that was measured to within its noise leaves of it what a linear estimate by that run leaves
(the draws say how the loss there and the loss at the target vary together). The part of the misfit
grows with the distance from the runs, and a larger run shrinks the distance. A design by the first
part only would buy small runs and believe them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.estimation.reach import Reach
from llmscale.explain.forecast.widths import PublicNeeds, growth, multipliers
from llmscale.explain.laws import Array


@dataclass(frozen=True)
class Misfit:
    """What a forecast is widened by beyond the runs: the needs of public tables and of this one,
    and the scale s that they multiply."""

    public: PublicNeeds
    own: OwnNeeds | None
    scale: float
    level: float

    def halves(self, h: Array) -> tuple[Array, Array]:
        """What is added below and above, in ln L, at every distance h."""
        unit = self.scale * growth(h)
        low, high = multipliers(self.public, self.own, h, self.level)
        return low * unit, high * unit


@dataclass(frozen=True)
class Outlook:
    """The forecast of T targets, and what C candidate runs would tell of it.

    `together` is the covariance of ln L over draws of the laws, of the candidates and then of the
    targets (C + T, C + T); `noise` (C,) the standard deviation with which each candidate is
    measured, `run_noise` that of a new run at a target. `log_candidates` and `log_targets` are ln N
    and ln D, and `counts` says which candidates are enough like the targets for the forecast to
    reach as far as they do."""

    together: Array
    noise: Array
    run_noise: float
    z: float
    reach: Reach
    misfit: Misfit
    log_candidates: Array
    log_targets: Array
    counts: Array

    @property
    def number(self) -> int:
        """How many candidates there are."""
        return len(self.noise)

    @property
    def width(self) -> float:
        """The mean width of the interval at the targets, in ln L, as things stand."""
        variance = np.diag(self.together)[self.number :]
        horizon = _horizons(self.reach, self.log_targets)
        return float(self._widths(variance[None], horizon[None])[0])

    @cached_property
    def widths_with(self) -> Array:
        """The width with each candidate, one at a time: (C,)."""
        variance = np.diag(self.together)
        seen = variance[: self.number] + self.noise**2
        shared = self.together[: self.number, self.number :]
        left = variance[self.number :] - shared**2 / seen[:, None]
        horizons = self._horizons_with()
        return self._widths(np.maximum(left, 0.0), horizons)

    def after(self, one: int) -> "Outlook":
        """The outlook once this candidate was measured."""
        shared = self.together[one]
        seen = shared[one] + self.noise[one] ** 2
        together = self.together - np.outer(shared, shared) / seen
        return replace(self, together=together, reach=self._reach_with(one))

    def _horizons_with(self) -> Array:
        """How far beyond the runs each target lies with each candidate: (C, T)."""
        names = (self.reach.size or "params", "tokens")
        now = _horizons(self.reach, self.log_targets)
        targets, at = self.log_targets[None], self.log_candidates[:, None]
        beyond = np.zeros((self.number, len(self.log_targets)))
        for place, name in enumerate(names):
            low, high = self.reach.ranges[name]
            above = targets[..., place] - np.maximum(high, at[..., place])
            below = np.minimum(low, at[..., place]) - targets[..., place]
            beyond = np.maximum(beyond, np.maximum(above, below))
        largest = np.maximum(self.reach.largest or -np.inf, at.sum(axis=-1))
        beyond = np.maximum(beyond, targets.sum(axis=-1) - largest)
        beyond = np.where(beyond > 1e-9, beyond, 0.0)
        return np.where(self.counts[:, None], beyond, now)

    def _reach_with(self, one: int) -> Reach:
        if not self.counts[one]:
            return self.reach
        return widened_reach(self.reach, self.log_candidates[one])

    def _widths(self, variance_XT: Array, horizon_XT: Array) -> Array:
        plain = self.z * np.sqrt(variance_XT + self.run_noise**2)
        below, above = self.misfit.halves(horizon_XT)
        most = self.misfit.public.most * plain
        low = np.hypot(plain, np.minimum(below, most))
        high = np.hypot(plain, np.minimum(above, most))
        return np.asarray((low + high).mean(axis=1))


def widened_reach(reach: Reach, log_ND: Array) -> Reach:
    """The reach with one run more."""
    names = (reach.size or "params", "tokens")
    ranges = dict(reach.ranges)
    for name, at in zip(names, log_ND.tolist(), strict=True):
        low, high = ranges[name]
        ranges[name] = (min(low, at), max(high, at))
    largest = max(reach.largest or -np.inf, float(log_ND.sum()))
    return replace(reach, ranges=ranges, largest=largest)


def _horizons(reach: Reach, log_targets: Array) -> Array:
    N, D = np.exp(log_targets).T
    return reach.beyond((reach.size or "params", "tokens"), (N, D))
