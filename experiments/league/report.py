"""What the league found: a README with its tables, the same as JSON, and one figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from llmscale.errors import counted

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NEAR_OPTIMAL = 0.01
"""Runs with a loss this share above the lowest of their budget."""
DISTANCES = {
    "1 to 3x": (1, 3),
    "3 to 10x": (3, 10),
    "7 to 15x": (7, 15),
    "10 to 100x": (10, 100),
}
REFERENCE = "chinchilla"
"""Whose plain intervals widths are ratios to."""
KINDS = {
    "clean": {"broken": False},
    "broken recipes": {"broken": True},
    "clean, seen": {"broken": False, "seen": True},
    "clean, not seen": {"broken": False, "seen": False},
    "broken recipes, seen": {"broken": True, "seen": True},
    "broken recipes, not seen": {"broken": True, "seen": False},
}


def write(folder: Path, held: pd.DataFrame, laws: Sequence[str]) -> None:
    two = with_measures(held[held["variables"] == 2])
    rows = table(two, laws)
    one = slices(held[held["variables"] == 1])
    each = by_table(two)
    payload = {"tables": each, "distances": rows, "one_variable": one}
    (folder / "league.json").write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(two, rows, one, each, laws), encoding="utf-8")
    draw(folder / "error.png", two, laws)


def with_measures(held: pd.DataFrame) -> pd.DataFrame:
    """Error and width of every prediction, in percent of the loss, and whether it held."""
    ratio = np.exp(held["horizon"])
    error = 100 * np.log(held["predicted"] / held["loss"])
    held = held.assign(ahead=ratio, error=error, size=error.abs())
    held["plain"] = (held["plain_low"] <= held["loss"]) & (held["loss"] <= held["plain_high"])
    held["held"] = (held["low"] <= held["loss"]) & (held["loss"] <= held["high"])
    held["plain_width"] = 100 * np.log(held["plain_high"] / held["plain_low"])
    held["width"] = 100 * np.log(held["high"] / held["low"])
    key = ["series", "origin", "run_id", "budget"]
    reference = held[held["law"] == REFERENCE].drop_duplicates(key).set_index(key)["plain_width"]
    held = held.join(reference.rename("reference"), on=key)
    return held.assign(ratio=held["width"] / held["reference"])


def table(held: pd.DataFrame, laws: Sequence[str]) -> list[dict[str, Any]]:
    """One row a kind of table, law, distance, and near-optimal runs or all: means over tables."""
    rows = []
    for kind, chosen in {"all": {}, **KINDS}.items():
        some = held
        for name, value in chosen.items():
            some = some[some[name] == value]
        for words, (low, high) in DISTANCES.items():
            at = some[(some["ahead"] > low) & (some["ahead"] <= high)]
            for which, runs in (("near-optimal", at[at["excess"] <= NEAR_OPTIMAL]), ("all", at)):
                for law in laws:
                    mine = runs[runs["law"] == law]
                    if len(mine):
                        about = {"kind": kind, "distance": words, "runs": which, "law": law}
                        rows.append(about | measures(mine))
    return rows


def measures(runs: pd.DataFrame) -> dict[str, Any]:
    by = runs.groupby("series")
    means = {
        "error": by["size"].mean().mean(),
        "bias": by["error"].mean().mean(),
        "plain": by["plain"].mean().mean(),
        "held": by["held"].mean().mean(),
        "width": by["width"].median().mean(),
        "ratio": by["ratio"].median().mean(),
    }
    counts = {"tables": int(runs["series"].nunique()), "n": len(runs)}
    return counts | {name: float(f"{value:.4g}") for name, value in means.items()}


def by_table(held: pd.DataFrame) -> list[dict[str, Any]]:
    """The error of near-optimal runs 7 to 15x ahead, or all that there are, one row a table."""
    near = held[held["excess"] <= NEAR_OPTIMAL]
    rows = []
    for name, runs in near.groupby("series"):
        far = runs[(runs["ahead"] > 7) & (runs["ahead"] <= 15)]
        errors = far.groupby("law")["size"].mean().round(2).to_dict()
        every = runs.groupby("law")["size"].mean().round(2).to_dict()
        about = {"table": str(name), "runs": int(runs["runs"].iloc[0])}
        about |= {"seen": bool(runs["seen"].iloc[0]), "broken": bool(runs["broken"].iloc[0])}
        rows.append({**about, "error_7_to_15": errors, "error": every})
    return rows


def slices(held: pd.DataFrame) -> dict[str, Any]:
    """Laws in one variable: next budget or size, and further."""
    if not len(held):
        return {}
    inside = (held["low"] <= held["loss"]) & (held["loss"] <= held["high"])
    plain = (held["plain_low"] <= held["loss"]) & (held["loss"] <= held["plain_high"])
    width = np.log(held["high"] / held["low"])
    ratio = width / np.log(held["plain_high"] / held["plain_low"])
    error = 100 * np.log(held["predicted"] / held["loss"]).abs()
    held = held.assign(inside=inside, plain=plain, ratio=ratio, size=error)
    found: dict[str, Any] = {"slices": int(held["series"].nunique())}
    for where, some in (("next", held[held["steps"] == 1]), ("further", held[held["steps"] > 1])):
        by = some.groupby("family")
        found[where] = {
            "runs": len(some),
            "error": float(by["size"].mean().mean()),
            "plain": float(by["plain"].mean().mean()),
            "held": float(by["inside"].mean().mean()),
            "ratio": float(by["ratio"].median().mean()),
        }
    return found


def readme(
    held: pd.DataFrame,
    rows: list[dict[str, Any]],
    one: dict[str, Any],
    each: list[dict[str, Any]],
    laws: Sequence[str],
) -> str:
    lines = [
        "# The league of forecasts",
        "",
        f"{held['series'].nunique()} tables in N and D, {int((held['law'] == REFERENCE).sum()):,} "
        "forecasts a law: each is fitted to the lower budgets",
        "of a table and asked for the runs of the higher ones, from up to eight origins. Error: "
        "mean |ln L̂ - ln L| in percent,",
        f"of near-optimal runs (a loss within {NEAR_OPTIMAL:.0%} of the lowest of their budget), "
        "every table counting the same. Plain and held:",
        "how many percent of them lie inside of 90% intervals, plain ones (bootstrap or posterior, "
        "and noise) and those that `predict` gives, made from",
        "what other families of tables needed. Width: median, as a multiple of the plain interval "
        "of Chinchilla's law. `curve_fit` is",
        "scipy's on the raw loss; `auto` is what `llmscale predict` does if no law is named.",
        "",
        "    python experiments/league/collect.py ... --out TABLES",
        "    python experiments/league/league.py TABLES/*.csv",
        "",
        "`Seen` are the families with which the weights and priors of `anchored` were chosen; on "
        "the others it was only",
        "measured. Broken recipes are those of Porian et al. (2024).",
    ]
    for kind in ("all", *KINDS):
        some = [row for row in rows if row["kind"] == kind and row["runs"] == "near-optimal"]
        if not some:
            continue
        most = max(row["tables"] for row in some)
        lines += ["", f"## Near-optimal runs: {kind} ({counted(most, 'table')})", ""]
        lines += _by_law(some, laws)
    everything = [row for row in rows if row["kind"] == "all" and row["runs"] == "all"]
    lines += ["", "## All runs, however far off the optimum", "", *_by_law(everything, laws)]
    lines += ["", "## Every table: error of near-optimal runs 7 to 15x ahead", ""]
    lines += [f"| table | runs | {' | '.join(laws)} |", f"| --- | --- |{' --- |' * len(laws)}"]
    for row in each:
        cells = [_percent(row["error_7_to_15"].get(law)) for law in laws]
        mark = "" if row["seen"] else " (not seen)"
        lines.append(f"| {row['table']}{mark} | {row['runs']} | {' | '.join(cells)} |")
    lines += ["", "![Error by distance](error.png)", ""]
    if one:
        lines += ["## Laws in one variable", "", f"`power-floor` on {one['slices']} slices:", ""]
        lines += ["| | runs | error | plain held | held | times as wide |", "|" + " --- |" * 6]
        for where in ("next", "further"):
            lines.append(f"| {where} | {one[where]['runs']} | {' | '.join(_cells(one[where]))} |")
    return "\n".join(lines).rstrip() + "\n"


def _by_law(rows: list[dict[str, Any]], laws: Sequence[str]) -> list[str]:
    lines = [
        f"| law | {' | '.join(f'{words}: error | plain | held | width' for words in DISTANCES)} |"
    ]
    lines.append(f"| --- |{' --- |' * 4 * len(DISTANCES)}")
    at = {(row["law"], row["distance"]): row for row in rows}
    for law in laws:
        cells = []
        for words in DISTANCES:
            cells += _cells(at.get((law, words), {}))
        lines.append(f"| {law} | {' | '.join(cells)} |")
    return lines


def _cells(row: dict[str, Any]) -> list[str]:
    """Error, share inside plain intervals and inside those held, and width, each in its unit."""
    if not row:
        return [""] * 4
    inside = [f"{row[name]:.0%}" for name in ("plain", "held")]
    return [_percent(row["error"]), *inside, f"{row['ratio']:.2f}x"]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}%"


def draw(path: Path, held: pd.DataFrame, laws: Sequence[str]) -> None:
    """Above: error against distance for every law. Below: what 90% intervals held, and their
    width."""
    near = held[held["excess"] <= NEAR_OPTIMAL]
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.6), layout="constrained", sharex=True)
    styles = {
        law: {"color": f"C{place}", "marker": "o", "markersize": 4, "linewidth": 1.3}
        for place, law in enumerate(laws)
    }
    styles["auto"] |= {"color": "black", "linewidth": 2.5}
    for ax, broken, title in (
        (axes[0, 0], False, "clean tables"),
        (axes[0, 1], True, "broken recipes"),
    ):
        for law in laws:
            runs = near[(near["law"] == law) & (near["broken"] == broken)]
            ax.plot(*_line(runs, "size"), label=law, **styles[law])
        ax.set_yscale("log")
        ax.set_yticks([0.5, 1, 2, 5, 10, 20])
        ax.set_title(title)
    axes[0, 0].set_ylabel("error of near-optimal runs, % of the loss")
    axes[0, 0].legend(frameon=False)
    for law in ("auto", REFERENCE):
        runs, style = near[near["law"] == law], styles[law]
        for share, label, line in (("held", law, "-"), ("plain", f"{law}, plain", "--")):
            ahead, inside = _line(runs, share)
            axes[1, 0].plot(ahead, 100 * inside, label=label, **style, linestyle=line)
        axes[1, 1].plot(*_line(runs, "ratio", median=True), label=law, **style)
    axes[1, 0].axhspan(85, 95, color="0.9")
    axes[1, 0].set_ylim(40, 100)
    axes[1, 1].set_ylim(bottom=0.0)
    axes[1, 0].set_ylabel("% of runs inside 90% intervals, all tables")
    axes[1, 1].set_ylabel("width against Chinchilla's plain interval")
    for ax in axes[1]:
        ax.set_xlabel("times beyond the fitted runs")
        ax.legend(frameon=False, loc="lower left", ncols=2)
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.set_xticks([1, 2, 5, 10, 20, 50, 100])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _line(runs: pd.DataFrame, column: str, *, median: bool = False) -> tuple[list[float], Any]:
    """Where the bins of distance are, and the mean over tables of a column in each."""
    bins = pd.cut(runs["ahead"], np.geomspace(1, 100, 7))
    by = runs.groupby([bins, "series"], observed=True)[column]
    line = (by.median() if median else by.mean()).groupby(level=0, observed=True).mean()
    return [float(np.sqrt(one.left * one.right)) for one in line.index], line
