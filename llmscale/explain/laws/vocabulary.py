"""Unigram-normalised loss in size, vocabulary and text: tokenizers compare by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llmscale.explain.laws import Array, Law, crossed


@dataclass(frozen=True)
class Vocabulary(Law):
    """L_u = -E + A_1/N^alpha_1 + A_2/V^alpha_2 + B/H^beta  (Tao et al. 2024, eq. 8, approach 3).

    L_u is the loss less that of a model of token frequencies, in nats, and negative for any good
    model; so residuals are differences of losses. N is the parameters without the vocabulary's, V
    the vocabulary (the paper's V d gives the same form at one width), H the training characters.
    alpha_2 < 0 if a larger vocabulary costs more than it brings. The coefficients here are of that
    kind."""

    E: float
    A_1: float
    A_2: float
    B: float
    alpha_1: float
    alpha_2: float
    beta: float

    equation = "L = -E + A_1/N^alpha_1 + A_2/V^alpha_2 + B/H^beta, V vocabulary, H characters"
    source = "Tao et al. 2024, eq. 8"
    published = (5.8, 80.0, 1.7, 5800.0, 0.32, 0.3, 0.37)
    inputs = ("params_non_embedding", "vocab_size", "characters")
    exponents = ("alpha_1", "beta")
    signed = ("alpha_2",)
    plain = True
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha_2": (-1.5, 1.5)}

    def loss(self, *inputs: Any) -> Any:
        N, vocabulary, characters = inputs
        of_model = self.A_1 * N**-self.alpha_1 + self.A_2 * vocabulary**-self.alpha_2
        return of_model + self.B * characters**-self.beta - self.E

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Exponents from 0.02 to 2, and terms of the size of the differences between runs."""
        raw_SK = super().guesses(unit_SK, inputs, loss)
        raw_SK[:, [4, 6]] = 0.02 * 100.0 ** unit_SK[:, [4, 6]]
        spread = float(np.ptp(loss)) or 1.0
        for amplitude, exponent, values in zip((1, 2, 3), (4, 5, 6), inputs, strict=True):
            middle = np.exp(raw_SK[:, exponent] * np.log(values).mean())
            raw_SK[:, amplitude] = spread * unit_SK[:, amplitude] * middle
        raw_SK[:, 0] = -float(loss.min()) + spread * unit_SK[:, 0]
        return raw_SK

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        return crossed(
            params_non_embedding=np.geomspace(3e7, 1e9, 5),
            vocab_size=(4096.0, 16384.0, 65536.0),
            characters=np.geomspace(2e8, 2e11, 5),
        )
