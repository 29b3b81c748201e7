"""ScaleBench: which runs of a pool to buy, so that a law forecasts costly ones (Li et al. 2026,
arXiv 2604.22753), by the batches of `llmscale next`.

    git clone https://github.com/PlanarG/active-sl && git -C active-sl checkout e0a58ff
    python experiments/scalebench/scalebench.py active-sl --tasks moe,farseer --repeats 3

Tables, laws, bounds, costs and targets are read from that checkout; the mark is theirs. The chooser
sees the targets' inputs, never their losses, and a run's loss once it is bought."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from box import Box
from laplace import Pool, plausible_optima, prospects_of, robust_scale
from misfit import Rows, Trust, surroundings
from optima import (
    LawAt,
    Measured,
    Optima,
    find_optima,
    scattered_starts,
)

from llmscale.explain.design.batch import Prices, best_batch
from llmscale.explain.laws import Array

TASKS = {
    "step-law": "lr_bsz_scaling_law",
    "moe": "moe_scaling_law",
    "data-constrained": "data_constrained_scaling_law",
    "farseer": "farseer_scaling_law",
    "vocabulary": "vocab_scaling_law",
    "parallel": "parallel_scaling_law",
    "sparsity": "sparsity_scaling_law",
}
BUDGETS = (0.01, 0.05, 0.1)
FIRST_SEED = 42
RUNS_A_COEFFICIENT = 2.5
"""Of the cheapest runs, with which to start, and at most half of the first budget."""
FIRST_NOISE, LEAST_NOISE = 0.05, 0.01
"""Of the losses, as shares of their spread: before any fit, and the least that is believed."""
STARTS, STARTS_BETWEEN, WARM = 24, 6, 6
SHARE_A_BATCH, MOST_A_BATCH = 0.25, 16
"""A batch spends this share of what is left, in at most so many runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="of github.com/PlanarG/active-sl")
    parser.add_argument("--tasks", default="step-law,moe,data-constrained,farseer")
    parser.add_argument("--laws", default="", help="like sl_1,sl_2; all if left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--stand-ins",
        action="store_true",
        help="ask for the costliest runs of the pool, not for the targets: for choosing settings",
    )
    parser.add_argument("--out", type=Path, help="a JSON file for every mark")
    asked = parser.parse_args()
    sys.path.insert(0, str(asked.checkout))
    marks: dict[str, Any] = {}
    for name in asked.tasks.split(","):
        marks[name] = {}
        for task in _tasks(TASKS[name], asked.laws, asked.stand_ins):
            started = time.process_time()
            marks[name][task.sl_id] = [
                mark(task, FIRST_SEED + repeat) for repeat in range(asked.repeats)
            ]
            of_law = np.mean(marks[name][task.sl_id], axis=0).round(3)
            print(name, task.sl_id, of_law, f"{time.process_time() - started:.0f} s", flush=True)
        everything = np.concatenate(list(marks[name].values()))
        print(name, "mean", everything.mean(axis=0).round(3), flush=True)
        if asked.out is not None:
            asked.out.write_text(json.dumps(marks, indent=1) + "\n")


def mark(task: Any, seed: int) -> list[float]:
    """R² on the targets at each budget, over the groups of the task, between -1 and 1."""
    budgets = task.budget_checkpoints or BUDGETS
    said = [list(forecasts(task, group, budgets, seed)) for group in task.groups]
    losses = np.concatenate([group.y_test for group in task.groups])
    by_budget = [np.concatenate(parts) for parts in zip(*said, strict=True)]
    return [_r_squared(losses, forecast) for forecast in by_budget]


