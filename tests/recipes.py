"""Runs of simulated recipes, whose truth is known."""

import math
from typing import Any

import numpy as np
import pandas as pd

TOP = 1e20
SIZES = np.geomspace(1e7, 3e8, 6)


def ladder(
    k: float = 1.0,
    *,
    exponent: float = 0.15,
    noise: float = 0.002,
    common: float = 0.0,
    seeds: int = 2,
    seed: int = 0,
    sizes: Any = SIZES,
    floor: float = 1.6,
    **columns: Any,
) -> pd.DataFrame:
    """Runs with 20 tokens a parameter of a recipe that takes k times the compute at TOP; tables of
    one `seed` have a share of the noise in `common`."""
    N = np.repeat(sizes, seeds)
    C = 120.0 * N**2
    at_top = 0.8 * (TOP / C.max()) ** -0.15
    loss = floor + at_top * (C / (k * C.max())) ** -exponent
    one, own = np.random.default_rng(seed), np.random.default_rng([seed, round(1000 * k)])
    shared = math.sqrt(common) * one.standard_normal(len(N))
    loss = loss * np.exp(noise * (shared + math.sqrt(1 - common) * own.standard_normal(len(N))))
    runs = {"params": N, "tokens": 20.0 * N, "flops": C, "loss": loss}
    return pd.DataFrame({**runs, "seed": np.arange(len(N)) % seeds, **columns})


def grid(
    k: float = 1.0, *, noise: float = 0.002, seed: int = 0, of_tokens: float = 1800.0
) -> pd.DataFrame:
    """Runs of several tokens at each size; both terms of the law fall as if compute were C/k."""
    N, D = (axis.ravel() for axis in np.meshgrid(SIZES, np.geomspace(2e8, 6e9, 4)))
    loss = 1.7 + 400.0 * (N / math.sqrt(k)) ** -0.34 + of_tokens * (D / math.sqrt(k)) ** -0.34
    noisy = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return pd.DataFrame({"params": N, "tokens": D, "loss": noisy})


def two(**columns: Any) -> dict[str, pd.DataFrame]:
    """Two recipes with these columns, each a pair of values."""
    first, second = ladder(), ladder(0.8, seed=1)
    for name, (one, other) in columns.items():
        first[name], second[name] = one, other
    return {"a": first, "b": second}


def one_table(column: str, **columns: Any) -> pd.DataFrame:
    """Both recipes in one table, told apart by a column."""
    tables = two(**columns)
    return pd.concat([table.assign(**{column: name}) for name, table in tables.items()])
