"""Do intervals by profile likelihood hold what they promise, where the truth is known?

    .venv/bin/python experiments/profiles.py [TABLES]    by default 100 tables a cell

The tables are those of experiments/coverage.py, with 10, 25 and 60 runs, and Chinchilla is the
truth. Coverage of nominal 90% intervals of E, alpha and beta, with the objective of Huber (delta
1e-3, far below the noise of 0.3 to 1%) and with squares, and how often a profile did not settle.
Writes results/profiles/profiles.json and README.md."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from coverage import ALPHA, BETA, BUDGETS, LEVEL, E, inside, right, spread

from llmscale.errors import LlmscaleError
from llmscale.explain.estimation.profile import profile
from llmscale.explain.fit import fit_law

RESULTS = Path(__file__).resolve().parents[1] / "results" / "profiles"
RUNS, OBJECTIVES = (10, 25, 60), ("huber", "squared")
POINTS = 9
"""Values of a profile besides those next to its ends."""
TRUTHS = {"E": E, "alpha": ALPHA, "beta": BETA}


def main(tables: str = "100") -> None:
    started = time.perf_counter()
    cells = []
    for runs in RUNS:
        for objective in OBJECTIVES:
            cells.append(
                {"runs": runs, "objective": objective, **cell(runs, objective, int(tables))}
            )
            print(f"{time.perf_counter() - started:.0f} s: {cells[-1]}", file=sys.stderr)
    RESULTS.mkdir(parents=True, exist_ok=True)
    payload = {"level": LEVEL, "tables": int(tables), "cells": cells}
    text = json.dumps(payload, indent=2) + "\n"
    (RESULTS / "profiles.json").write_text(text, encoding="utf-8")
    (RESULTS / "README.md").write_text(describe(cells, int(tables)), encoding="utf-8")
    print(describe(cells, int(tables)))


def cell(runs: int, objective: str, tables: int) -> dict[str, float]:
    """Mean coverage over the tables of one kind."""
    rows = []
    for number in range(tables):
        rng = np.random.default_rng([number, runs])
        noise = rng.uniform(0.003, 0.01)
        N, D = spread(np.repeat(BUDGETS, -(-runs // len(BUDGETS)))[:runs], right, rng)
        measured = right(N, D) * np.exp(noise * rng.standard_normal(runs))
        table = pd.DataFrame({"params": N, "tokens": D, "loss": measured})
        options: dict[str, Any] = {"objective": objective, "holdout": "none", "level": LEVEL}
        try:
            fit = fit_law(table, "chinchilla", bootstrap=0, diagnostics=False, **options)
        except LlmscaleError:
            rows.append({"failed": 1.0})
            continue
        row = {"failed": 0.0, "not settled": 0.0}
        for name, value in TRUTHS.items():
            found = profile(fit, name, POINTS)
            row[name] = inside((found.low, found.high), value)
            row["not settled"] += (not found.settled) / len(TRUTHS)
        rows.append(row)
    return {name: float(value) for name, value in pd.DataFrame(rows).mean().items()}


def describe(cells: list[dict[str, Any]], tables: int) -> str:
    lines = [
        "# Coverage of profile likelihood",
        "",
        f"Shares of nominal 90% intervals that held the truth over {tables} simulated tables a row "
        f"(standard error about {np.sqrt(0.09 / tables):.2f}).",
        "",
        f"    python experiments/profiles.py {tables}",
        "",
        "| runs | objective | E | alpha | beta | not settled |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in cells:
        shares = " | ".join(f"{row[name]:.2f}" for name in (*TRUTHS, "not settled"))
        lines.append(f"| {row['runs']} | {row['objective']} | {shares} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
