"""Does a fitted floor agree with the entropy of the language, if that is known exactly?

    .venv/bin/python experiments/known_floor.py [LADDER.toml [RESULTS]]

Sweeps experiments/known-floor.toml on languages of several seeds, each of known entropy; run again,
it goes on where it was stopped. Fits laws in N and D that have a floor, and compares each floor
with the loss of the language itself on the same validation tokens, which no model can come below
but by chance. Writes floor.png and README.md into results/known-floor, next to the folders."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import llmscale
from llmscale.explain.figures._axes import LABELS, log_axis
from llmscale.explain.figures._style import DOT, INK, LAW_COLOURS, MUTED, ordered_colours, style
from llmscale.explain.fit import Fit
from llmscale.measure.sweep.spec import read_spec
from llmscale.quantity import format_count
from llmscale.runs.results_folder import results_folder

LADDER, RESULTS = "experiments/known-floor.toml", "results/known-floor"
"""From the folder of the repository, as sweep.json tells the command."""
SEEDS = (0, 1, 2)
"""Of the language. The first one's runs are drawn."""
LAWS = ("chinchilla", "over-training")
"""The first is drawn. The second has a single exponent."""
BEYOND = 10
"""The lines are drawn up to this many times the longest run."""
GOAL = 0.02
"""The interval of the floor is to be no wider than this share of the entropy."""


@dataclass(frozen=True)
class Language:
    """What was fitted to the ladder on one language, and what is true of it."""

    seed: int
    fits: tuple[Fit, ...]
    truth: dict[str, Any]

    def floor(self, fit: Fit) -> tuple[float, float, float]:
        """The fitted floor and the ends of its interval."""
        name = fit.law.floor or "E"
        return (fit.law.coefficients()[name], *fit.intervals[name])


def main(ladder: str = LADDER, results: str = RESULTS) -> None:
    source = read_spec(Path(ladder)).data.source.rpartition("seed=")[0]
    found = []
    for seed in SEEDS:
        out = f"{results}/seed-{seed}"
        words = ["sweep", ladder, "--data", f"{source}seed={seed}", "--out", out, "--yes"]
        subprocess.run([sys.executable, "-m", "llmscale", *words], check=True)
        truth = results_folder(out).read_sweep()["data"]["true_losses"][0]
        runs = llmscale.read_runs(out)
        found.append(Language(seed, tuple(llmscale.fit(runs, law) for law in LAWS), truth))
    draw(found, Path(results) / "floor.png")
    called = " ".join(["python", "experiments/known_floor.py", *sys.argv[1:]])
    text = describe(called, found)
    (Path(results) / "README.md").write_text(text, encoding="utf-8")
    print(text)


