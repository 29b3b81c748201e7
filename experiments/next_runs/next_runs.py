"""How good forecasts are against the FLOPs that were spent on their runs, by who chose the runs.

    python experiments/next_runs/next_runs.py FOLDER [--out results/next-runs] [--simulated 3]

FOLDER holds public tables, a CSV each with params, tokens, loss and perhaps run. Each chooser
begins with the cheapest runs of a pool, buys up to a series of shares of what all of it costs, and
is judged by the error of `predict` for the targets, the width of its intervals and how many of
them hold."""

import argparse
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from choosers import CHOOSERS, Chooser, forecast
from pools import Pool, public_pools, simulated_pools

SHARES = (0.01, 0.03, 0.1, 0.2, 1 / 3, 2 / 3)
"""Of what the whole pool costs; the last, all of it, is the same for every chooser."""


def bought_by(chooser: Chooser, pool: Pool) -> Iterator[tuple[float, list[int]]]:
    """The runs that were bought by every share."""
    bought, total = list(pool.start), float(pool.cost.sum())
    for share in SHARES:
        left = share * total - float(pool.cost[bought].sum())
        if left > 0:
            bought = [*bought, *chooser(pool, bought, left)]
        yield share, bought


def judged(pool: Pool, bought: list[int]) -> dict[str, Any]:
    """Root mean square of the forecast's error in ln L, mean width of its interval in ln L, and the
    share of targets inside."""
    at = {name: pool.targets[name].to_numpy() for name in ("params", "tokens")}
    told, loss = forecast(pool, bought, at), pool.targets["loss"].to_numpy()
    assert told.fit is not None
    return {
        "law": told.fit.law.name,
        "runs": len(bought),
        "spent": float(pool.cost[bought].sum() / pool.cost.sum()),
        "error": float(np.sqrt(np.mean(np.log(told.loss / loss) ** 2))),
        "width": float(np.mean(np.log(told.high / told.low))),
        "inside": float(np.mean((told.low <= loss) & (loss <= told.high))),
    }


def curves(pool: Pool, names: list[str]) -> Iterator[dict[str, Any]]:
    """A row for every chooser and share, and one for all runs."""
    known = {"pool": pool.name, "family": pool.family, "seen": pool.seen}
    every = list(range(len(pool.runs)))
    yield {**known, "chooser": "all runs", "seed": 0, "share": 1.0, **judged(pool, every)}
    for name in names:
        for seed, chooser in enumerate(CHOOSERS[name]):
            for share, bought in bought_by(chooser, pool):
                row = {"chooser": name, "seed": seed, "share": share, **judged(pool, bought)}
                yield {**known, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/next-runs"))
    parser.add_argument("--simulated", type=int, default=3, help="seeds of each world")
    parser.add_argument("--only", default="", help="pools whose name holds this")
    parser.add_argument("--choosers", nargs="*", default=list(CHOOSERS), help="some of them")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    asked.out.mkdir(parents=True, exist_ok=True)
    for pool in chain(public_pools(asked.folder), simulated_pools(asked.simulated)):
        if asked.only in pool.name:
            rows += curves(pool, asked.choosers)
            print(pool.name, len(pool.runs), len(pool.targets), flush=True)
    pd.DataFrame(rows).to_csv(asked.out / "curves.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
