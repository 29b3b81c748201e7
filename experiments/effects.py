"""Are effects that are known found on a ladder of small models, and how large are they there?

    .venv/bin/python experiments/effects.py [RUNS.parquet]

Sweeps experiments/effects.toml, whose recipes change one setting each, and
experiments/effects-shapes.toml, deep and wide models of the same N; run again, it goes on where it
was stopped. Each recipe is compared with its baseline on pairs of runs, as `llmscale compare` does
it: how much compute it saves at the largest compute that was measured, at a tenth and at ten times
that, along the ladder of about 20 tokens a parameter, and at each one's best split of compute by
its law in N and D. The count of N (Kaplan et al. 2020) is no recipe: one law is fitted to the same
runs with either. Writes runs.parquet, effects.png and README.md into results/effects; given a
table of the runs, only the last two."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
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
from llmscale.explain.recipes.multiplier import Multiplier
from llmscale.quantity import format_count
from llmscale.runs.shape import TOKENS_PER_PARAM

LADDER, SHAPES = "experiments/effects.toml", "experiments/effects-shapes.toml"
RESULTS, FLAGSHIP = "results/effects", "results/flagship"
"""From the folder of the repository, as sweep.json tells the command."""
SCALES = (0.1, 1.0, 10.0)
"""Where multipliers are given, as shares of the largest compute of the runs."""
OTHER_SHAPES = {
    "30k": ("1M", "5x24x2x73", "1x40x2x126"),
    "80k": ("3M", "8x32x2x92", "1x72x3x193"),
    "160k": ("3M", "10x40x2x108", "1x104x4x272"),
}
"""The deep and the wide shape with the N of a size, and the budget at which they are trained: that
of the ladder along which recipes are compared."""
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
        "1x or less",
        "tuning only the rate of a common recipe saved up to 2x (Wen et al. 2025)",
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


REMARKS = (
    "All of this is of one text, two seeds, and learning rates that were tuned for AdamW, untied "
    "embeddings and the usual shapes: better ones for Muon, tied embeddings and other shapes could "
    "only help them.",
    "",
    "- Muon is ahead by far most at the largest size and budget. That it saves more further out "
    "rests on these runs; Wen et al. found it to save less in larger models.",
    "- Of WSD a part is where it ends: at 0, where this cosine ends at a tenth of its peak.",
    "- Twice the tuned learning rate is as good along the ladder, to within 10%: it is better at "
    "300k tokens and worse at 3M in the smaller models, which costs 14% at the best split.",
    "- Tied embeddings cost most at a width of 24, and little or nothing at 72.",
    "- Deep models are 24 to 40 wide here, and take more FLOPs at one N, for attention in every "
    "layer. At these sizes width is worth more than depth, as the built-in ladder has it.",
)
"""What the numbers do not say of themselves."""


def main(table: str = "") -> None:
    runs = pd.read_parquet(table) if table else trained()
    ladder = along_ladder(runs)
    found = {effect.title: compared(ladder, effect, "power-floor") for effect in EFFECTS}
    splits = {
        effect.title: compared(runs, effect, "chinchilla")
        for effect in EFFECTS
        if effect.recipe[1] not in ("deep", "wide")
    }
    usual = runs[runs["recipe"] == "default"]
    counts = {"these runs": by_count(usual), "the flagship's": by_count(FLAGSHIP)}
    draw(found, Path(RESULTS) / "effects.png")
    text = describe(runs, found, splits, counts)
    (Path(RESULTS) / "README.md").write_text(text, encoding="utf-8")
    print(text)


def trained() -> pd.DataFrame:
    """The runs of both ladders, as one table."""
    recipes = sweep(LADDER, "recipes")
    for tokens, *shapes in OTHER_SHAPES.values():
        others = sweep(SHAPES, "shapes", "--sizes", ",".join(shapes), "--tokens", tokens)
    runs = pd.concat([recipes, shaped(others)], ignore_index=True)
    runs.to_parquet(Path(RESULTS) / "runs.parquet", compression="zstd")
    return runs


def sweep(ladder: str, name: str, *more: str) -> pd.DataFrame:
    """The table of runs of a ladder, trained into a folder of that name."""
    out = f"{RESULTS}/{name}"
    words = ["sweep", ladder, *more, "--out", out, "--yes"]
    subprocess.run([sys.executable, "-m", "llmscale", *words], check=True)
    return pd.read_parquet(Path(out) / "runs.parquet")


def shaped(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of other shapes, as recipes for the sizes whose N they have."""
    recipe: dict[str, str] = {}
    size_of: dict[str, str] = {}
    for size, (_, *shapes) in OTHER_SHAPES.items():
        recipe |= dict(zip(shapes, ("deep", "wide"), strict=True))
        size_of |= dict.fromkeys(shapes, size)
    return runs.assign(recipe=runs["size"].map(recipe), size=runs["size"].map(size_of))


