"""Draw what mixtures, repeated text and augmentation gave on a small scale.

    for NAME in mixture repetition augmentation; do llmscale sweep experiments/$NAME.toml; done
    python experiments/mixing.py

Writes figures/NAME.png and README.md into the results folder of each, of those that are there."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llmscale.explain.api.mixture import best_mixtures
from llmscale.explain.figures._style import INK, LAW_COLOURS, MUTED, style
from llmscale.explain.fit.parametric import fit_law
from llmscale.quantity import format_count

ROOT = Path(__file__).resolve().parents[1] / "results"
COPIES = {"default": 0, "copies1": 1, "copies4": 4, "copies16": 16}
"""By recipe of augmentation.toml the changed copies of a document; none if it is as it was."""


def main(results: str = str(ROOT)) -> None:
    drawings: dict[str, Callable[[Path], tuple[Figure, str]]] = {
        "mixture": mixture,
        "repetition": repetition,
        "augmentation": augmentation,
    }
    for name, draw in drawings.items():
        folder = Path(results) / name
        if not (folder / "runs.parquet").exists():
            print(f"{folder} is not there: llmscale sweep experiments/{name}.toml")
            continue
        with style():
            figure, text = draw(folder)
            (folder / "figures").mkdir(exist_ok=True)
            figure.savefig(folder / "figures" / f"{name}.png")
        (folder / "README.md").write_text(text, encoding="utf-8")
        print(text)


def mixture(folder: Path) -> tuple[Figure, str]:
    """The loss on each text and their mean against the share of code, with the laws."""
    runs = _done(folder)
    others = runs[runs["recipe"] != "best"]
    found = best_mixtures(others, bootstrap=400)
    figure = Figure(figsize=(7.0, 2.6))
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    lines = [
        "# The best mixture of code and prose, predicted and trained",
        "",
        '    llmscale mixture results/mixture --where "recipe != best"',
        "",
        f"{_about(runs)} Nine mixtures at each size; the mean counts both losses alike. `best` is "
        "the mixture predicted from the other nine, trained afterwards.",
        "",
        "| N | best share of code | 90% interval | mean loss predicted | 90% interval | of the run "
        "`best` | lowest of the nine |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for panel, best in zip(panels, found, strict=True):
        mine = runs[runs["params"] == best.params].sort_values("share_code")
        _mixture_panel(panel, mine, best)
        checked = mine[mine["recipe"] == "best"]
        trained = "not trained"
        if len(checked):
            share, mean = checked["share_code"].iloc[0], _mean(checked).iloc[0]
            trained = f"{mean:.4f} at {share:.3f}"
        low, high = best.intervals["code"]
        ends = best.loss_interval or (np.nan, np.nan)
        cells = (
            f"{best.params:,.0f}",
            f"{best.shares['code']:.3f}",
            f"[{low:.3f}, {high:.3f}]",
            f"{best.loss:.4f}",
            f"[{ends[0]:.4f}, {ends[1]:.4f}]",
            trained,
            f"{best.measured:.4f} at {best.measured_shares['code']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    panels[0].set_ylabel("validation loss (nats per token)")
    panels[0].legend()
    lines += ["", f"The standard error of a loss on one text is about {_stderr(runs):.3f}."]
    return figure, "\n".join(lines) + "\n"


def _mixture_panel(panel: Any, runs: pd.DataFrame, best: Any) -> None:
    grid = np.linspace(0, 1, 101)
    laws = {name: fit.law.loss(grid) for name, fit in best.fits.items()}
    for colour, (name, line) in zip(LAW_COLOURS, laws.items(), strict=False):
        panel.plot(grid, line, color=colour)
        panel.plot(runs["share_code"], runs[f"loss_{name}"], "o", ms=3, color=colour, label=name)
    mean = _mean(runs)
    panel.plot(grid, sum(laws.values()) / len(laws), color=INK)
    panel.plot(runs["share_code"], mean, "o", ms=3, color=INK, label="mean of both")
    checked = runs["recipe"] == "best"
    panel.plot(
        runs["share_code"][checked], mean[checked], "*", ms=9, mfc="white", color=INK, label="best"
    )
    panel.axvspan(*best.intervals["code"], color=MUTED, alpha=0.25, lw=0)
    panel.set_title(f"N = {format_count(best.params)}")
    panel.set_xlabel("share of code in training")


def repetition(folder: Path) -> tuple[Figure, str]:
    """The loss against tokens, a line for each text, with the data-constrained law."""
    runs = _done(folder)
    runs = runs.assign(epochs=(runs["tokens"] / runs["unique_tokens"]).round())
    # The law has no term for a loss that rises again: runs past their text's best are left out.
    rising = np.array([_rises(runs, row) for row in runs.itertuples()])
    falling = runs[~rising].reset_index(drop=True)
    fit = fit_law(falling, "data-constrained", bootstrap=200, holdout="none", diagnostics=False)
    sizes = sorted(runs["params"].unique())
    figure = Figure(figsize=(7.0, 2.6))
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, params in zip(panels, sizes, strict=True):
        mine = runs[runs["params"] == params]
        texts = sorted(mine["unique_tokens"].unique())
        for colour, unique in zip(LAW_COLOURS, texts, strict=False):
            rows = mine[mine["unique_tokens"] == unique].sort_values("tokens")
            name = f"{format_count(unique)} different"
            panel.plot(rows["tokens"], rows["loss"], "o", ms=3, color=colour, label=name)
            grid = np.geomspace(unique, rows["tokens"].max(), 60)
            panel.plot(grid, fit.law.loss(params, grid, unique), color=colour)
        panel.set_xscale("log")
        panel.set_title(f"N = {format_count(params)}")
        panel.set_xlabel("training tokens")
    panels[0].set_ylabel("validation loss (nats per token)")
    panels[0].legend()
    at = (falling[name] for name in ("params", "tokens", "unique_tokens"))
    misfit = float(np.sqrt(np.mean(np.log(falling["loss"] / fit.law.loss(*at)) ** 2)))
    low, high = fit.intervals["R_D_star"]
    lines = [
        "# What repeated text is worth",
        "",
        "    llmscale sweep experiments/repetition.toml",
        "",
        f"{_about(runs)} Three texts, each read up to {runs['epochs'].max():.0f} times.",
        "",
        f"R_D_star = {fit.law.coefficients()['R_D_star']:.2f} [{low:.2f}, {high:.2f}] repetitions "
        f"(15.4 in Muennighoff et al. 2023), by the data-constrained law on {len(falling)} runs, "
        f"whose losses it misses by {misfit:.1%}. The other {int(rising.sum())} have read their "
        "text more often than is good for their loss, for which the law has no term.",
        "",
        "| N | different tokens | epochs: loss |",
        "| --- | --- | --- |",
    ]
    for (params, unique), rows in runs.groupby(["params", "unique_tokens"]):
        pairs = zip(rows["epochs"], rows["loss"], strict=True)
        said = ", ".join(f"{epochs:.0f}: {loss:.3f}" for epochs, loss in sorted(pairs))
        lines.append(f"| {params:,} | {format_count(unique)} | {said} |")
    return figure, "\n".join(lines) + "\n"


def augmentation(folder: Path) -> tuple[Figure, str]:
    """The loss against passes over the originals, with and without augmentation."""
    runs = _done(folder)
    epochs = (runs["tokens"] / runs["unique_tokens"]).round()
    copies = runs["recipe"].map(COPIES)
    runs = runs.assign(epochs=epochs, copies=copies, passes=epochs * copies.clip(lower=1))
    sizes = sorted(runs["params"].unique())
    figure = Figure(figsize=(7.0, 2.6))
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, params in zip(panels, sizes, strict=True):
        mine = runs[runs["params"] == params]
        for colour, (count, rows) in zip(LAW_COLOURS, mine.groupby("copies"), strict=False):
            rows = rows.sort_values("passes")
            name = f"{count} changed {'copy' if count == 1 else 'copies'}" if count else "as it is"
            panel.plot(rows["passes"], rows["loss"], "o-", ms=3, lw=1, color=colour, label=name)
        panel.set_xscale("log", base=2)
        panel.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
        panel.set_title(f"N = {format_count(params)}")
        panel.set_xlabel("passes over the originals (epochs x copies)")
    panels[0].set_ylabel("validation loss (nats per token)")
    panels[0].legend()
    lines = [
        "# What augmentation buys where text is repeated",
        "",
        "    llmscale sweep experiments/augmentation.toml",
        "",
        f"{_about(runs)} Words dropped with probability 0.1 and 5% of them swapped; every run is "
        f"trained on {format_count(runs['tokens'].max())} tokens, so that more passes are over "
        "less text. Losses are on the same text, which is never changed; their standard error is "
        f"about {runs['loss_stderr'].mean():.3f}.",
        "",
        "| N | passes over the originals | as it is | changed copies, read once | 4 copies, read "
        "4 times |",
        "| --- | --- | --- | --- | --- |",
    ]
    for params in sizes:
        mine = runs[runs["params"] == params].set_index(["copies", "epochs"])["loss"]
        for passes in (1, 4, 16):
            several = f"{mine[4, 4]:.4f}" if passes == 16 else ""
            cells = (mine[0, passes], mine[passes, 1])
            said = " | ".join(f"{loss:.4f}" for loss in cells)
            lines.append(f"| {params:,} | {passes} | {said} | {several} |")
    return figure, "\n".join(lines) + "\n"


def _rises(runs: pd.DataFrame, run: Any) -> bool:
    """Whether a run of the same size that read the same text less often has a lower loss."""
    alike = (runs["params"] == run.params) & (runs["unique_tokens"] == run.unique_tokens)
    fewer = runs[alike & (runs["tokens"] < run.tokens)]
    return bool((fewer["loss"] < run.loss).any())


def _done(folder: Path) -> pd.DataFrame:
    runs = pd.read_parquet(folder / "runs.parquet")
    return runs[runs["status"] == "done"].reset_index(drop=True)


def _mean(runs: pd.DataFrame) -> pd.Series:
    """The mean of the losses on both texts."""
    return (runs["loss_code"] + runs["loss_prose"]) / 2


def _stderr(runs: pd.DataFrame) -> float:
    return float(runs[["loss_stderr_code", "loss_stderr_prose"]].to_numpy().mean())


def _about(runs: pd.DataFrame) -> str:
    sizes = ", ".join(f"{params:,}" for params in sorted(runs["params"].unique()))
    return f"{len(runs)} runs of N = {sizes} on {runs['device'].iloc[0]}, {runs['dtype'].iloc[0]}."


if __name__ == "__main__":
    main(*sys.argv[1:])
