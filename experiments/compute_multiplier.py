"""The law of two recipes of which one saves compute, for cleaning.py and optimizers.py."""

from dataclasses import dataclass
from typing import Any

from llmscale.explain.laws import Law


def multiplied(second: str) -> type[Law]:
    """Two recipes on one law of compute, of which the second is worth `k` times its compute. The
    column `second` is 1 for its runs, and 0 for the others."""

    @dataclass(frozen=True)
    class Multiplied(Law):
        E: float
        A: float
        alpha: float
        k: float

        equation = f"L = E + A/(k^{second} C)^alpha"
        source = "after Volkova et al. 2026"
        inputs = ("flops", second)
        may_be_zero = (second,)
        floor = "E"
        exponents = ("alpha",)

        def loss(self, *inputs: Any) -> Any:
            C, is_second = inputs
            return self.E + self.A / (self.k**is_second * C) ** self.alpha

    return Multiplied