def along_ladder(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of each size whose tokens a parameter are nearest to what is usual."""
    off = np.log(runs["tokens"] / (TOKENS_PER_PARAM * runs["params"])).abs()
    return runs[off <= off.groupby([runs["recipe"], runs["size"]]).transform("min")]


def compared(runs: pd.DataFrame, effect: Effect, law: str) -> RecipeComparison:
    """An effect at SCALES of the largest compute that both recipes have."""
    if effect.own_products:
        runs = with_own_products(runs.assign(muon=runs["optimizer"] == "muon"))
    tables = {
        name: runs[runs["recipe"] == recipe] for name, recipe in (effect.baseline, effect.recipe)
    }
    today = min(table["flops"].max() for table in tables.values())
    return llmscale.compare(tables, law=law, at=[scale * today for scale in SCALES if scale != 1])


def in_order(comparison: RecipeComparison) -> list[Multiplier]:
    """Its multipliers, one of each of SCALES."""
    return sorted(comparison.multipliers, key=lambda one: one.flops)


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

        figure = Figure(figsize=(5.6, 0.7 + 0.42 * len(found)), layout="constrained")
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
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
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
    """The multipliers of an effect, one below the other, with their intervals."""
    looks = (
        ("s", LAW_COLOURS[2], 0.24, "a tenth of the largest compute"),
        ("o", LAW_COLOURS[0], 0.0, "the largest"),
        ("D", LAW_COLOURS[1], -0.24, "ten times that"),
    )
    for one, (marker, colour, up, label) in zip(in_order(comparison), looks, strict=True):
        ax.plot(one.saving_interval, [y + up, y + up], color=colour, lw=1.2)
        named = label if y == 0 else None
        ax.plot([one.saving], [y + up], marker=marker, color=colour, ms=3.4, ls="", label=named)


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
        f"one loss, with {first.level:.0%} intervals, at the largest compute that both have (1x, "
        f"about {today:.1e} FLOPs), at a tenth and at ten times that: what `llmscale compare` "
        f"finds along the ladder, the runs of each size nearest to {TOKENS_PER_PARAM} tokens a "
        "parameter. `1x, best split` is by laws in N and D of all runs, each recipe at its best "
        "split of the compute, which may be far from the runs: a learning rate that is too low "
        "asks for smaller models and more tokens than were measured.",
        "",
        "![Compute saved by each effect, with intervals, here and further out](effects.png)",
        "",
        "| effect | saved at 0.1x | at 1x | at 10x | told from 1 | 1x, best split | published |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for effect in EFFECTS:
        ladder = in_order(found[effect.title])
        split = "-"
        if effect.title in splits:
            split = in_order(splits[effect.title])[1].saving_shown
        cells = (effect.title, *(one.saving_shown for one in ladder), told_from_one(ladder), split)
        lines.append(f"| {' | '.join(cells)} | {effect.published} |")
    lines += ["", "In sentences:", ""]
    for title, comparison in found.items():
        (sentence,), (crossing,) = comparison.sentences, comparison.crossings
        lines.append(f"- {title}: {sentence}. Crossing: {crossing.shown}.")
    lines += ["", *REMARKS, "", "## How N is counted", "", *describe_counts(counts)]
    lines += ["", "## Losses", "", *losses(runs)]
    return "\n".join(lines) + "\n"


def told_from_one(multipliers: Sequence[Multiplier]) -> str:
    """At which of SCALES the interval leaves 1 out."""
    pairs = zip(SCALES, multipliers, strict=True)
    return ", ".join(f"{scale:g}x" for scale, one in pairs if not one.includes_one) or "nowhere"


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
    main(*sys.argv[1:])
