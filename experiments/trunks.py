"""Do cooldown branches of one trunk give the losses of runs trained from the start, and what do
they save?

    .venv/bin/python experiments/trunks.py [LADDER.toml [RESULTS]]

Sweeps experiments/trunks.toml twice: with trunks, where the budgets of a size share batch, learning
rate and warm-up, and with `--no-trunk`, where each has its own by the rule. Run again, it goes on
where it was stopped. Also plans six sizes by five budgets, for what that would save. Writes
runs.parquet and README.md into results/trunks."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from llmscale.quantity import format_count
from llmscale.runs.run import RUN_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
LADDER = ROOT / "experiments" / "trunks.toml"
RESULTS = ROOT / "results" / "trunks"
PLANNED = "10k,25k,60k,140k,330k,1M"
WAYS: dict[str, tuple[str, ...]] = {"trunk": (), "alone": ("--no-trunk",)}
GOAL = 0.005
"""Losses of branches and of runs trained from the start are to be this close."""


def main(ladder: str = str(LADDER), results: str = str(RESULTS)) -> None:
    folder = Path(results)
    plans = {
        name: llmscale("sweep", ladder, *more, "--out", folder / name, "--dry-run")
        for name, more in WAYS.items()
    }
    runs = pd.concat(
        [sweep(Path(ladder), folder / name, more).assign(way=name) for name, more in WAYS.items()]
    )
    planned = llmscale(
        "sweep", ladder, "--sizes", PLANNED, "--out", folder / "planned", "--dry-run"
    )
    runs[[*RUN_COLUMNS, "way"]].to_parquet(folder / "runs.parquet", compression="zstd")
    called = shlex.join(["python", "experiments/trunks.py", *sys.argv[1:]])
    text = describe(called, runs, plans["trunk"], planned)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


def sweep(ladder: Path, out: Path, more: tuple[str, ...]) -> pd.DataFrame:
    """The table of runs of the ladder, trained in one of the two ways."""
    llmscale("sweep", ladder, *more, "--out", out, "--yes")
    return pd.read_parquet(out / "runs.parquet")


def llmscale(*arguments: Any) -> dict[str, Any]:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "llmscale", *map(str, arguments), "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    payload: dict[str, Any] = json.loads(finished.stdout)
    return payload


def describe(called: str, runs: pd.DataFrame, plan: dict[str, Any], planned: dict[str, Any]) -> str:
    """The report: both losses of every run, and what was saved."""
    lines = [
        "# Branches of a trunk, and runs trained from the start",
        "",
        f"    {called}",
        "",
        f"On {runs['device'].iloc[0]}, {runs['dtype'].iloc[0]}; text {runs['data'].iloc[0]}. "
        "`batch` is in tokens, for branches and from the start.",
        "",
        "| size | N | tokens | batch | loss of the branch | from the start | difference | "
        "standard error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    apart = []
    for _, pair in runs.groupby(["params", "tokens", "seed"]):
        branch, alone = (pair[pair["way"] == way].iloc[0] for way in WAYS)
        apart.append(branch["loss"] / alone["loss"] - 1)
        cells = (
            branch["size"],
            f"{branch['params']:,}",
            format_count(branch["tokens"]),
            f"{branch['batch_tokens']:,}, {alone['batch_tokens']:,}",
            f"{branch['loss']:.4f}",
            f"{alone['loss']:.4f}",
            f"{apart[-1]:+.2%}",
            f"{branch['loss_stderr'] / branch['loss']:.2%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    seconds = runs.groupby("way")["seconds"].sum()
    largest = max(map(abs, apart))
    lines += [
        "",
        f"The largest difference is {largest:.2%} (goal {GOAL:.1%}), the mean "
        f"{sum(apart) / len(apart):+.2%}.",
        "",
        f"FLOPs: {plan['flops']:.3g} with trunks, {plan['flops'] * plan['saving']:.3g} from the "
        f"start, {plan['saving']:.2f} times as many; seconds of training, evaluations included: "
        f"{seconds['trunk']:.0f} and {seconds['alone']:.0f}. Six sizes ({PLANNED}) by the same "
        f"five budgets would take {planned['saving']:.2f} times as many FLOPs from the start.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
