"""Are effects that are known found on a ladder of small models, and how large are they there?

    .venv/bin/python experiments/effects.py

Sweeps experiments/effects.toml, whose recipes change one setting each, and
experiments/effects-shapes.toml, deep and wide models of the same N; run again, it goes on where it
was stopped. Each recipe is compared with its baseline on pairs of runs, as `llmscale compare` does
it: how much compute it saves at the largest compute that was measured, and at ten times that, along
the ladder of about 20 tokens a parameter, and at each one's best split of compute by its law in N
and D. The count of N (Kaplan et al. 2020) is no recipe: one law is fitted to the same
runs with either. Writes runs.parquet, effects.png and README.md into results/effects."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optimizers import with_own_products

import llmscale
from llmscale.explain import digits
from llmscale.explain.estimation.result import Fit, percentiles, with_coefficients
from llmscale.explain.figures._axes import log_axis
from llmscale.explain.figures._style import INK, LAW_COLOURS, MUTED, style
from llmscale.explain.recipes.comparison import RecipeComparison
from llmscale.quantity import format_count
from llmscale.runs.shape import TOKENS_PER_PARAM

LADDER, SHAPES = "experiments/effects.toml", "experiments/effects-shapes.toml"
RESULTS, FLAGSHIP = "results/effects", "results/flagship"
"""From the folder of the repository, as sweep.json tells the command."""
BEYOND = 10
"""Multipliers are also given at so many times the largest compute."""
SHAPE_OF = {
    "5x24x2x73": ("deep", "30k"),
    "8x32x2x92": ("deep", "80k"),
    "10x40x2x108": ("deep", "160k"),
    "1x40x2x126": ("wide", "30k"),
    "1x72x3x193": ("wide", "80k"),
    "1x104x4x272": ("wide", "160k"),
}
"""The recipe of each shape, and the size whose N it has."""
COUNTS = ("params", "params_non_embedding")
"""N with the output projection, and Kaplan's."""


@dataclass(frozen=True)
class Effect:
    """A recipe against its baseline, each a name and the recipe in the table of runs; and what
    others have found: in short, and with its source."""

    title: str
    baseline: tuple[str, str]
    recipe: tuple[str, str]
    known: str
    published: str
    own_products: bool = False
    """Whether FLOPs of Muon's own matrix products count."""


ADAMW, MUON = ("adamw", "default"), ("muon", "muon")
OF_MUON = "2x (Liu et al. 2025); 1.4x at 0.1B parameters, 1.1x at 1.2B (Wen et al. 2025)"
OF_SHAPE = (
    "at one N the shape matters little (Kaplan et al. 2020, section 3.1); below 1B deep and "
    "thin is better (MobileLLM: Liu et al. 2024)"
)
EFFECTS = (
    Effect("Muon for AdamW", ADAMW, MUON, "1.1x to 2x", OF_MUON),
    Effect("Muon, its own products counted", ADAMW, MUON, "1.1x to 2x", OF_MUON, True),
    Effect(
        "WSD (to 0) for cosine (to a tenth)",
        ("cosine", "cosine"),
        ("wsd", "default"),
        "1x or more",
        "as good or better (Hägele et al. 2024)",
    ),
    Effect(
        "a quarter of the learning rate",
        ("tuned", "default"),
        ("quarter", "low-lr"),
        "down to 0.5x",
        "tuning only the rate of a common recipe saved up to 2x (Wen et al. 2025)",
    ),
    Effect(
        "twice the learning rate",
        ("tuned", "default"),
        ("twice", "high-lr"),
        "about 1x",
        "the optimum is broad (Li et al. 2025)",
    ),
    Effect(
        "tied embeddings for untied",
        ("untied", "default"),
        ("tied", "tied"),
        "not agreed",
        "better in recurrent models (Press & Wolf 2017); LLaMA is untied (Touvron et al. 2023)",
    ),
    Effect(
        "deep and narrow for usual", ("usual", "default"), ("deep", "deep"), "about 1x", OF_SHAPE
    ),
    Effect(
        "one wide layer for usual", ("usual", "default"), ("wide", "wide"), "about 1x", OF_SHAPE
    ),
)


def main() -> None:
    recipes, shapes = sweep(LADDER, "recipes"), sweep(SHAPES, "shapes")
    runs = pd.concat([recipes, shaped(shapes)], ignore_index=True)
    runs.to_parquet(Path(RESULTS) / "runs.parquet", compression="zstd")
    runs["muon"] = (runs["optimizer"] == "muon").astype(float)
    ladder = along_ladder(runs)
    found = {effect.title: compared(ladder, effect, "power-floor") for effect in EFFECTS}
    splits = {effect.title: compared(runs, effect, "chinchilla") for effect in EFFECTS}
    usual = runs[runs["recipe"] == "default"]
    counts = {"these runs": by_count(usual), "the flagship's": by_count(FLAGSHIP)}
    draw(found, Path(RESULTS) / "effects.png")
    text = describe(runs, found, splits, counts)
    (Path(RESULTS) / "README.md").write_text(text, encoding="utf-8")
    print(text)


