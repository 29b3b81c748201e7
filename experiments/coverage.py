"""Do intervals hold what they promise, where the truth is known? Simulated tables, the right law
and two wrong ones.

    .venv/bin/python experiments/coverage.py [TABLES [REFITS]]      by default 200 tables a cell,
    200 refits each

Chinchilla is fitted to runs of 5 budgets, 1e18 to 1e20 FLOPs, spread by up to 6x around the best N,
with Gaussian noise in ln L whose size (0.3 to 1%) differs from table to table. The truth is
Chinchilla itself; or its floor falls by 3.4% a decade of FLOPs (`falling-floor`, what most public
tables look like); or the exponent of N turns from 0.45 to 0.25 at a size inside the runs (`bend`).
Coverage of nominal 90% intervals: of coefficients, of the exponent a of N* ∝ C^a, and of one new
run, inside the runs, at the next budget (3x), 10x and 100x ahead; plain and widened. Writes
results/coverage/coverage.json and README.md."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import LlmscaleError
from llmscale.explain.fit import fit_law
from llmscale.explain.forecast.forecast import forecast

Array = NDArray[np.float64]
RESULTS = Path(__file__).resolve().parents[1] / "results" / "coverage"
LEVEL = 0.9
RUNS = (10, 25, 60, 250)
BUDGETS = np.geomspace(1e18, 1e20, 5)
AHEAD = {"inside": 0.0, "next (3x)": 3e20, "10x": 1e21, "100x": 1e22}
E, A, B, ALPHA, BETA = 1.82, 478.0, 2143.0, 0.347, 0.367


def right(N: Array, D: Array) -> Array:
    return np.asarray(E + A / N**ALPHA + B / D**BETA)


def falling_floor(N: Array, D: Array) -> Array:
    return np.asarray(E * (6 * N * D / 1e19) ** -0.015 + A / N**ALPHA + B / D**BETA)


def bend(N: Array, D: Array) -> Array:
    knee = 5e8
    return np.asarray(
        E + A * knee**-ALPHA * (N / knee) ** -0.45 * (1 + (N / knee) ** 2) ** 0.1 + B / D**BETA
    )


TRUTHS: dict[str, Callable[[Array, Array], Array]] = {
    "right": right,
    "falling-floor": falling_floor,
    "bend": bend,
}


def main(tables: str = "200", refits: str = "200") -> None:
    started = time.perf_counter()
    cells: list[dict[str, Any]] = []
    for truth, loss in TRUTHS.items():
        for runs in RUNS:
            cells.append(
                {"truth": truth, "runs": runs, **cell(loss, truth, runs, int(tables), int(refits))}
            )
            print(
                f"{time.perf_counter() - started:.0f} s: {truth}, {runs} runs",
                file=sys.stderr,
                flush=True,
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    payload = {"level": LEVEL, "tables": int(tables), "refits": int(refits), "cells": cells}
    (RESULTS / "coverage.json").write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
    text = describe(cells, int(tables))
    (RESULTS / "README.md").write_text(text, encoding="utf-8")
    print(text)


def cell(
    loss: Callable[[Array, Array], Array], truth: str, runs: int, tables: int, refits: int
) -> dict[str, float]:
    """Mean coverage over the tables of one kind; for wrong laws coefficients have no truth to
    cover.
    """
    rows = []
    for number in range(tables):
        rng = np.random.default_rng([number, runs])
        noise = rng.uniform(0.003, 0.01)
        N, D = spread(np.repeat(BUDGETS, -(-runs // len(BUDGETS)))[:runs], loss, rng)
        measured = loss(N, D) * np.exp(noise * rng.standard_normal(runs))
        table = pd.DataFrame({"params": N, "tokens": D, "loss": measured})
        try:
            fit = fit_law(
                table, "chinchilla", bootstrap=refits, holdout="none", seed=number, level=LEVEL
            )
        except LlmscaleError:
            rows.append({"failed": 1.0})
            continue
        row = {"failed": 0.0}
        if truth == "right":
            for name, value in (("E", E), ("A", A), ("B", B), ("alpha", ALPHA), ("beta", BETA)):
                row[name] = inside(fit.intervals[name], value)
            optimal = fit.compute_optimal
            assert optimal is not None
            row["a"] = inside(optimal["intervals"]["a"], BETA / (ALPHA + BETA))
        for where, budget in AHEAD.items():
            flops = np.full(4, budget) if budget else rng.choice(BUDGETS, 4)
            at_N, at_D = spread(flops, loss, rng)
            new = loss(at_N, at_D) * np.exp(noise * rng.standard_normal(4))
            told = forecast(fit, params=at_N, tokens=at_D)
            row[f"{where} plain"] = float(
                np.mean((told.plain_low <= new) & (new <= told.plain_high))
            )
            row[f"{where} widened"] = float(np.mean((told.low <= new) & (new <= told.high)))
            width = np.log(told.high / told.low)
            row[f"{where} width"] = float(np.median(width))
            row[f"{where} ratio"] = float(
                np.median(width / np.log(told.plain_high / told.plain_low))
            )
        rows.append(row)
    frame = pd.DataFrame(rows)
    medians = [name for name in frame if name.endswith((" ratio", " width"))]
    means = frame.drop(columns=medians).mean()
    return {name: float(value) for name, value in {**means, **frame[medians].median()}.items()}


def spread(
    flops: Array, loss: Callable[[Array, Array], Array], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Runs of these FLOPs at sizes up to 6x above and below the best one."""
    grid = np.geomspace(1e6, 1e12, 1201)
    best = np.array([grid[np.argmin(loss(grid, budget / (6 * grid)))] for budget in flops])
    N = best * np.exp(rng.uniform(-np.log(6), np.log(6), len(flops)))
    return N, flops / (6 * N)


def inside(interval: tuple[float, float], value: float) -> float:
    return float(interval[0] <= value <= interval[1])


def describe(cells: list[dict[str, Any]], tables: int) -> str:
    lines = [
        "# Coverage where the truth is known",
        "",
        f"Shares of nominal 90% intervals that held the truth, or one new run, over {tables} "
        "simulated tables a row",
        "(standard error about 0.02); `x` is the median width of the widened interval over the "
        "plain one. Wrong truths",
        "have no coefficients to cover.",
        "",
        "    python experiments/coverage.py",
        "",
        "| truth | runs | E | alpha | beta | a | "
        f"{' | '.join(f'{where}: plain | widened | x' for where in AHEAD)} |",
        f"| {' | '.join(['---'] * (6 + 3 * len(AHEAD)))} |",
    ]
    for row in cells:
        parts = [str(row["truth"]), str(row["runs"])]
        parts += [f"{row[name]:.2f}" if name in row else "" for name in ("E", "alpha", "beta", "a")]
        parts += [
            f"{row[f'{where} {kind}']:.2f}"
            for where in AHEAD
            for kind in ("plain", "widened", "ratio")
        ]
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
