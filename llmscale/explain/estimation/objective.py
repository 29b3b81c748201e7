"""What a fit minimises: a sum over runs of a function of ln L̂ - ln L."""

from dataclasses import dataclass

import numpy as np

from llmscale.explain.laws import Array

_FIRST_DELTA = 0.1
_DELTA_FACTOR = 10.0


@dataclass(frozen=True)
class Objective:
    """What is summed over runs, as a function of r = ln L̂ - ln L.

    `huber` is r²/2 up to delta and linear beyond (Huber 1964; with delta 1e-3 as in Hoffmann et al.
    2022), `squared` is r²/2, and `log-cosh` is delta² ln cosh(r/delta), a Huber without a kink.
    `squares` times r²/2 is added, to tell apart what the objective itself holds equal."""

    name: str = "huber"
    delta: float = 1e-3
    squares: float = 0.0

    def expand(self, residual: Array) -> tuple[Array, Array, Array]:
        """Value, first and second derivative at every residual."""
        value, first, second = self._expand(residual)
        if self.squares:
            value += 0.5 * self.squares * residual * residual
            first += self.squares * residual
            second += self.squares
        return value, first, second

    def _expand(self, residual: Array) -> tuple[Array, Array, Array]:
        if self.name == "squared":
            return 0.5 * residual * residual, residual.copy(), np.ones_like(residual)
        if self.name == "huber":
            clipped = np.minimum(np.maximum(residual, -self.delta), self.delta)
            rho = -0.5 * clipped
            rho += residual
            rho *= clipped
            return rho, clipped, (clipped == residual).astype(float)
        scaled = np.abs(residual) / self.delta
        value = self.delta**2 * (scaled + np.log1p(np.exp(-2.0 * scaled)) - np.log(2.0))
        slope = np.tanh(residual / self.delta)
        return value, self.delta * slope, 1.0 - slope * slope

    def total(self, residual: Array, weight: Array) -> Array:
        """sum over the last axis of weight times value."""
        return np.asarray((weight * self.expand(residual)[0]).sum(axis=-1))

    def graduated(self) -> "list[Objective]":
        """The same with delta from 0.1 down to its own: far starts see a smooth valley."""
        if self.name == "squared":
            return [self]
        stages = max(int(np.ceil(np.log(_FIRST_DELTA / self.delta) / np.log(_DELTA_FACTOR))), 0)
        deltas = [
            self.delta * (_FIRST_DELTA / self.delta) ** (1 - i / stages) for i in range(stages)
        ]
        return [Objective(self.name, delta) for delta in deltas] + [self]
