"""Do intervals of compute multipliers hold what they promise for more than two recipes?

    .venv/bin/python experiments/multipliers_of_several.py [TABLES [SECONDS]]      by default 30

Tables of three and of five recipes, measured as the pairs of multipliers.py are; each recipe but
the first has a multiplier of its own, constant or changing, and in half of the tables one recipe
has three times the noise. Coverage of nominal 90% intervals at the largest compute and 10 times
beyond, and how wide the first one is next to that of the pair by itself. Writes
results/multipliers/several.csv and several.md."""

import itertools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from multipliers import LEVEL, RESULTS, TOP, Pair, Truth, drawn

import llmscale

RECIPES = (3, 5)
AHEAD = (1.0, 10.0)
NOISIER = 3.0


def several(number: int, recipes: int) -> tuple[dict[str, pd.DataFrame], list[Pair]]:
    """The runs of each recipe, and the pair of the first with each other."""
    rng = np.random.default_rng([number, recipes])
    design = ("ladder", "grid")[number % 2]
    first = drawn("constant", design, rng)
    pairs = []
    for _ in range(1, recipes):
        k, differ = math.exp(rng.uniform(-0.7, 0.3)), rng.choice([0.0, rng.uniform(-0.15, 0.15)])
        second = multiplied(first.truths[0], k, float(differ))
        pairs.append(replace(first, truths=(first.truths[0], second), floor_told=False))
    noise = int(rng.integers(2**31))
    tables = {"r0": pairs[0].runs(np.random.default_rng(noise))[0]}
    noisy = int(rng.integers(1, recipes)) if number % 4 < 2 else 0
    for place, pair in enumerate(pairs, start=1):
        tables[f"r{place}"] = runs_of(pair, noise, place, NOISIER if place == noisy else 1.0)
    return tables, pairs


def multiplied(first: Truth, k: float, differ: float) -> Truth:
    alpha, beta = first.alpha * math.exp(-differ), first.beta * math.exp(-differ)
    A, B = first.A * k ** (0.5 * alpha), first.B * k ** (0.5 * beta)
    return Truth(first.E, A, B, alpha, beta)


def runs_of(pair: Pair, noise: int, place: int, times: float) -> pd.DataFrame:
    """The second recipe's runs, with the noise in common of all tables and its own."""
    exact = replace(pair, noise=0.0).runs(np.random.default_rng(0))[1]
    shared = np.random.default_rng(noise).standard_normal(len(exact))
    own = np.random.default_rng([noise, place]).standard_normal(len(exact))
    off = math.sqrt(pair.common) * shared + times * math.sqrt(1.0 - pair.common) * own
    return exact.assign(loss=exact["loss"] * np.exp(pair.noise * off))


def measured(number: int, recipes: int) -> Iterator[dict[str, object]]:
    """The truth and the interval of each recipe at each scale, and of one pair by itself."""
    tables, pairs = several(number, recipes)
    at = [TOP * ahead for ahead in AHEAD[1:]]
    found = llmscale.compare(tables, at=at, level=LEVEL)
    pair = llmscale.compare({name: tables[name] for name in ("r0", "r1")}, at=at, level=LEVEL)
    settled = "comparison-not-settled" not in {note.code for note in found.notes}
    alone = {("r1", flops): pair.at(flops)[0] for flops in pair.scales}
    for ahead, flops in zip(AHEAD, found.scales, strict=True):
        for one in found.at(flops):
            by_itself = alone.get((one.recipe, flops))
            yield {
                "recipe": one.recipe, "ahead": ahead, "settled": settled,
                "truth": pairs[int(one.recipe[1:]) - 1].multiplier(ahead),
                "low": one.low, "high": one.high,
                "low_alone": by_itself and by_itself.low,
                "high_alone": by_itself and by_itself.high,
            }  # fmt: skip


def main(tables: str = "30", seconds: str = "inf") -> None:
    until = time.monotonic() + float(seconds)
    path = RESULTS / "several.csv"
    known = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["table", "recipes"])
    done = set(zip(known["table"], known["recipes"], strict=True))
    for number, recipes in itertools.product(range(int(tables)), RECIPES):
        if (number, recipes) in done or time.monotonic() > until:
            continue
        rows = pd.DataFrame(list(measured(number, recipes)))
        rows.insert(0, "recipes", recipes)
        rows.insert(0, "table", number)
        known = pd.concat([known, rows], ignore_index=True)
        known.to_csv(path, index=False, float_format="%.5g")
    text = describe(pd.read_csv(path))
    (RESULTS / "several.md").write_text(text, encoding="utf-8")
    print(text)


def describe(rows: pd.DataFrame) -> str:
    held = (rows["low"] <= rows["truth"]) & (rows["truth"] <= rows["high"])
    width, alone = (
        np.log(rows["high"] / rows["low"]),
        np.log(rows["high_alone"] / rows["low_alone"]),
    )
    rows = rows.assign(held=held, ratio=width / alone)
    tables = rows.groupby("recipes")["table"].nunique()
    lines = [
        "# Multipliers of more than two recipes",
        "",
        "    python experiments/multipliers_of_several.py",
        "",
        f"Shares of nominal {LEVEL:.0%} intervals that held the truth, of simulated tables of "
        "three recipes and of five, in half of which one recipe has three times the noise; and "
        "how wide the interval of the first recipe is next to that of its pair by itself (median).",
        "",
        "| recipes | tables | settled | today | 10x | width, of the pair's | at 10x |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipes, part in rows.groupby("recipes"):
        near, far = part[part["ahead"] == 1], part[part["ahead"] == 10]
        lines.append(
            f"| {recipes} | {tables[recipes]} | {part['settled'].mean():.0%} "
            f"| {near['held'].mean():.0%} of {len(near)} | {far['held'].mean():.0%} "
            f"| {near['ratio'].median():.2f} | {far['ratio'].median():.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
