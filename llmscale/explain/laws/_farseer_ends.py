"""Farseer's law as a formula of the coordinates that it is fitted in, for places to start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law
from llmscale.explain.laws._between import between


@dataclass(frozen=True)
class Ends(Law):
    """ln of D's exponent, of the amplitude at the middle D and of the floor, at both ends; bends.
    Its inputs are ln(N/N_low), ln(N_high/N_low), ln(D/D_middle) and ln D_middle."""

    exponent_low: float
    exponent_high: float
    alpha: float
    amplitude_low: float
    amplitude_high: float
    beta: float
    floor_low: float
    floor_high: float
    gamma: float

    inputs = ("rise", "whole", "log_D", "log_middle")
    signed = (
        *("exponent_low", "exponent_high", "alpha"),
        *("amplitude_low", "amplitude_high", "beta"),
        *("floor_low", "floor_high", "gamma"),
    )

    def loss(self, *inputs: Any) -> Any:
        rise, whole, log_D, log_middle = inputs
        exponent = np.exp(between(self.exponent_low, self.exponent_high, self.alpha, rise, whole))
        low = self.amplitude_low + np.exp(self.exponent_low) * log_middle
        high = self.amplitude_high + np.exp(self.exponent_high) * log_middle
        amplitude = between(low, high, self.beta, rise, whole) - exponent * (log_D + log_middle)
        floor = between(self.floor_low, self.floor_high, self.gamma, rise, whole)
        return np.exp(floor) + np.exp(amplitude)

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Exponents of D from 0.05 to 1, floors below the least loss, amplitudes from the runs."""
        rise, whole, log_D, _ = inputs
        raw_SK = np.empty_like(unit_SK)
        for end, near in enumerate((2 * rise <= whole, 2 * rise >= whole)):
            raw_SK[:, 0 + end] = np.log(0.05 * 20.0 ** unit_SK[:, 0 + end])
            floor_S = loss[near].min() * (0.05 + 0.93 * unit_SK[:, 6 + end])
            raw_SK[:, 6 + end] = np.log(floor_S)
            above = np.log(np.exp(np.log(loss[near]).mean()) - floor_S)
            raw_SK[:, 3 + end] = above + np.exp(raw_SK[:, 0 + end]) * log_D[near].mean()
        raw_SK[:, [2, 5, 8]] = unit_SK[:, [2, 5, 8]] - 0.5
        return raw_SK
