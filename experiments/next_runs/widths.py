"""How much of the narrowing that `llmscale next` expects of a batch comes true.

    python experiments/next_runs/widths.py FOLDER [--simulated 8]

FOLDER is that of next_runs.py. From every pool batches are bought, each by what the runs before it
say, up to a third of what all runs cost; the width of the interval after a batch is compared with
the one that was expected. Printed for every other family, and for the others."""

import argparse
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from choosers import BATCH, LAW, ByDesign, forecast
from pools import Pool, public_pools, simulated_pools

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 1 / 3)
EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, np.inf)
"""Of the narrowing that is expected, in ln of the width."""


def narrowings(pool: Pool) -> Iterator[dict[str, object]]:
    """Of each batch: by how much ln of the width was expected to fall, and by how much it did."""
    bought, total = list(pool.start), float(pool.cost.sum())
    width = _width(pool, bought)
    for share in SHARES:
        left = share * total - float(pool.cost[bought].sum())
        batch, expected = ByDesign().batch(pool, bought, left, BATCH)
        if not batch:
            continue
        bought = [*bought, *batch]
        before, width = width, _width(pool, bought)
        told, got = np.log(before / expected), np.log(before / width)
        yield {"family": pool.family, "expected": told, "real": got}


def _width(pool: Pool, bought: list[int]) -> float:
    """In ln L, at the target."""
    told = forecast(pool, bought, pool.target, LAW)
    return float(np.log(told.high / told.low))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--simulated", type=int, default=8, help="seeds of each world")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    pools = chain(public_pools(asked.folder), simulated_pools(asked.simulated))
    frame = pd.DataFrame([row for pool in pools for row in narrowings(pool)])
    half = frame["family"].map({name: k % 2 for k, name in enumerate(frame["family"].unique())})
    for name, some in frame.groupby(half):
        share = (some["real"] * some["expected"]).sum() / (some["expected"] ** 2).sum()
        print(f"\nhalf {name}: {', '.join(some['family'].unique())}")
        print(f"{len(some)} batches; {share:.2f} of the narrowing comes true (least squares)")
        bins = some.groupby(pd.cut(some["expected"], EDGES), observed=True)
        print(bins[["expected", "real"]].mean().assign(batches=bins.size()).round(3).to_string())


if __name__ == "__main__":
    main()
