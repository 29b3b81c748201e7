"""Loss on one text in the shares of the sources that a model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llmscale.explain.laws import Array
from llmscale.explain.laws._mixture import DATA, OfShares


@dataclass(frozen=True)
class Mixture(OfShares):
    """L(r) = c + k exp(sum_j t_j r_j)  (Ye et al. 2024, "Data Mixing Laws", eq. 6).

    r_j is the share of source j, at one size and one budget. Shares add up to 1, so that one slope
    is free: that of the last source is 0, and the others are differences from it. With two sources
    only the share of one is left, the column `share`. A table with columns `share_NAME` gets a
    slope t_NAME for each of them but the last."""

    c: float
    k: float
    t: float

    equation = "L = c + k exp(t r), r the share of one of two sources, or a sum over several"
    source = "Ye et al. 2024, eq. 6"
    published = (1.9, 1.3, -3.2)
    inputs = ("share",)
    may_be_zero = ("share",)
    floor = "c"
    signed = ("t",)
    explained = DATA
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"t": (-10.0, 10.0)}

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        shares = np.repeat(np.linspace(0.0, 1.0, 12), 2)
        return {"share": shares, "params": np.full(24, 1e8), "tokens": np.full(24, 1e10)}
