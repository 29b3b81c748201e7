"""Loss in size and tokens where the lack of either need not add to that of the other: Chinchilla's
law with a power around its two terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import Array, Law, Surface
from llmscale.explain.laws._skaling import SkalingSurface
from llmscale.explain.laws._sum_of_powers import LogSumExp
from llmscale.explain.laws.chinchilla import Chinchilla


@dataclass(frozen=True)
class Skaling(Law):
    """L(N, D) = E + (A/N^alpha + B/D^beta)^k  (Videau et al. 2026, arXiv 2608.07222).

    k = 1 is Chinchilla's law, and without E and with beta = 1 it is Kaplan's. With endless tokens
    the loss falls as N^-(k alpha), with endless size as D^-(k beta). The published coefficients
    here are Chinchilla's with another k, for tests."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    k: float

    equation = "L = E + (A/N^alpha + B/D^beta)^k"
    source = "Videau et al. 2026"
    published = (1.8172, 4800.0, 12000.0, 0.53, 0.51, 0.65)
    inputs = ("params", "tokens")
    floor = "E"
    exponents = ("alpha", "beta")

    def loss(self, *inputs: Any) -> Any:
        N, D = inputs
        return self.E + (self.A / N**self.alpha + self.B / D**self.beta) ** self.k

    @classmethod
    def surface(cls, inputs: Sequence[Array], loss: Array, **settings: Any) -> Surface:
        terms, names = Chinchilla.terms, Chinchilla.coefficient_names()
        return SkalingSurface(LogSumExp(names, terms, inputs, loss))

    def compute_optimal(self) -> dict[str, Any] | None:
        """Chinchilla's a = beta/(alpha + beta): the optimum is that of the inner sum."""
        inner = Chinchilla(self.E, self.A, self.B, self.alpha, self.beta)
        return inner.compute_optimal()
