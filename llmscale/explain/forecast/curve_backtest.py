"""How far forecasts of finished runs miss when they are asked as the run under way is.

What no finished run shares with the run under way, its size, its tokens or both, is kept from every
finished run that is forecast too; and if none is as large in both, each is forecast from those of
less compute. Errors of runs of one size, or of as many tokens, go together: n errors of which pairs
of one group correlate by r tell as much of their variance as n² / sum r² independent ones
(Satterthwaite 1946, Biometrics Bull. 2), and those are the degrees of freedom of Student's t. The
error of a run that a regression over ln N and ln D knows better than the run under way, by their
leverages, counts for as much more."""

import math
from dataclasses import dataclass

import numpy as np

from llmscale.explain.forecast.curve_fall import FEWEST, Asked
from llmscale.explain.laws import Array

FEWEST_TESTS = 3
_ALIKE = math.log(1.05)
"""Sizes, and tokens, nearer than this are one."""
_LARGER = 1.05
"""Times the compute of a run that is forecast from smaller ones."""
_LEAST_ERROR = 1e-6
_WIDEST = 100.0
"""In ln: the exponential of far more overflows."""
_SHARED = ((0,), (1,), (0, 1))
"""What runs may have in common: N, D, both."""


@dataclass(frozen=True)
class Tests:
    """Each finished run, asked at the same share of its training, from the others: how many,
    how many fell into an interval from the errors of the rest, and mean |relative error| of the
    forecast and of the loss of the moment."""

    count: int
    inside: int
    error: float
    naive_error: float
    of_larger: bool
    """Whether each was forecast from smaller runs, as a run is that is larger than all."""


@dataclass(frozen=True)
class Standing:
    """How a run stands to finished ones: which of `_SHARED` none has in common with it, and whether
    none is as large in both N and D."""

    new: tuple[tuple[int, ...], ...] = ()
    is_beyond: bool = False

    @classmethod
    def of(cls, asked: Asked) -> "Standing":
        above = asked.at[:-1] - asked.at[-1]
        near = np.abs(above) < _ALIKE
        new = tuple(shared for shared in _SHARED if not near[:, shared].all(axis=1).any())
        return cls(new, not (above > -_ALIKE).all(axis=1).any())

    def easier(self) -> "tuple[Standing, ...]":
        """This one, and those in which more finished runs can be tested."""
        return self, Standing(self.new), Standing()

    def used_for(self, asked: Asked, place: int) -> Array:
        """The finished runs (J,) by which one of them is forecast in such a standing."""
        near = np.abs(asked.at[:-1] - asked.at[place]) < _ALIKE
        used = asked.trunks[:-1] != asked.trunks[place]
        for shared in self.new:
            used &= ~near[:, shared].all(axis=1)
        if self.is_beyond:
            used &= asked.compute[:-1] * _LARGER < asked.compute[place]
        return np.asarray(used)


