"""Do intervals hold if runs are not independent, and are they no wider if they are?

    .venv/bin/python experiments/dependence.py [TABLES [REFITS]]    by default 200 tables a cell,
    200 refits each

Chinchilla is fitted to simulated runs that it is the truth of, with 0.3% of Gaussian noise in ln L
a run, and 0.5% more that runs of one size, checkpoints of one run or branches of one trunk share.
Coverage of nominal 90% intervals: of E and alpha, of the exponent a of N* ∝ C^a, and of the law's
loss, within the runs and at ten times their largest N and D. `x` is the median width of alpha's
interval over what the same refits say if rows are taken for independent runs. Writes
results/dependence/dependence.json and README.md."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from coverage import ALPHA, BETA, LEVEL, Array, E, inside, right

from llmscale.explain.estimation import uncertainty
from llmscale.explain.estimation.dependence import Dependence, dependence
from llmscale.explain.estimation.levels import points
from llmscale.explain.estimation.result import Fit, percentiles, solved, with_coefficients
from llmscale.explain.fit import fit_law

RESULTS = Path(__file__).resolve().parents[1] / "results" / "dependence"
NOISE, SHARED = 0.003, 0.005
TRUTHS = {"E": E, "alpha": ALPHA}
COLUMNS = ("E", "alpha", "a", "loss", "loss 10x")


@dataclass(frozen=True)
class Layout:
    """Sizes, budgets, and runs of one size: each row a run, a checkpoint or a branch."""

    name: str
    sizes: int
    budgets: int
    shared_by: str = ""
    runs_a_size: int = 1

    def table(self, rng: np.random.Generator) -> pd.DataFrame:
        """Runs with what they share; rows of one run are named if the layout's name says so."""
        N, D, run = (
            values.ravel()
            for values in np.meshgrid(
                np.geomspace(1e8, 1e10, self.sizes),
                np.geomspace(2e9, 2e11, self.budgets),
                np.arange(self.runs_a_size),
                indexing="ij",
            )
        )
        noise = NOISE * rng.standard_normal(len(N))
        size = np.searchsorted(np.unique(N), N)
        trunk = size * self.runs_a_size + run
        if self.shared_by == "size":
            noise += SHARED * rng.standard_normal(self.sizes)[size]
        elif self.shared_by:
            noise += SHARED * rng.standard_normal(int(trunk.max()) + 1)[trunk]
        loss = right(N.astype(float), D.astype(float)) * np.exp(noise)
        frame = pd.DataFrame({"params": N, "tokens": D, "loss": loss})
        if self.shared_by in ("run", "parent"):
            frame[self.shared_by] = [f"trunk {number}" for number in trunk]
        return frame


LAYOUTS = (
    Layout("independent, 4 sizes x 3 budgets", 4, 3),
    Layout("independent, 5 sizes x 5 budgets", 5, 5),
    Layout("independent, 6 sizes x 6 budgets", 6, 6),
    Layout("independent, 8 sizes x 8 budgets", 8, 8),
    Layout("independent, 25 sizes x 10 budgets", 25, 10),
    Layout("sizes off by 0.5%, 6 sizes x 6 budgets", 6, 6, "size"),
    Layout("sizes off by 0.5%, 8 sizes x 8 budgets", 8, 8, "size"),
    Layout("sizes off by 0.5%, 25 sizes x 10 budgets", 25, 10, "size"),
    Layout("8 checkpoints of 20 runs", 20, 8, "run"),
    Layout("8 checkpoints of 20 runs, not named", 20, 8, "size"),
    Layout("4 branches of 24 trunks, 12 sizes", 12, 4, "parent", 2),
)


