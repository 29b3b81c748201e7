"""How the runs of a plan are judged: by a law and its refits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, Tested, with_coefficients
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.planning.choice import Choice, Run
from llmscale.explain.planning.cost import Hardware
from llmscale.explain.planning.estimate import Estimate, ends_of
from llmscale.explain.planning.surface import IN_TWO, LossSurface


@dataclass(frozen=True)
class Judge:
    """How choices are judged: by a law, at a level, with what its forecasts have held; with so
    many unique tokens, on this hardware."""

    fit: Fit
    level: float
    check: Tested | None = None
    unique: float | None = None
    hardware: Hardware | None = None

    @cached_property
    def surface(self) -> LossSurface:
        return LossSurface(self.fit.law, self.unique)

    @cached_property
    def refits(self) -> LossSurface:
        """The surface of all refits of the law at once."""
        return LossSurface(with_coefficients(self.fit.law, self.fit.replicates), self.unique)

    def estimate(self, question: Callable[[LossSurface], Any]) -> Estimate:
        """What the law answers, and the central interval of what its refits answer."""
        return self.estimates(lambda surface: (question(surface),))[0]

    def estimates(self, questions: Callable[[LossSurface], Sequence[Any]]) -> list[Estimate]:
        """The same of several questions that are answered together."""
        with np.errstate(all="ignore"):
            values = [float(np.ravel(answer)[0]) for answer in questions(self.surface)]
            if not len(self.fit.replicates):
                return list(map(Estimate, values))
            answers = map(np.ravel, questions(self.refits))
        pairs = zip(values, answers, strict=True)
        return [_around(value, *ends_of(one, self.level)) for value, one in pairs]

    def asked(self, N: Any, D: Any) -> dict[str, Any]:
        """What a forecast of runs of N parameters on D tokens takes: of text that is repeated what
        they are worth, and the runs themselves, by which they lie beyond those of the table."""
        about: dict[str, Any] = {"level": self.level, "check": self.check}
        if self.unique is not None and not self.surface.knows_text:
            about["run"] = dict(zip(IN_TWO, (N, D), strict=True))
        return {**about, **self.surface.inputs(N, D)}

    def choices(self, runs: Sequence[Run]) -> tuple[Choice, ...]:
        """What to expect of runs, all asked for at once."""
        if not runs:
            return ()
        params = np.array([run.params for run in runs])
        tokens = np.array([run.tokens for run in runs])
        told = forecast_at(self.fit, **self.asked(params, tokens))
        found = []
        for place, run in enumerate(runs):
            flops = 6.0 * run.params * run.tokens if run.flops is None else run.flops
            ends = (told.loss[place], told.low[place], told.high[place])
            cost = None if self.hardware is None else self.hardware.cost(flops)
            found.append(
                Choice(run.name, run.params, run.tokens, flops, Estimate(*map(float, ends)), cost)
            )
        return tuple(found)


def _around(value: float, low: float, high: float) -> Estimate:
    """An interval holds its value, also one that most refits lie on one side of."""
    if math.isnan(low) or math.isnan(value):
        return Estimate(value, low, high)
    return Estimate(value, min(low, value), max(high, value))