def forecasts(task: Any, group: Any, budgets: tuple[float, ...], seed: int) -> Iterator[Array]:
    """Of the targets, by the best single fit to what each budget buys."""
    low, high = np.array(task.param_bounds, dtype=float).T
    law, box = _law_at(task), Box(low, high)
    cost = group.cost_train / group.cost_train.sum()
    about = surroundings(group.X_train, group.X_test, Trust())
    generator = np.random.default_rng(seed)
    bought = _cheapest(cost, int(RUNS_A_COEFFICIENT * len(low)), budgets[0] / 2)
    warm, scale, noise = np.zeros((0, len(low))), None, FIRST_NOISE
    for budget in budgets:
        starts = STARTS
        while True:
            rows = np.array(bought)
            pool = Pool(group.X_train, group.X_test, about.misfit(noise))
            whitening, losses = pool.misfit.at(rows).whitening, group.y_train[rows]
            runs = Measured(law, box, pool.inputs[rows], losses, whitening, scale)
            optima = _refit(runs, warm, starts, generator)
            warm, scale = optima.z[:WARM], robust_scale(runs, optima.z[0])
            noise = float(np.clip(scale / runs.spread, max(noise / 2, LEAST_NOISE), noise * 2))
            batch = _batch(runs, rows, optima, pool, cost, budget)
            if not batch:
                break
            bought, starts = [*bought, *batch], STARTS_BETWEEN
        optima = _refit(runs, warm, STARTS, generator)
        yield law(box.coefficients(optima.z[:1]), pool.targets)[0][0]


def _refit(runs: Measured, warm: Array, count: int, generator: np.random.Generator) -> Optima:
    fresh = scattered_starts(count, len(runs.box.low), generator)
    return find_optima(runs, np.vstack([warm, fresh]))


def _batch(
    runs: Measured, rows: Rows, optima: Optima, pool: Pool, cost: Array, budget: float
) -> list[int]:
    """The next rows of the pool, or none if nothing more can be paid."""
    left = budget - cost[rows].sum()
    open_to = np.setdiff1d(np.flatnonzero(cost <= left), rows)
    if not len(open_to):
        return []
    prospects = prospects_of(plausible_optima(runs, rows, optima, pool, open_to))
    prices = _once(cost[open_to])
    for spend, most in ((SHARE_A_BATCH * left, MOST_A_BATCH), (left, 1)):
        batch = best_batch(prospects, prices, spend, most, worth=0.0)
        if batch:
            return [int(open_to[one.run]) for one in batch]
    return []


def _once(cost: Array) -> Prices:
    """These, and more than any budget for what was bought."""

    def prices(bought: tuple[int, ...]) -> Array:
        left = cost.copy()
        left[list(bought)] = np.inf
        return left

    return prices


def _cheapest(cost: Array, count: int, budget: float) -> list[int]:
    order = np.argsort(cost, kind="stable")[:count]
    affordable = int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))
    return [int(row) for row in order[: max(affordable, 1)]]


def _tasks(dataset: str, laws: str, stand_ins: bool) -> list[Any]:
    from benchmark.task import load_tasks_for_dataset  # type: ignore[import-not-found]

    tasks = load_tasks_for_dataset(dataset)
    if stand_ins:
        for group in tasks[0].groups:  # the groups are shared by the laws
            _ask_for_costliest(group)
    return [task for task in tasks if not laws or task.sl_id in laws.split(",")]


def _ask_for_costliest(group: Any) -> None:
    """As many of the pool's runs as there are targets become the targets, and leave the pool."""
    least = np.sort(group.cost_train)[-len(group.y_test)]
    dear = group.cost_train >= least
    group.X_test, group.y_test = group.X_train[dear], group.y_train[dear]
    group.X_train, group.y_train = group.X_train[~dear], group.y_train[~dear]
    group.cost_train = group.cost_train[~dear]


def _law_at(task: Any) -> LawAt:
    """Theirs drop the first axis if there is one set of coefficients."""

    def law(coefficients: Array, inputs: Array) -> tuple[Array, Array]:
        losses, slopes = task.model_fn(coefficients, inputs)
        shape = (len(coefficients), len(inputs))
        return np.reshape(losses, shape), np.reshape(slopes, (*shape, -1))

    return law


def _r_squared(losses: Array, forecast: Array) -> float:
    if not np.isfinite(forecast).all():
        return -1.0
    missed = float(np.sum(np.square(losses - forecast)))
    return float(np.clip(1 - missed / np.sum(np.square(losses - losses.mean())), -1, 1))


if __name__ == "__main__":
    main()
