"""How much compute does Muon save over AdamW? The same ladder with each.

    .venv/bin/python experiments/optimizers.py [LADDER.toml [RESULTS]]

Sweeps experiments/optimizers.toml once with each optimiser, all else equal; run again, it goes on
where it was stopped. The compute multiplier is that of `llmscale compare`: each optimiser has a law
along the ladder, and runs pair by size and seed. C counts forward and backward passes; the
multiplier is also given with the matrix products of Muon's own steps counted, which are a large
share where batches and models are small. Both take the learning rates that were measured with
AdamW, so that better ones for Muon could only save more. Writes runs.parquet and README.md into
results/optimizers."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from multiplier import side_by_side

import llmscale
from llmscale.explain.recipes.comparison import RecipeComparison
from llmscale.measure.optimizers.muon import NEWTON_SCHULZ_STEPS

ROOT = Path(__file__).resolve().parents[1]
LADDER = ROOT / "experiments" / "optimizers.toml"
RESULTS = ROOT / "results" / "optimizers"
OPTIMIZERS = ("adamw", "muon")
BEYOND = 10
"""The multiplier is also given at so many times the largest compute."""


def main(ladder: str = str(LADDER), results: str = str(RESULTS)) -> None:
    folder = Path(results)
    runs = pd.concat(
        [sweep(Path(ladder), name, folder / name) for name in OPTIMIZERS], ignore_index=True
    )
    runs["muon"] = (runs["optimizer"] == "muon").astype(float)
    runs.to_parquet(folder / "runs.parquet", compression="zstd")
    text = describe(runs)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


def sweep(ladder: Path, optimizer: str, out: Path) -> pd.DataFrame:
    """The table of runs of the ladder trained with one optimiser."""
    command = [
        sys.executable,
        "-m",
        "llmscale",
        "sweep",
        str(ladder),
        "--optimizer",
        optimizer,
        "--out",
        str(out),
    ]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return pd.read_parquet(out / "runs.parquet")


def with_own_products(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` with the FLOPs of Muon's own matrix products added to theirs."""
    return runs.assign(flops=runs["flops"] + runs["muon"] * runs["steps"] * own_products(runs))


def own_products(runs: pd.DataFrame) -> "pd.Series[float]":
    """FLOPs of the matrix products of one Muon step: 4 r² c + 2 r³ an iteration for a matrix of r
    <= c.
    """
    C, F = runs["d_model"].astype(float), runs["d_ff"].astype(float)
    r, c = C.clip(upper=F), F.clip(lower=C)
    per_layer = 4 * 6 * C**3 + 3 * (4 * r**2 * c + 2 * r**3)
    return NEWTON_SCHULZ_STEPS * runs["n_layer"] * per_layer


def compared(runs: pd.DataFrame) -> RecipeComparison:
    """Muon against AdamW at the largest compute of the ladder, and at BEYOND times that."""
    at = BEYOND * runs.groupby("optimizer")["flops"].max().min()
    return llmscale.compare(runs, by="optimizer", baseline="adamw", at=at)


def describe(runs: pd.DataFrame) -> str:
    """The report: losses side by side, and the multiplier."""
    lines = [
        "# AdamW and Muon on one ladder",
        "",
        "    python experiments/optimizers.py",
        "    llmscale compare results/optimizers --by optimizer",
        "",
        "Means over seeds; `own` is what Muon's own matrix products add to the FLOPs of a run.",
        "",
        "| size | N | tokens | FLOPs | AdamW | Muon | difference | own | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    own = runs["steps"] * own_products(runs) / runs["flops"]
    for _, pair in runs.assign(own=own).groupby(["params", "tokens"]):
        mean = pair.groupby("optimizer")[["seconds", "own"]].mean()
        adamw, muon = mean.loc["adamw"], mean.loc["muon"]
        losses = side_by_side(pair, "optimizer", "adamw", "muon")
        lines.append(
            f"| {losses} | {muon['own']:.1%} | x {muon['seconds'] / adamw['seconds']:.2f} |"
        )
    smaller = runs[runs["params"] < runs["params"].max()]
    for table, counting in (
        (runs, "Counting the FLOPs of forward and backward passes"),
        (with_own_products(runs), "Counting Muon's own matrix products, too"),
        (smaller, "The first again without the largest size, whose difference stands out"),
    ):
        found = compared(table)
        lines += ["", f"{counting}, with {found.level:.0%} intervals:", ""]
        lines += [f"- {sentence}." for sentence in found.headlines]
        lines += [f"- {name}: {text}." for name, text in found.said()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
