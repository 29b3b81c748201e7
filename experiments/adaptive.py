"""What does a forecast cost, by the runs that `llmscale next --auto` chooses and by the usual grid?

    .venv/bin/python experiments/adaptive.py [RESULTS]

Sweeps of one recipe (experiments/adaptive.toml): an IsoFLOP grid of three budgets and five sizes;
loops with a quarter and with half of its FLOPs; and what all are to forecast, a near-optimal run of
five times the grid's largest budget, with four seeds. Run again, it goes on where it was stopped.
Writes README.md and runs.parquet into results/adaptive; the sweeps are in its folder work."""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import llmscale
from llmscale.adaptive.state import Outcome, Round
from llmscale.explain.forecast.forecast import Forecast
from llmscale.measure.sweep.spec import SweepSpec, read_spec
from llmscale.quantity import format_count, parse_budget
from llmscale.runs.results_folder import ResultsFolder

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "experiments" / "adaptive.toml"
RESULTS = ROOT / "results" / "adaptive"
GRID = (1e11, 2.5e11, 6e11)
OPTIMUM, SPREAD = 40.0, 1.7
"""Tokens a parameter in the middle of each budget's five sizes, and how far they go on either side;
the smallest budget has room for no wider spread."""
TRUE_SIZE = "80k"
BEYOND = 5.0
"""The target costs so many times the largest budget of the grid."""
SHARES = (0.25, 0.5)
"""Of the grid's FLOPs, for two loops that know nothing of each other."""


@dataclass(frozen=True)
class Step:
    """What was spent by a way of choosing runs, and what it forecast then."""

    way: str
    runs: int
    flops: float
    found: Outcome


def main(results: str = str(RESULTS)) -> None:
    base, folder = read_spec(BASE), Path(results) / "work"
    grid = replace(base, sizes=(), flops=GRID, optimum=OPTIMUM, spread=SPREAD)
    flops = sum(run.flops for run in llmscale.sweep(grid, out=folder / "grid", yes=True).runs)
    true = llmscale.sweep(true_spec(base, folder), out=folder / "truth", yes=True).runs
    target: dict[str, Any] = {"params": true[0].params, "tokens": true[0].tokens}
    steps: list[Step] = []
    names = ["grid", "truth", *(f"loop-{100 * share:g}" for share in SHARES)]
    for share, name in zip(SHARES, names[2:], strict=True):
        budget = f"{share * flops:.3g}"
        loop = llmscale.adaptive_sweep(BASE, out=folder / name, budget=budget, yes=True, **target)
        steps += steps_of_loop(f"loop, {share:.0%} of the grid", loop.rounds)
    steps += steps_of_grid(folder / "grid", target)
    text = describe(steps, ResultsFolder(folder / "truth"), target)
    Path(results, "README.md").write_text(text, encoding="utf-8")
    tables = [ResultsFolder(folder / name).read_runs().assign(way=name) for name in names]
    pd.concat(tables).to_parquet(Path(results, "runs.parquet"), compression="zstd")
    print(text)


def true_spec(base: SweepSpec, folder: Path) -> SweepSpec:
    """The run that is to be forecast, with four seeds, at five times the grid's largest budget."""
    spec = replace(base, sizes=(TRUE_SIZE,), tokens=(parse_budget("40x"),), seeds=4)
    (run, *_) = llmscale.sweep(spec, out=folder / "truth", dry_run=True).plan.runs
    tokens = BEYOND * GRID[-1] / run.job.flops_per_token
    return replace(spec, tokens=(parse_budget(f"{tokens:.3g}"),))


def steps_of_loop(loop: str, rounds: tuple[Round, ...]) -> Iterator[Step]:
    """What each round of the loop had spent and forecast."""
    runs, flops = 0, 0.0
    for one in rounds:
        assert one.after is not None
        runs, flops = runs + len(one.runs), flops + (one.flops or 0.0)
        name = f"round {one.number}" if one.number else "start"
        yield Step(f"{loop}: {name}", runs, flops, one.after)


def steps_of_grid(folder: Path, target: dict[str, Any]) -> Iterator[Step]:
    """What the grid forecasts with its lower budgets, and with all."""
    frame = ResultsFolder(folder).read_runs()
    for count in range(2, len(GRID) + 1):
        some = frame[frame["flops"] <= 1.2 * GRID[count - 1]]
        found: Forecast = llmscale.predict(some, **target)
        assert found.fit is not None
        ends = float(found.loss), float(found.low), float(found.high)
        outcome = Outcome(found.fit.law.name, *ends)
        yield Step(f"grid, {count} budgets", len(some), float(some["flops"].sum()), outcome)


def describe(steps: list[Step], truth: ResultsFolder, target: dict[str, Any]) -> str:
    """The report: what was spent, what was forecast, and how far that is from what was measured."""
    runs = truth.read_runs()
    losses = runs["loss"].tolist()
    loss = sum(losses) / len(losses)
    N, D = (format_count(target[name]) for name in ("params", "tokens"))
    measured = ", ".join(f"{one:.4f}" for one in losses)
    lines = [
        "# What a forecast costs: chosen runs and the usual grid",
        "",
        "    python experiments/adaptive.py",
        "",
        f"On {runs['device'].iloc[0]}, {runs['dtype'].iloc[0]}; text {runs['data'].iloc[0]}. The "
        f"target, N = {N} on D = {D}, costs {BEYOND:g} times the largest budget of the grid; "
        f"measured with four seeds: {measured}, mean {loss:.4f}. Errors are of this mean.",
        "",
        "| runs by | runs | FLOPs | law | forecast | 90% interval | width | error | holds it |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in steps:
        found = one.found
        holds = "yes" if found.low <= loss <= found.high else "no"
        lines.append(
            f"| {one.way} | {one.runs} | {one.flops:.2e} | {found.law} | {found.loss:.4f} | "
            f"{found.low:.3f} to {found.high:.3f} | {found.width:.3f} | "
            f"{found.loss / loss - 1:+.2%} | {holds} |"
        )
    return "\n".join([*lines, "", conclusion(steps, losses), ""])


def conclusion(steps: list[Step], losses: list[float]) -> str:
    """What the last step of each way says, and how far to trust it."""
    loss = sum(losses) / len(losses)
    last = {one.way.partition(":")[0]: one for one in steps if one.way != "grid, 2 budgets"}
    said = []
    for way, one in last.items():
        error = abs(one.found.loss / loss - 1)
        said.append(f"{way} errs {error:.1%} ({one.flops:.2e} FLOPs, width {one.found.width:.2f})")
    spread = statistics.stdev(losses) / loss
    trust = f"This is one draw of each, of runs whose seeds differ by {spread:.1%} (one standard "
    return f"In the end: {'; '.join(said)}. {trust}deviation)."


if __name__ == "__main__":
    main(*sys.argv[1:])