def sweep(ladder: str, name: str) -> pd.DataFrame:
    """The table of runs of a ladder, trained into a folder of that name."""
    out = f"{RESULTS}/{name}"
    words = ["sweep", ladder, "--out", out, "--yes"]
    subprocess.run([sys.executable, "-m", "llmscale", *words], check=True)
    return pd.read_parquet(Path(out) / "runs.parquet")


def shaped(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of other shapes, as recipes for the sizes whose N they have."""
    recipe = runs["size"].map(lambda size: SHAPE_OF[size][0])
    return runs.assign(recipe=recipe, size=runs["size"].map(lambda size: SHAPE_OF[size][1]))


def along_ladder(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of each size whose tokens a parameter are nearest to what is usual."""
    off = np.log(runs["tokens"] / (TOKENS_PER_PARAM * runs["params"])).abs()
    return runs[off <= off.groupby([runs["recipe"], runs["size"]]).transform("min")]


def compared(runs: pd.DataFrame, effect: Effect, law: str) -> RecipeComparison:
    """An effect at the largest compute that both recipes have, and at BEYOND times that."""
    if effect.own_products:
        runs = with_own_products(runs)
    tables = {
        name: runs[runs["recipe"] == recipe] for name, recipe in (effect.baseline, effect.recipe)
    }
    today = min(table["flops"].max() for table in tables.values())
    return llmscale.compare(tables, law=law, at=BEYOND * today)


def by_count(source: Any) -> dict[str, Fit]:
    """Chinchilla's law with N counted in either way."""
    return {count: llmscale.fit(source, "chinchilla", count=count) for count in COUNTS}


def exponents(fits: Mapping[str, Fit]) -> list[str]:
    """a of N* ∝ C^a with each count, and their difference, each with its interval."""
    drawn, values = [], []
    for fit in fits.values():
        optimal = fit.law.compute_optimal()
        refits = with_coefficients(fit.law, fit.replicates).compute_optimal()
        assert optimal is not None
        assert refits is not None
        values.append(float(optimal["a"]))
        drawn.append(np.ravel(refits["a"]))
    # Refits of one number drew the same runs and noise under both counts, so that they pair.
    values.append(values[1] - values[0])
    drawn.append(drawn[1] - drawn[0])
    low, high = percentiles(np.stack(drawn, axis=1), fits[COUNTS[0]].level)
    ends = zip(values, low, high, strict=True)
    return [digits.with_ends(value, *map(float, both)) for value, *both in ends]


def draw(found: Mapping[str, RecipeComparison], path: Path) -> None:
    """What each effect saves, at the largest compute of the runs and at ten times that, and beside
    it what others have found."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 0.6 + 0.36 * len(found)), layout="constrained")
        ax = figure.subplots()
        for place, comparison in enumerate(found.values()):
            draw_savings(ax, -place, comparison)
        ends = [end for one in found.values() for end in ends_of(one)]
        log_axis(ax.xaxis, (0.9 * min(ends), 1.1 * max(ends)))
        ax.axvline(1, color=INK, lw=0.8, zorder=1)
        places = range(0, -len(found), -1)
        ax.set_yticks(places, list(found))
        ax.set_ylim(places[-1] - 0.5, 0.5)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("compute saved at one loss (x)")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        beside = ax.secondary_yaxis("right")
        known = {effect.title: effect.known for effect in EFFECTS}
        beside.set_yticks(places, [known[title] for title in found])
        beside.tick_params(length=0)
        ax.annotate("published", (1.015, 1.02), xycoords="axes fraction", color=MUTED)
        figure.savefig(path, metadata={"Software": None})


def ends_of(comparison: RecipeComparison) -> list[float]:
    """The ends of the intervals of what an effect saves."""
    return [end for one in comparison.multipliers for end in one.saving_interval]


def draw_savings(ax: Any, y: float, comparison: RecipeComparison) -> None:
    """The two multipliers of an effect on a line of its own, with their intervals."""
    looks = (
        ("o", LAW_COLOURS[0], 0.14, "at the largest compute measured"),
        ("D", LAW_COLOURS[1], -0.14, f"at {BEYOND} times that"),
    )
    for one, (marker, colour, up, label) in zip(comparison.multipliers, looks, strict=True):
        ax.plot(one.saving_interval, [y + up, y + up], color=colour, lw=1.2)
        named = label if y == 0 else None
        ax.plot([one.saving], [y + up], marker=marker, color=colour, ms=3.6, ls="", label=named)


def describe(
    runs: pd.DataFrame,
    found: Mapping[str, RecipeComparison],
    splits: Mapping[str, RecipeComparison],
    counts: Mapping[str, Mapping[str, Fit]],
) -> str:
    """The report: what each effect saves, the sentences, the losses, and the two counts of N."""
    today = max(comparison.today for comparison in found.values())
    first = next(iter(found.values()))
    lines = [
        "# Known effects on a ladder of small models",
        "",
        "    python experiments/effects.py",
        "",
        f"{len(runs)} runs of {format_count(runs['params'].min())} to "
        f"{format_count(runs['params'].max())} parameters on {format_count(runs['tokens'].min())} "
        f"to {format_count(runs['tokens'].max())} tokens of the standard library's source files, "
        f"on {runs['device'].iloc[0]}, {runs['dtype'].iloc[0]}. Recipes change one setting each, "
        "and pair by size, tokens and seed. `saved` is the baseline's compute over the recipe's at "
        f"one loss, with {first.level:.0%} intervals, at the largest compute that both have "
        f"(about {today:.1e} FLOPs) and at {BEYOND} times that: what `llmscale compare` finds "
        f"along the ladder, the runs of each size nearest to {TOKENS_PER_PARAM} tokens a "
        "parameter. The last figure is by a law in N and D of all runs, each recipe at its best "
        "split of the compute.",
        "",
        "![Compute saved by each effect, with intervals, here and further out](effects.png)",
        "",
        f"| effect | saved | at {BEYOND}x | told from 1 | at the best split | published |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for effect in EFFECTS:
        now, further = found[effect.title].multipliers
        split, _ = splits[effect.title].multipliers
        told = told_from_one(now.includes_one, further.includes_one)
        cells = (effect.title, now.saving_shown, further.saving_shown, told, split.saving_shown)
        lines.append(f"| {' | '.join(cells)} | {effect.published} |")
    lines += ["", "In sentences:", ""]
    for title, comparison in found.items():
        lines += [f"- {title}: {sentence}." for sentence in comparison.sentences]
    lines += ["", "## How N is counted", "", *describe_counts(counts)]
    lines += ["", "## Losses", "", *losses(runs)]
    return "\n".join(lines) + "\n"


def told_from_one(now: bool, further: bool) -> str:
    """Whether intervals leave 1 out, given which of them include it."""
    if now and further:
        return "no"
    if now:
        return f"only at {BEYOND}x"
    return "at this scale" if further else "yes"


def describe_counts(counts: Mapping[str, Mapping[str, Fit]]) -> list[str]:
    """The exponents of the best size with each count of N."""
    lines = [
        "One law, L = E + A/N^alpha + B/D^beta, fitted to the same runs with two counts of N, "
        "gives N* ∝ C^a. Kaplan et al. (2020) left the output projection out and had a = 0.73; "
        "with it Hoffmann et al. (2022) had 0.50. Pearce & Song (2024) and Porian et al. (2024) "
        "show that the count makes much of the difference in small models.",
        "",
        "| runs | a, with the output projection | a, Kaplan's count | difference |",
        "| --- | --- | --- | --- |",
    ]
    for name, fits in counts.items():
        size = len(fits[COUNTS[0]].table.frame)
        lines.append(f"| {name} ({size}) | {' | '.join(exponents(fits))} |")
    return lines


def losses(runs: pd.DataFrame) -> list[str]:
    """The loss of the usual recipe at each size and budget, and what the others differ by: means
    over seeds."""
    order = list(dict.fromkeys(runs["recipe"]))
    table = runs.pivot_table(index=["size", "tokens"], columns="recipe", values="loss")[order]
    N = runs[runs["recipe"] == "default"].groupby("size")["params"].first()
    usual, others = table["default"], table.drop(columns="default")
    lines = [
        f"| size | N | tokens | usual | {' | '.join(others)} |",
        f"|{' --- |' * (4 + others.shape[1])}",
    ]
    for size, tokens in sorted(table.index, key=lambda at: (N[at[0]], at[1])):
        cells = [size, f"{N[size]:,}", format_count(tokens), f"{usual[size, tokens]:.4f}"]
        off = others.loc[(size, tokens)] - usual[size, tokens]
        cells += ["" if np.isnan(value) else f"{value:+.4f}" for value in off]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