def main(tables: str = "200", refits: str = "200") -> None:
    started = time.perf_counter()
    cells = []
    for layout in LAYOUTS:
        cells.append({"layout": layout.name, **cell(layout, int(tables), int(refits))})
        print(f"{time.perf_counter() - started:.0f} s: {cells[-1]}", file=sys.stderr, flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    payload = {"level": LEVEL, "tables": int(tables), "refits": int(refits), "cells": cells}
    text = json.dumps(payload, indent=2) + "\n"
    (RESULTS / "dependence.json").write_text(text, encoding="utf-8")
    (RESULTS / "README.md").write_text(describe(cells, int(tables), int(refits)), encoding="utf-8")
    print(describe(cells, int(tables), int(refits)))


def cell(layout: Layout, tables: int, refits: int) -> dict[str, Any]:
    """Coverage as the tool answers and as if rows were independent, and how much wider it is."""
    rows, plain, wider, found = [], [], [], 0
    for number in range(tables):
        frame = layout.table(np.random.default_rng([number, layout.sizes, layout.budgets]))
        fit = fit_law(frame, "chinchilla", bootstrap=0, holdout="none", diagnostics=False)
        related = dependence(fit.table.frame, fit.law.inputs)
        drawn = refitted(fit, related, refits)
        apart = refitted(fit, rows_apart(fit), refits)
        rows.append(covered(fit, drawn.coefficients))
        plain.append(covered(fit, apart.coefficients))
        wider.append(width(fit, drawn.coefficients) / width(fit, apart.coefficients))
        found += any(note.code == "size-effect" for note in drawn.notes)
    means, of_plain = pd.DataFrame(rows).mean(), pd.DataFrame(plain).mean()
    return {
        **{name: float(means[name]) for name in COLUMNS},
        **{f"{name} as if independent": float(of_plain[name]) for name in COLUMNS},
        "wider": float(np.median(wider)),
        "size effect found": found / tables,
    }


def rows_apart(fit: Fit) -> Dependence:
    """Every row as a run of its own, if there are no seeds."""
    frame = fit.table.frame.assign(run_id=np.arange(len(fit.table.frame)))
    return Dependence(points(frame, fit.law.inputs), False, "points")


def refitted(fit: Fit, related: Dependence, refits: int) -> uncertainty.Replicates:
    surface, theta, log_loss = solved(fit)
    one = np.ones(len(log_loss))
    objective = fit.options.loss_function
    fitted = uncertainty.Fitted(surface, theta, log_loss, one, one, related, objective)
    return uncertainty.bootstrap(fitted, count=refits, seed=0, spread_word="seed noise")


def covered(fit: Fit, refits_BK: Array) -> dict[str, float]:
    names = fit.law.coefficient_names()
    low, high = percentiles(refits_BK, LEVEL)
    row = {}
    for name, value in TRUTHS.items():
        index = names.index(name)
        row[name] = inside((low[index], high[index]), value)
    laws = with_coefficients(fit.law, refits_BK)
    exponent = laws.alpha / (laws.alpha + laws.beta)  # type: ignore[attr-defined]
    row["a"] = held(1 - exponent.ravel(), BETA / (ALPHA + BETA))
    for where, N, D in (("loss", 1e9, 2e10), ("loss 10x", 1e11, 2e12)):
        losses = np.asarray(laws.loss(np.array([N]), np.array([D]))).ravel()
        row[where] = held(losses, float(right(np.array(N), np.array(D))))
    return row


def held(draws_B: Array, value: float) -> float:
    low, high = percentiles(draws_B.reshape(-1, 1), LEVEL)
    return inside((float(low[0]), float(high[0])), value)


def width(fit: Fit, refits_BK: Array) -> float:
    low, high = percentiles(refits_BK, LEVEL)
    index = fit.law.coefficient_names().index("alpha")
    return float(high[index] - low[index])


def describe(cells: list[dict[str, Any]], tables: int, refits: int) -> str:
    lines = [
        "# Intervals of runs that are not independent",
        "",
        f"Shares of nominal 90% intervals that held the truth over {tables} simulated tables a row "
        "(standard error about",
        "0.02), and in brackets what they hold if rows are taken for independent runs. `x` is the "
        "median width of alpha's",
        "interval over that of independent runs; `found` how often runs of one size were found to "
        "be off the law together.",
        "",
        f"    python experiments/dependence.py {tables} {refits}",
        "",
        f"| runs | {' | '.join(COLUMNS)} | x | found |",
        f"| {' | '.join(['---'] * (len(COLUMNS) + 3))} |",
    ]
    for row in cells:
        parts = [f"{row[name]:.2f} ({row[f'{name} as if independent']:.2f})" for name in COLUMNS]
        parts += [f"{row['wider']:.2f}", f"{row['size effect found']:.2f}"]
        lines.append(f"| {row['layout']} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
