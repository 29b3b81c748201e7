"""A power law in one of N, D and C whose slope changes once, smoothly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, OneVariableLaw


@dataclass(frozen=True)
class Broken(OneVariableLaw):
    """y = a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)  (Caballero et al. 2023, eq. 1 with one break).

    The slope of y - a on log axes is -c0 well below d1 and -(c0 + c1) well above; f1 is how wide
    the bend is."""

    a: float
    b: float
    c0: float
    c1: float
    d1: float
    f1: float

    equation = "L = a + b {x}^-c0 (1 + ({x}/d1)^(1/f1))^(-c1 f1)"
    source = "Caballero et al. 2023, eq. 1"
    published = (1.9, 12.0, 0.12, 0.16, 30000000, 0.4)
    floor = "a"
    exponents = ("c0", "c1")
    signed = ("c0", "c1")
    without_floor = "power"

    def loss(self, *inputs: Any) -> Any:
        (x,) = inputs
        # (x/d1)^(1/f1) overflows at a sharp bend; its logarithm does not.
        bend = np.logaddexp(0.0, np.log(x / self.d1) / self.f1)
        return self.a + self.b * x**-self.c0 * np.exp(-self.c1 * self.f1 * bend)

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Slopes from 0.02 to 3 around a bend among the runs; one in five rises after it."""
        low, high = inputs[0].min(), inputs[0].max()
        raw_SK = unit_SK.copy()
        before, turn = 0.02 * 150.0 ** unit_SK[:, 2], unit_SK[:, 3]
        after = np.where(
            turn < 0.2, -0.02 * 150.0 ** (5 * turn), 0.02 * 150.0 ** ((turn - 0.2) / 0.8)
        )
        raw_SK[:, 2], raw_SK[:, 3] = before, after - before
        raw_SK[:, 4] = low * (high / low) ** unit_SK[:, 4]
        raw_SK[:, 5] = 0.03 * 100.0 ** unit_SK[:, 5]
        return raw_SK