def draw(found: Sequence[Language], path: Path) -> None:
    """Losses and the law of the first language, and beside them what all floors differ by."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[5, 2])
        draw_losses(left, found[0])
        draw_floors(right, found)
        figure.savefig(path, metadata={"Software": None})


def draw_losses(ax: Any, language: Language) -> None:
    """Against D, each size with its line, down to the true floor and the fitted one."""
    fit, truth = language.fits[0], language.truth["loss"]
    frame = fit.table.frame
    sizes = np.sort(frame["params"].unique())
    tokens = np.geomspace(frame["tokens"].min() * 0.8, frame["tokens"].max() * BEYOND, 200)
    for size, colour in zip(sizes, ordered_colours(len(sizes)), strict=True):
        mine = frame[frame["params"] == size]
        at = {"params": np.full(len(tokens), size), "tokens": tokens}
        ax.plot(tokens, fit.loss(**at), color=colour, lw=1.2)
        look = {**DOT, "color": colour, "label": f"N = {format_count(size)}"}
        ax.plot(mine["tokens"], mine["loss"], **look)
    floor, low, high = language.floor(fit)
    ax.axhspan(low, high, color=LAW_COLOURS[0], alpha=0.25, lw=0)
    ax.axhline(truth, color=INK, lw=1)
    ax.annotate(
        f"true E {truth:.4f}; fitted E {floor:.4f} [{low:.4f}, {high:.4f}]",
        (tokens[-1], truth),
        xytext=(-3, -9),
        textcoords="offset points",
        ha="right",
    )
    bottom, top = min(low, truth), float(frame["loss"].max())
    ax.set_ylim(bottom - 0.1 * (top - bottom), top + 0.04 * (top - bottom))
    log_axis(ax.xaxis, (tokens[0], tokens[-1]))
    ax.set_xlabel(LABELS["tokens"])
    ax.set_ylabel(LABELS["loss"])
    ax.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 0.82))
    ax.set_title(fit.law.equation, color=MUTED)


def draw_floors(ax: Any, found: Sequence[Language]) -> None:
    """What the fitted floor of each language differs by from the true one, in percent."""
    for at, language in enumerate(found):
        fit, truth = language.fits[0], language.truth["loss"]
        floor, low, high = (100 * (end / truth - 1) for end in language.floor(fit))
        bars = [[floor - low], [high - floor]]
        ax.errorbar([at], [floor], yerr=bars, fmt="o", color=LAW_COLOURS[0], ms=4.5, capsize=3)
    ax.axhline(0, color=INK, lw=1)
    ax.set_xticks(range(len(found)), [f"seed {language.seed}" for language in found])
    ax.set_xlim(-0.5, len(found) - 0.5)
    ax.set_ylim(-100 * GOAL / 2, 100 * GOAL / 2)
    ax.set_ylabel("fitted E over true E (%)")
    ax.set_title(f"{100 * found[0].fits[0].level:g}% intervals", color=MUTED)


def describe(called: str, found: Sequence[Language]) -> str:
    """The report: the truth of each language, and the floor of each law with its interval."""
    frame = found[0].fits[0].table.frame
    lines = [
        "# A floor that is known",
        "",
        f"    {called}",
        "",
        f"{len(frame)} runs of {frame['params'].nunique()} sizes from "
        f"{format_count(frame['params'].min())} to {format_count(frame['params'].max())} "
        f"parameters on {format_count(frame['tokens'].min())} to "
        f"{format_count(frame['tokens'].max())} tokens on each of {len(found)} languages, "
        f"`{frame['data'].iloc[0]}` and other seeds, on {frame['device'].iloc[0]}.",
        "",
        "![](floor.png)",
        "",
        "`entropy` is that of the language; `seen whole` its own loss on the validation tokens, if "
        "all of a document is read, which differs by chance; `in windows` its loss there in the "
        "windows in which models read them. The last is the floor to be found.",
        "",
        "| seed | entropy | seen whole | in windows | lowest loss of a run |",
        "| --- | --- | --- | --- | --- |",
    ]
    for language in found:
        truth = language.truth
        lowest = language.fits[0].table.frame["loss"].min()
        cells = [f"{truth[name]:.4f}" for name in ("rate", "text", "loss")]
        cells.append(f"{lowest:.4f} ({lowest / truth['loss'] - 1:+.2%})")
        lines.append(f"| {language.seed} | {' | '.join(cells)} |")
    level = f"{100 * found[0].fits[0].level:g}% interval"
    lines += [
        "",
        f"| law | seed | floor | {level} | its width | holds the truth | floor / truth - 1 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for place, law in enumerate(LAWS):
        for language in found:
            lines.append(f"| {law} | {language.seed} | {cells_of(language, place)} |")
    lines += ["", f"Widths are shares of the entropy; the goal is {GOAL:.0%}."]
    return "\n".join(lines) + "\n"


def cells_of(language: Language, place: int) -> str:
    truth = language.truth["loss"]
    floor, low, high = language.floor(language.fits[place])
    holds = "no"
    if low <= truth <= high:
        holds = "yes"
    cells = (
        f"{floor:.4f}",
        f"{low:.4f} to {high:.4f}",
        f"{(high - low) / language.truth['rate']:.2%}",
        holds,
        f"{floor / truth - 1:+.2%}",
    )
    return " | ".join(cells)


if __name__ == "__main__":
    main(*sys.argv[1:])
