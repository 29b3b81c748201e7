"""How much compute does Muon save over AdamW? The same ladder with each, and one law for both.

    .venv/bin/python experiments/optimizers.py [LADDER.toml [RESULTS]]

Sweeps experiments/optimizers.toml once with each optimiser, all else equal; run again, it goes on
where it was stopped. Both laws are L = E + A/(k C)^alpha with E, A and alpha shared and k = 1 for
AdamW: to reach any loss, Muon needs 1/k of AdamW's compute (a law with shared exponents for two
recipes, as in Volkova et al. 2026). The interval of k is by bootstrap. C counts forward and
backward passes; k is also given with the matrix products of Muon's own steps counted, which are a
large share where batches and models are small. Both take the learning rates that were measured with
AdamW, so that better ones for Muon could only raise k. Writes runs.parquet and README.md into
results/optimizers."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from multiplier import LEVEL, multiplied, side_by_side, worth

from llmscale.explain.fit import Fit, Options
from llmscale.explain.fit.groups import Groups, fit_groups
from llmscale.explain.table import groups, read_table
from llmscale.measure.optimizers.muon import NEWTON_SCHULZ_STEPS

ROOT = Path(__file__).resolve().parents[1]
LADDER = ROOT / "experiments" / "optimizers.toml"
RESULTS = ROOT / "results" / "optimizers"
OPTIMIZERS = ("adamw", "muon")


def main(ladder: str = str(LADDER), results: str = str(RESULTS)) -> None:
    folder = Path(results)
    runs = pd.concat(
        [sweep(Path(ladder), name, folder / name) for name in OPTIMIZERS], ignore_index=True
    )
    runs["muon"] = (runs["optimizer"] == "muon").astype(float)
    runs.to_parquet(folder / "runs.parquet", compression="zstd")
    options = Options(variable="flops", level=LEVEL, holdout="none")
    by_optimizer = fit_groups(
        groups(read_table(runs), "optimizer"), "optimizer", "power-floor", options
    )
    fits = [multiplied(table, runs["muon"] == 1) for table in (runs, with_own_products(runs))]
    text = describe(runs, by_optimizer, *fits)
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


def describe(runs: pd.DataFrame, by_optimizer: Groups, plain: Fit, counted: Fit) -> str:
    """The report: losses side by side, both laws, and the multiplier."""
    lines = [
        "# AdamW and Muon on one ladder",
        "",
        "    python experiments/optimizers.py",
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
    lines += ["", "Each law by itself:", ""]
    lines += [f"- {name}: {fit.law}" for name, fit in by_optimizer.fits.items()]
    lines += ["", *(f"{note}." for note in by_optimizer.notes)]
    lines += ["", f"One law for both: {plain.law}.", ""]
    for fit, counting in (
        (plain, "of forward and backward passes"),
        (counted, "with Muon's own matrix products"),
    ):
        lines.append(f"- Counting the FLOPs {counting}, Muon is worth {worth(fit)}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