@dataclass(frozen=True)
class Backtest:
    """Errors, in ln, of the finished runs T that could be forecast, and of the loss of the moment;
    `at` (T, 2) is their ln N and ln D, `leverage` that of each in its forecast, and `told_TT` which
    others an interval around it may be made from."""

    wanted: Standing
    standing: Standing
    """The one that they were forecast in, if too few could be in the one that is wanted."""
    miss: Array
    naive: Array
    at: Array
    leverage: Array
    told_TT: Array
    here: float
    """Leverage of the run under way; infinite if finished runs never differ in what it differs."""

    def half_width(self, level: float) -> float:
        """Around the forecast of the run under way, in ln; NaN if these errors cannot tell."""
        if len(self.miss) < FEWEST_TESTS or math.isinf(self.here):
            return math.nan
        return min(self._around(np.ones(len(self.miss), dtype=bool), self.here, level), _WIDEST)

    def tests(self, level: float) -> Tests | None:
        """None if they do not tell how far the forecast may miss."""
        if math.isnan(self.half_width(level)):
            return None
        count, inside = len(self.miss), 0
        for place, miss in enumerate(self.miss):
            rest = self.told_TT[place]
            if rest.sum() < FEWEST_TESTS - 1:
                rest = np.arange(count) != place
            inside += abs(miss) <= self._around(rest, self.leverage[place], level)
        return Tests(
            count,
            int(inside),
            float(np.abs(np.expm1(self.miss)).mean()),
            float(np.abs(np.expm1(self.naive)).mean()),
            self.standing.is_beyond,
        )

    def _around(self, by_T: Array, leverage: float, level: float) -> float:
        """Half the interval from the errors `by_T`, around a forecast of that leverage."""
        miss = self.miss[by_T]
        if math.isfinite(leverage):
            miss = miss * np.sqrt(np.maximum((1 + leverage) / (1 + self.leverage[by_T]), 1.0))
        degrees = min(_independent(miss, self.at[by_T, axis]) for axis in (0, 1))
        squared = float((miss**2).mean())
        return student(degrees, level) * math.sqrt(squared * (1 + 1 / degrees))


def backtest(asked: Asked) -> Backtest:
    """Of every finished run in the standing of the run under way, or in an easier one if too few
    could be forecast in it."""
    wanted = Standing.of(asked)
    for standing in wanted.easier():
        used_by = {place: standing.used_for(asked, place) for place in range(len(asked.end))}
        judged = [place for place, used in used_by.items() if used.sum() >= FEWEST - 1]
        if len(judged) >= FEWEST_TESTS:
            break
    used = [used_by[place] for place in judged]
    told = [asked.forecast(place, by) for place, by in zip(judged, used, strict=True)]
    at = asked.at[:-1]
    return Backtest(
        wanted=wanted,
        standing=standing,
        miss=asked.end[judged] - np.array(told),
        naive=asked.end[judged] - asked.level[judged],
        at=at[judged],
        leverage=np.array([_leverage(at[by], at[k]) for k, by in zip(judged, used, strict=True)]),
        told_TT=np.array([Standing(wanted.new).used_for(asked, place)[judged] for place in judged]),
        here=_leverage(at, asked.at[-1]),
    )


def _leverage(at_J2: Array, here_2: Array) -> float:
    """Of a point in a regression on ln N and ln D over the places of runs, each counted once;
    infinite if it lies off them in a direction in which they do not differ."""
    places = np.unique(at_J2.round(3), axis=0)
    middle = places.mean(axis=0)
    variance, turn = np.linalg.eigh((places - middle).T @ (places - middle) / len(places))
    step = turn.T @ (here_2 - middle)
    varies = variance > _ALIKE**2
    if (np.abs(step[~varies]) > _ALIKE).any():
        return math.inf
    return float(1 + (step[varies] ** 2 / variance[varies]).sum()) / len(places)


def _independent(miss: Array, at: Array) -> float:
    """How many independent errors would tell as much as these, of which those at one place go
    together."""
    together = np.abs(at[:, None] - at) < _ALIKE
    np.fill_diagonal(together, val=False)
    pairs = int(together.sum())
    if not pairs:
        return float(len(miss))
    squared = max(float((miss**2).mean()), _LEAST_ERROR**2)
    correlation = float(miss @ together @ miss) / pairs / squared
    return len(miss) ** 2 / (len(miss) + pairs * min(max(correlation, 0.0), 1.0) ** 2)


def student(degrees: float, level: float) -> float:
    """Half the central interval of Student's t: with t = sqrt(degrees) tan(a) the density in a is
    cos(a)^(degrees - 1). scipy takes longer to load than all of this."""
    angle = np.linspace(0.0, math.pi / 2, 4001)
    middle = 0.5 * (angle[1:] + angle[:-1])
    mass = np.append(0.0, np.cumsum(np.cos(middle) ** (degrees - 1)))
    return math.sqrt(degrees) * math.tan(float(np.interp(level, mass / mass[-1], angle)))
