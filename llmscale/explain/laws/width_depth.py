"""Loss in width, depth, size and tokens: a term for each."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import Array, crossed
from llmscale.explain.laws._sum_of_powers import SumOfPowers


@dataclass(frozen=True)
class WidthDepth(SumOfPowers):
    """L(w, l, N, D) = E + A/w^alpha + B/l^beta + F/N^gamma + G/D^zeta  (McLeish et al. 2025).

    w is the width of the residual stream, l the number of layers. The coefficients here are of that
    kind, for tests."""

    E: float
    A: float
    B: float
    F: float
    G: float
    alpha: float
    beta: float
    gamma: float
    zeta: float

    equation = "L = E + A/w^alpha + B/l^beta + F/N^gamma + G/D^zeta, w width, l layers"
    source = "McLeish et al. 2025"
    published = (1.7, 12.0, 0.8, 300.0, 2000.0, 0.6, 0.9, 0.31, 0.36)
    inputs = ("width", "depth", "params", "tokens")
    floor = "E"
    exponents = ("alpha", "beta", "gamma", "zeta")
    terms = (
        ("E", {}),
        ("A", {0: "alpha"}),
        ("B", {1: "beta"}),
        ("F", {2: "gamma"}),
        ("G", {3: "zeta"}),
    )

    def loss(self, *inputs: Any) -> Any:
        width, depth, N, D = inputs
        shape = self.A / width**self.alpha + self.B / depth**self.beta
        return self.E + shape + self.F / N**self.gamma + self.G / D**self.zeta

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        runs = crossed(
            width=(64.0, 256.0, 1024.0, 4096.0),
            depth=(2.0, 6.0, 20.0, 60.0),
            tokens=(1e8, 1e9, 1e10, 1e11),
        )
        # Heads, gates and embeddings: counts at equal width and depth differ.
        wide = 12.0 * runs["depth"] * runs["width"] ** 2
        return {**runs, "params": wide + 3e4 * runs["width"] * (1 + runs["depth"] % 4)}
