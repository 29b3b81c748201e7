"""Does a fitted floor agree with the entropy of the language, if that is known exactly?

    .venv/bin/python experiments/known_floor.py [LADDER.toml [RESULTS]]

Sweeps experiments/known-floor.toml, whose text is drawn from a language of known entropy; run
again, it goes on where it was stopped. Fits laws in N and D that have a floor, and compares the
floor with the loss of the language itself on the same validation tokens, which no model can come
below but by chance. Writes floor.png and README.md into results/known-floor, next to the tables."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import llmscale
from llmscale.errors import LlmscaleError
from llmscale.explain.figures._axes import LABELS, log_axis
from llmscale.explain.figures._style import DOT, INK, LAW_COLOURS, MUTED, ordered_colours, style
from llmscale.explain.fit import Fit
from llmscale.explain.forecast.forecast import law_band
from llmscale.quantity import format_count
from llmscale.runs.results_folder import results_folder

LADDER, RESULTS = "experiments/known-floor.toml", "results/known-floor"
"""From the folder of the repository, as sweep.json tells the command."""
LAWS = ("chinchilla", "over-training")
"""The first is drawn."""
BEYOND = 300
"""The lines are drawn up to this many times the longest run."""
GOAL = 0.02
"""The interval of the floor is to be no wider than this share of the entropy."""


def main(ladder: str = LADDER, results: str = RESULTS) -> None:
    words = ["sweep", ladder, "--out", results, "--yes"]
    subprocess.run([sys.executable, "-m", "llmscale", *words], check=True)
    folder = results_folder(results)
    truth = folder.read_sweep()["data"]["true_losses"][0]
    runs = llmscale.read_runs(results)
    fits = list(fitted(runs))
    draw(fits[0], truth["loss"], Path(results) / "floor.png")
    called = " ".join(["python", "experiments/known_floor.py", *sys.argv[1:]])
    text = describe(called, fits, truth)
    (Path(results) / "README.md").write_text(text, encoding="utf-8")
    print(text)


def fitted(runs: Any) -> Iterator[Fit]:
    """The fits that settle, of the laws in N and D with a floor."""
    for name in LAWS:
        try:
            yield llmscale.fit(runs, name)
        except LlmscaleError as error:
            print(f"{name}: {error}", file=sys.stderr)


def draw(fit: Fit, truth: float, path: Path) -> None:
    """Losses and the law against D, and beside them its floor with its interval and the truth."""
    frame, law = fit.table.frame, fit.law
    sizes = np.sort(frame["params"].unique())
    tokens = np.geomspace(frame["tokens"].min() * 0.8, frame["tokens"].max() * BEYOND, 200)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
        for size, colour in zip(sizes, ordered_colours(len(sizes)), strict=True):
            mine = frame[frame["params"] == size]
            at = {"params": np.full(len(tokens), size), "tokens": tokens}
            low, high = law_band(fit, **at)
            left.fill_between(tokens, low, high, color=colour, alpha=0.18, lw=0)
            left.plot(tokens, fit.loss(**at), color=colour, lw=1.2)
            left.plot(
                mine["tokens"],
                mine["loss"],
                **{**DOT, "color": colour},
                label=f"N = {format_count(size)}",
            )
        floor = law.coefficients()[law.floor or "E"]
        ends = fit.intervals[law.floor or "E"]
        for ax in (left, right):
            ax.axhspan(*ends, color=LAW_COLOURS[0], alpha=0.15, lw=0)
            ax.axhline(truth, color=INK, lw=1)
        left.annotate(
            f"the language itself: {truth:.4f}",
            (tokens[-1], truth),
            xytext=(-3, -9),
            textcoords="offset points",
            ha="right",
        )
        log_axis(left.xaxis, (tokens[0], tokens[-1]))
        left.set_xlabel(LABELS["tokens"])
        left.set_ylabel(LABELS["loss"])
        left.legend(loc="upper right")
        bars = [[floor - ends[0]], [ends[1] - floor]]
        right.errorbar([0], [floor], yerr=bars, fmt="o", color=LAW_COLOURS[0], ms=4.5, capsize=3)
        right.set_xticks([])
        right.set_xlim(-1, 1)
        right.set_xlabel(f"fitted {law.floor}\n{floor:.4f}\n[{ends[0]:.4f}, {ends[1]:.4f}]")
        bottom, top = min(ends[0], truth), float(frame["loss"].max())
        left.set_ylim(bottom - 0.12 * (top - bottom), top + 0.06 * (top - bottom))
        left.set_title(f"{law.equation}, {100 * fit.level:g}% intervals", color=MUTED)
        figure.savefig(path, metadata={"Software": None})


def describe(called: str, fits: Sequence[Fit], truth: dict[str, Any]) -> str:
    """The report: the truth, and the floor of each law with its interval."""
    frame = fits[0].table.frame
    lines = [
        "# A floor that is known",
        "",
        f"    {called}",
        "",
        f"{len(frame)} runs of {frame['params'].nunique()} sizes from "
        f"{format_count(frame['params'].min())} to {format_count(frame['params'].max())} "
        f"parameters on {format_count(frame['tokens'].min())} to "
        f"{format_count(frame['tokens'].max())} tokens of `{frame['data'].iloc[0]}`, on "
        f"{frame['device'].iloc[0]}.",
        "",
        f"- The entropy of the language is {truth['rate']:.4f} nats a token.",
        f"- Its own loss on the validation tokens, if all of a document is seen, is "
        f"{truth['text']:.4f}: by chance these tell that much.",
        f"- In the windows of {truth['context']} tokens in which models see them it is "
        f"{truth['loss']:.4f}. This is the floor to be found.",
        f"- The lowest loss of a run is {frame['loss'].min():.4f}, "
        f"{frame['loss'].min() / truth['loss'] - 1:.2%} above it.",
        "",
        f"| law | floor | {100 * fits[0].level:g}% interval | width, of the entropy | "
        "holds the truth | floor / truth - 1 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for fit in fits:
        name = fit.law.floor or "E"
        floor, ends = fit.law.coefficients()[name], fit.intervals[name]
        holds = "no"
        if ends[0] <= truth["loss"] <= ends[1]:
            holds = "yes"
        cells = (
            fit.law.name,
            f"{floor:.4f}",
            f"{ends[0]:.4f} to {ends[1]:.4f}",
            f"{(ends[1] - ends[0]) / truth['rate']:.2%}",
            holds,
            f"{floor / truth['loss'] - 1:+.2%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"The goal for the interval is {GOAL:.0%} of the entropy.", "", "![](floor.png)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
