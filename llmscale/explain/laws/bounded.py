"""Loss in size, tokens and unique tokens, between a floor and that of a model that has learnt
nothing: over-fitting raises it, and never beyond.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Bounded(Law):
    """L(N, D, U) = E + (L0 - E) h/(1 + h), h = a/N^alpha + b/D^beta + c N^gamma/U^delta  (Bryant &
    Liu 2026, arXiv 2605.09189).

    D are the tokens seen, U those that are unique (the paper's T and D). L0 is the loss of a model
    that has learnt nothing, about ln of the vocabulary. The third term is over-fitting."""

    E: float
    L0: float
    a: float
    b: float
    c: float
    alpha: float
    beta: float
    gamma: float
    delta: float

    equation = "L = E + (L0 - E) h/(1 + h), h = a/N^alpha + b/D^beta + c N^gamma/U^delta"
    source = "Bryant & Liu 2026"
    published = (1.8, 10.8, 60.0, 160.0, 400.0, 0.36, 0.35, 0.25, 0.6)
    inputs = ("params", "tokens", "unique_tokens")
    floor = "E"
    exponents = ("alpha", "beta", "gamma", "delta")

    def loss(self, *inputs: Any) -> Any:
        N, D, unique = inputs
        under = self.a * N**-self.alpha + self.b * D**-self.beta
        over = self.c * np.exp(self.gamma * np.log(N) - self.delta * np.log(unique))
        h = under + over
        return self.E + (self.L0 - self.E) * (h / (1.0 + h))

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """An L0 of a vocabulary of a hundred to a million; at the middle of the runs three terms of
        plausible size."""
        logs = [np.log(values).mean() for values in inputs]
        raw_SK = np.empty_like(unit_SK)
        raw_SK[:, 0] = loss.min() * unit_SK[:, 0]
        raw_SK[:, 1] = max(float(loss.max()), 4.6) + 9.0 * unit_SK[:, 1]
        raw_SK[:, 5:7] = 0.1 * 10.0 ** unit_SK[:, 5:7]
        raw_SK[:, 7:] = 0.1 * 12.0 ** unit_SK[:, 7:]
        size_S3 = 0.003 * 100.0 ** unit_SK[:, 2:5]
        raw_SK[:, 2] = size_S3[:, 0] * np.exp(raw_SK[:, 5] * logs[0])
        raw_SK[:, 3] = size_S3[:, 1] * np.exp(raw_SK[:, 6] * logs[1])
        raw_SK[:, 4] = size_S3[:, 2] * np.exp(raw_SK[:, 8] * logs[2] - raw_SK[:, 7] * logs[0])
        return raw_SK

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(
            unique_tokens=(1e5, 3e6, 1e8, 4e9),
            epochs=(1.0, 4.0, 15.0, 60.0),
            params=(1e5, 7e6, 3e8, 7e9),
        )
        return {**runs, "tokens": runs["unique_tokens"] * runs.pop("epochs")}
