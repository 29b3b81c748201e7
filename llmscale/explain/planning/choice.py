"""One run that may be trained, with the loss to expect of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.planning.cost import Cost, Hardware
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.surface import LossSurface


@dataclass(frozen=True)
class Judge:
    """How choices are judged: by a law, at a level, with what its forecasts have held; with so
    many unique tokens, on this hardware."""

    fit: Fit
    level: float
    check: Tested | None = None
    unique: float | None = None
    hardware: Hardware | None = None

    @property
    def surface(self) -> LossSurface:
        return LossSurface(self.fit.law, self.unique)

    def choices(self, runs: Sequence["Run"]) -> tuple["Choice", ...]:
        """What to expect of runs, all asked for at once."""
        if not runs:
            return ()
        params = np.array([run.params for run in runs])
        tokens = np.array([run.tokens for run in runs])
        asked = self.surface.inputs(params, tokens)
        told = forecast_at(self.fit, level=self.level, check=self.check, **asked)
        found = []
        for place, run in enumerate(runs):
            flops = 6.0 * run.params * run.tokens if run.flops is None else run.flops
            ends = (told.loss[place], told.low[place], told.high[place])
            cost = None if self.hardware is None else self.hardware.cost(flops)
            found.append(
                Choice(run.name, run.params, run.tokens, flops, Estimate(*map(float, ends)), cost)
            )
        return tuple(found)


@dataclass(frozen=True)
class Run:
    """A run to be judged; without `flops` it takes C = 6ND."""

    name: str
    params: float
    tokens: float
    flops: float | None = None


@dataclass(frozen=True)
class Choice:
    """A run that may be trained. The interval of its loss is where a new run would fall."""

    name: str
    params: float
    tokens: float
    flops: float
    loss: Estimate
    cost: Cost | None = None

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "params": self.params,
            "tokens": self.tokens,
            "tokens_per_param": self.tokens_per_param,
            "flops": self.flops,
            "loss": self.loss.value,
            "interval": [self.loss.low, self.loss.high],
            "cost": self.cost and self.cost.to_json(),
        }
