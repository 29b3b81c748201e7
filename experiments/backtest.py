"""Do forecasts hold ahead of the data? Every table, from every origin, with the plain interval and
the widened one.

    .venv/bin/python experiments/backtest.py TABLE.csv ... [--constants]

A table is fitted on its lower budgets and asked for every run of the higher ones, from one origin
after another: laws in N and D by Chinchilla, slices of a table and best losses by budget in one
variable by a power law with a floor. The multipliers of the widened interval
(llmscale/explain/forecast/forecast.py)
come each time from the families of tables other than the one judged.
Writes results/backtest/backtest.json and README.md; `--constants` also prints the multipliers from
all tables, at five levels (five times as long; they need not rise with the level, those in use do).
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.explain.fit.backtest import backtest
from llmscale.explain.forecast.forecast import ONE_VARIABLE, SEVERAL_VARIABLES, growth, widened

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "backtest"
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
LEVEL = 0.9
SHORTEST_SLICE = 6
MOST_ORIGINS = {1: 4, 2: None}
SHARE_OF_TAIL = {1: 0.5, 2: 0.7}
"""Multipliers are taken further out in the tail than the level asks, as they meet tables not seen
before.
"""


@dataclass(frozen=True)
class Series:
    """Runs that one law is fitted to.

    Families share data or a laboratory's recipe, and never judge each other.
    """

    name: str
    family: str
    variable: str | None
    frame: pd.DataFrame


def main(*arguments: str) -> None:
    paths = [Path(argument) for argument in arguments if not argument.startswith("--")]
    series = [item for path in paths for item in read(path)]
    held = predictions(series, LEVEL)
    judged = pd.concat(
        [judge(held[held["variables"] == kind]) for kind in (1, 2)], ignore_index=True
    )
    tables = {kind: summary(judged[judged["variables"] == kind]) for kind in (2, 1)}
    pooled = {
        name: total(judged[judged["variables"] == kind])
        for kind, name in ((2, "N and D"), (1, "one variable"))
    }
    text = describe(tables, pooled, by_distance(judged), [path.name for path in paths])
    RESULTS.mkdir(parents=True, exist_ok=True)
    payload = {
        "level": LEVEL,
        "tables": [row for table in tables.values() for row in table.to_dict("records")],
        "pooled": pooled,
        "by_distance": by_distance(judged),
    }
    (RESULTS / "backtest.json").write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "README.md").write_text(text, encoding="utf-8")
    print(text)
    if "--constants" in arguments:
        for level in LEVELS:
            at_level = held if level == LEVEL else predictions(series, level)
            for kind in (2, 1):
                low, high = multipliers(at_level[at_level["variables"] == kind], level)
                print(
                    f"level {level:g}, {kind} variables: low {low:.3g}, high {high:.3g}", flush=True
                )


def read(path: Path) -> Iterator[Series]:
    """The series of a table: whole in N and D, and its slices in one variable."""
    frame = pd.read_csv(path).rename(columns={"n_params": "params"})
    stem, family = path.stem, path.stem.split("_")[0]
    if stem == "gadre_grid_search":
        print(f"{stem}: left out, 97% of its runs have no N", file=sys.stderr)
        return
    if stem == "moe":
        for experts, runs in frame.groupby("n_experts"):
            yield Series(f"{stem}, {experts:g} experts", family, "params", runs[["params", "loss"]])
        return
    wholes = {stem: frame}
    if "outlier" in frame:
        wholes = {f"{stem}, without outliers": frame[~frame["outlier"]], stem: frame}
    elif stem == "step_law":
        wholes = {
            f"{stem}, best of each N and D": frame.groupby(["params", "tokens"], as_index=False)[
                "loss"
            ].min()
        }
    elif "unique_tokens" in frame:
        family = "repeated"
        fresh = frame["tokens"] <= 2 * frame["unique_tokens"]
        if "dedup" in frame:
            fresh &= ~frame["dedup"].astype(bool)
        wholes = {f"{stem}, up to 2 epochs": frame[fresh]}
    elif "dataset" in frame:
        wholes = {f"{stem}, {name}": runs for name, runs in frame.groupby("dataset")}
    for name, runs in wholes.items():
        yield Series(name, family, None, runs[["params", "tokens", "loss"]])
    if stem == "chinchilla_epoch":
        return
    if "flops" in frame and frame["flops"].nunique() < 20:
        best = frame.loc[frame.groupby("flops")["loss"].idxmin(), ["params", "flops", "loss"]]
        yield Series(f"{stem}, best of each budget", f"{family} C", "flops", best)
    for name, runs in wholes.items():
        for fixed, variable in (("tokens", "params"), ("params", "tokens")):
            for value, some in runs.groupby(runs[fixed].map(lambda number: float(f"{number:.2g}"))):
                if (
                    some[variable].map(lambda number: float(f"{number:.2g}")).nunique()
                    >= SHORTEST_SLICE
                ):
                    label = f"{name}, {fixed} {value:.2g}"
                    yield Series(
                        label, f"{family} {variable}", variable, some[["params", "tokens", "loss"]]
                    )


def predictions(series: list[Series], level: float) -> pd.DataFrame:
    """Every held-out prediction of every series, with the multipliers that it would have needed."""
    parts = []
    for item in series:
        kind = 2 if item.variable is None else 1
        law, variable = (
            ("chinchilla", "params") if item.variable is None else ("power-floor", item.variable)
        )
        found = backtest(
            item.frame, law, origins=MOST_ORIGINS[kind], variable=variable, level=level
        )
        if found.n:
            parts.append(
                found.frame.assign(
                    series=item.name, family=item.family, variables=kind, runs=len(item.frame)
                )
            )
    frame = pd.concat(parts, ignore_index=True)
    error = np.log(frame["loss"] / frame["predicted"])
    unit = frame["scale"] * growth(frame["horizon"].to_numpy())
    for side, sign in (("low", -1.0), ("high", 1.0)):
        half = sign * np.log(frame[f"plain_{side}"] / frame["predicted"])
        short = np.sqrt(np.maximum(error**2 - np.maximum(half, 0.0) ** 2, 0.0))
        frame[f"needed_{side}"] = np.where(sign * error > 0, short, 0.0) / unit
    return frame


def multipliers(frame: pd.DataFrame, level: float) -> tuple[float, float]:
    """Quantiles of the needed ones: families, their series, and next budget or further each count
    the same.
    """
    near = (frame["steps"] == 1).rename("near")
    runs = frame.groupby([frame["series"], near])["loss"].transform("size")
    kinds = near.groupby(frame["series"]).transform("nunique")
    members = frame.groupby("family")["series"].transform("nunique")
    weight = (1 / (runs * kinds * members)).to_numpy()
    share = 1 - SHARE_OF_TAIL[int(frame["variables"].iloc[0])] * (1 - level) / 2
    return (
        weighted_quantile(frame["needed_low"].to_numpy(), weight, share),
        weighted_quantile(frame["needed_high"].to_numpy(), weight, share),
    )


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(reached, share)), len(values) - 1)])


def judge(frame: pd.DataFrame) -> pd.DataFrame:
    """The widened interval of every prediction, with multipliers from other families alone."""
    parts = []
    for family, runs in frame.groupby("family"):
        chosen = multipliers(frame[frame["family"] != family], LEVEL)
        middle, ends = (
            runs["predicted"].to_numpy(),
            (runs["plain_low"].to_numpy(), runs["plain_high"].to_numpy()),
        )
        most = (ONE_VARIABLE if runs["variables"].iloc[0] == 1 else SEVERAL_VARIABLES).most
        low, high = widened(
            middle, *ends, runs["horizon"].to_numpy(), runs["scale"].to_numpy(), chosen, most
        )
        plain = (ends[0] <= runs["loss"]) & (runs["loss"] <= ends[1])
        held = (low <= runs["loss"]) & (runs["loss"] <= high)
        ratio = np.log(high / low) / np.log(ends[1] / ends[0])
        parts.append(runs.assign(plain=plain, held=held, ratio=ratio))
    return pd.concat(parts)


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """One row a table, or for laws in one variable a family of slices."""
    by = "series" if (judged["variables"] == 2).all() else "family"
    rows = []
    for name, runs in judged.groupby(by, sort=False):
        rows.append(
            {
                "table": str(name),
                "law": "chinchilla" if by == "series" else "power-floor",
                "series": int(runs["series"].nunique()),
                "n": int(runs.drop_duplicates("series")["runs"].sum()),
                "origins": int(runs.groupby("series")["origin"].nunique().sum()),
                **figures(runs),
            }
        )
    return pd.DataFrame(rows)


def figures(runs: pd.DataFrame) -> dict[str, float | int | None]:
    """Held-out runs, shares inside and width ratios, next and further."""
    answer: dict[str, float | int | None] = {}
    for where, chosen in (("next", runs["steps"] == 1), ("further", runs["steps"] > 1)):
        some = runs[chosen]
        answer[f"{where}_runs"] = len(some)
        for column, value in (
            ("plain", some["plain"].mean()),
            ("held", some["held"].mean()),
            ("ratio", some["ratio"].median()),
        ):
            answer[f"{where}_{column}"] = float(value) if math.isfinite(value) else None
    return answer


def total(judged: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """Over all runs, and over tables (or families of slices) that count the same."""
    tables = summary(judged)
    means = {
        name: float(tables[name].dropna().mean())
        for name in tables.columns
        if name.split("_")[0] in WHERE
    }
    runs: dict[str, float | int | None] = figures(judged)
    for where, chosen in (("next", judged["steps"] == 1), ("further", judged["steps"] > 1)):
        runs[f"{where}_mean_ratio"] = float(judged.loc[chosen, "ratio"].mean())
    return {"runs": runs, "tables": dict(means)}


WHERE = ("next", "further")
DISTANCES = {
    "up to 3x": (0, 3),
    "3x to 10x": (3, 10),
    "10x to 100x": (10, 100),
    "beyond 100x": (100, math.inf),
}


def by_distance(judged: pd.DataFrame) -> list[dict[str, str | float | int]]:
    """Shares inside, over runs, by how many times beyond the fitted runs they lie, and the width
    ratio.
    """
    times, rows = np.exp(judged["horizon"]), []
    for kind in (2, 1):
        for words, (least, most) in DISTANCES.items():
            some = judged[(judged["variables"] == kind) & (times > least) & (times <= most)]
            shares = {"plain": float(some["plain"].mean()), "held": float(some["held"].mean())}
            widths = {
                "ratio": float(some["ratio"].median()),
                "mean_ratio": float(some["ratio"].mean()),
            }
            rows.append(
                {"variables": kind, "distance": words, "runs": len(some), **shares, **widths}
            )
    return rows


def describe(
    tables: dict[int, pd.DataFrame],
    pooled: dict[str, dict],
    distances: list[dict],
    names: list[str],
) -> str:
    lines = [
        "# Do forecasts hold ahead of the data?",
        "",
        "Nominal 90% intervals for single runs at budgets above the ones fitted, from every "
        "origin. `plain`: bootstrap",
        "and residual noise. `held`: widened by the law's misfit, with multipliers from other "
        "families of tables only.",
        "`width`: median of widened over plain. gadre_grid_search is left out: 97% of its runs "
        "have no N. The form of",
        "the misfit was chosen with all these tables in view; only its multipliers are from "
        "others.",
        "",
        f"    python experiments/backtest.py {' '.join(names)}",
        "",
        "| table | runs | origins | next: plain | held | width | further: plain | held | width |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for table, name in ((tables[2], "N and D"), (tables[1], "one variable")):
        rows = [
            (row["table"], f"{row['n']}", f"{row['origins']}", row)
            for row in table.to_dict("records")
        ]
        rows.append((f"**{name}: mean over tables**", "", "", pooled[name]["tables"]))
        rows.append((f"**{name}: over runs**", "", "", pooled[name]["runs"]))
        for label, runs, origins, row in rows:
            cells = [
                _cell(row[f"{where}_{column}"])
                for where in WHERE
                for column in ("plain", "held", "ratio")
            ]
            lines.append(f"| {' | '.join([label, runs, origins, *cells])} |")
    lines += [
        "",
        "| variables | beyond the fitted runs | runs | plain | held | width | mean width |",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in distances:
        cells = [_cell(row[name]) for name in ("plain", "held", "ratio", "mean_ratio")]
        lines.append(
            f"| {row['variables']} | {row['distance']} | {row['runs']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
