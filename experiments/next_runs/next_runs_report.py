"""The table and the figure of what next_runs.py measured.

python experiments/next_runs/next_runs_report.py results/next-runs"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

ALL = "all runs"
SHOWN = (
    "next_runs",
    "misfit off",
    "V-optimal",
    "random",
    "largest first",
    "smallest first",
    "IsoFLOP grid",
)
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#6e6e6e", "#1a1a1a")
OURS = SHOWN[0]
NEAR = 1.1
"""An error of at most this many times that of all runs is as good."""
RESAMPLED = 2000


def measured(folder: Path) -> pd.DataFrame:
    """The rows of curves.csv, with each error as a ratio to that of all runs of the pool."""
    frame = pd.read_csv(folder / "curves.csv")
    every = frame[frame["chooser"] == ALL].set_index("pool")["error"]
    frame = frame[frame["chooser"] != ALL].copy()
    frame["of_all"] = frame["pool"].map(every)
    frame["log_ratio"] = np.log(frame["error"] / frame["of_all"])
    frame["as_good"] = frame["log_ratio"] <= np.log(NEAR)
    frame["kind"] = np.where(frame["pool"].str.contains(", seed"), "simulated", "public")
    return frame


def table(frame: pd.DataFrame, value: str, written: str) -> str:
    """The mean of a column by chooser and share; of logarithms the geometric mean of what they are
    of."""
    means = frame.groupby(["chooser", "share"])[value].mean().unstack()
    if value.startswith("log_"):
        means = np.exp(means)
    return in_markdown(means.loc[list(SHOWN)], written.format)


def in_markdown(frame: pd.DataFrame, written: Callable[[Any], str]) -> str:
    """A row a chooser and a column a share."""
    lines = ["| chooser | " + " | ".join(f"{100 * one:.0f}%" for one in frame.columns) + " |"]
    lines.append("| --- |" + " --- |" * len(frame.columns))
    for name, values in frame.iterrows():
        lines.append(f"| {name} | " + " | ".join(map(written, values)) + " |")
    return "\n".join(lines)


def pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """By chooser and share the root mean square of the errors, over the pools of a family, as a
    ratio to that of all runs; the geometric mean of the families. In a mean of the ratios of pools
    one whose error is nil by chance counts as much as ten others, and here hardly."""
    squares = frame.assign(error=frame["error"] ** 2, of_all=frame["of_all"] ** 2)
    means = squares.groupby(["chooser", "share", "family"])[["error", "of_all"]].mean()
    logs = 0.5 * np.log(means["error"] / means["of_all"])
    return np.exp(logs.groupby(["chooser", "share"]).mean()).unstack()


def beside_ours(frame: pd.DataFrame) -> pd.DataFrame:
    """How many times that of ours the pooled error of each other chooser is, with a 90% interval:
    what other pools of the same families would give (bootstrap)."""
    rng = np.random.default_rng(0)
    squares = frame.assign(error=frame["error"] ** 2)
    of = squares.groupby(["family", "pool", "chooser", "share"])["error"].mean()
    by_pool = of.unstack(["chooser", "share"])
    families = [rows.to_numpy() for _, rows in by_pool.groupby("family")]

    def ratios(draw: bool) -> pd.DataFrame:
        logs = []
        for rows in families:
            some = rng.integers(len(rows), size=len(rows)) if draw else np.arange(len(rows))
            logs.append(0.5 * np.log(rows[some].mean(axis=0)))
        mean = pd.Series(np.mean(logs, axis=0), by_pool.columns).unstack("share")
        return np.exp(mean.loc[list(SHOWN[1:])] - mean.loc[OURS])

    found = ratios(draw=False).astype(object)
    drawn = [ratios(draw=True).to_numpy() for _ in range(RESAMPLED)]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    for row, column in np.ndindex(found.shape):
        ends = f"[{low[row, column]:.2f}, {high[row, column]:.2f}]"
        found.iloc[row, column] = f"{found.iloc[row, column]:.2f} {ends}"
    return found


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Pooled errors against FLOPs spent, one panel a kind of pool."""
    kinds = [
        ("public tables that it was made with", frame[(frame["kind"] == "public") & frame["seen"]]),
        ("other public tables", frame[(frame["kind"] == "public") & ~frame["seen"]]),
        ("simulated laws", frame[frame["kind"] == "simulated"]),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    for ax, (title, some) in zip(axes, kinds, strict=True):
        ratios = pooled(some)
        for name, colour in zip(SHOWN, COLOURS, strict=True):
            spent = [*some[some["chooser"] == name].groupby("share")["spent"].mean(), 1.0]
            ratio = [*ratios.loc[name], 1.0]
            bold = name == "next_runs"
            ax.plot(
                spent, ratio, "o-", color=colour, label=name,
                lw=2.2 if bold else 1.1, ms=4 if bold else 2.5, zorder=5 if bold else 3,
            )  # fmt: skip
        ax.axhline(1.0, color="#6e6e6e", lw=0.7, ls=":")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_yticks([1, 2, 3, 5, 8], ["1", "2", "3", "5", "8"])
        ax.minorticks_off()
        ax.set_xticks([0.01, 0.03, 0.1, 0.33, 1], ["1%", "3%", "10%", "33%", "100%"])
        ax.set_title(f"{some['pool'].nunique()} pools: {title}", fontsize=9)
        ax.set_xlabel("FLOPs spent, of those of all runs")
        ax.grid(color="#e4e4e4", lw=0.5)
        ax.set_axisbelow(True)
    axes[0].set_ylabel("forecast error, next to that of all runs")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=7,
        fontsize=8,
        frameon=False,
    )
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    frame = measured(folder)
    groups = {
        "public tables": frame[frame["kind"] == "public"],
        "of these, no setting was chosen on": frame[(frame["kind"] == "public") & ~frame["seen"]],
        "simulated": frame[frame["kind"] == "simulated"],
    }
    for title, some in groups.items():
        print(f"\n## {title}: {some['pool'].nunique()} pools\n")
        print("Error, root mean square of a family, as a ratio to that of all runs:\n")
        print(in_markdown(pooled(some).loc[list(SHOWN)], "{:.2f}".format))
        print("\nThe same, as a ratio to that of next_runs, with 90% intervals:\n")
        print(in_markdown(beside_ours(some), str))
        print("\nError, as a ratio to that of all runs, geometric mean of the pools:\n")
        print(table(some, "log_ratio", "{:.2f}"))
        print(f"\nShare of pools within {NEAR:g}x:\n\n" + table(some, "as_good", "{:.0%}"))
        some = some.assign(log_width=np.log(some["width"]))
        print("\nWidth of 90% intervals, of the loss:\n\n" + table(some, "log_width", "{:.3f}"))
        print("\nTargets inside:\n\n" + table(some, "inside", "{:.0%}"))
    draw(frame, folder / "error-against-flops.png")


if __name__ == "__main__":
    main()
