"""What is pretraining on prose worth to a model that learns Python? (Hernandez et al. 2021.)

    .venv/bin/python experiments/transfer.py

Pretrains experiments/prose.toml on docstrings and comments, fine-tunes each model on functions by
experiments/finetuning/transfer.toml, from its weights and from new ones; run again, it goes on
where it was stopped. Fits the effective data transferred, D_T = k D_F^alpha N^beta, and draws the
losses. Writes transfer.png and README.md into results/transfer, next to the tables."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import llmscale
from llmscale.explain.figures._axes import LABELS, log_axis
from llmscale.explain.figures._style import DOT, MUTED, OPEN_DOT, ordered_colours, style
from llmscale.explain.fit import Fit
from llmscale.measure.text.sources import open_source
from llmscale.quantity import format_count

OUT = Path("results/transfer")
TASK = Path("results/prose/functions.jsonl")
CODE = "experiments/own/prose_and_code.py:code"
FUNCTIONS = 8_000


def main() -> None:
    run("sweep", "experiments/prose.toml", "--yes")
    write_functions()
    run("finetune", "experiments/finetuning/transfer.toml", "--yes")
    fit = llmscale.fit(llmscale.read_runs(OUT), "transfer")
    draw(fit, OUT / "transfer.png")
    text = describe(fit)
    (OUT / "README.md").write_text(text, encoding="utf-8")
    print(text)


def run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "llmscale", *words], check=True)


def write_functions() -> None:
    """The task: a function a row, in an order that is always the same."""
    functions = islice(open_source(CODE).documents(0), FUNCTIONS)
    rows = (json.dumps({"text": text}) + "\n" for text in functions)
    TASK.write_text("".join(rows), encoding="utf-8")


def draw(fit: Fit, path: Path) -> None:
    """Losses against the tokens of the task, and what pretraining is worth by the law."""
    frame = fit.table.frame
    sizes = np.sort(frame["params"].unique())
    tokens = np.geomspace(frame["tokens"].min() * 0.8, frame["tokens"].max() * 1.2, 200)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        for size, colour in zip(sizes, ordered_colours(len(sizes)), strict=True):
            for pretrained, look, line in ((1.0, DOT, "-"), (0.0, OPEN_DOT, ":")):
                mine = frame[(frame["params"] == size) & (frame["pretrained"] == pretrained)]
                at = {"params": size, "tokens": tokens, "pretrained": pretrained}
                left.plot(tokens, fit.loss(**at), color=colour, ls=line, lw=1.2)
                shown = {**look, "color": colour}
                if pretrained:
                    shown["label"] = f"N = {format_count(size)}"
                left.plot(mine["tokens"], mine["loss"], **shown)
            right.plot(tokens, transferred(fit, size, tokens), color=colour, lw=1.2)
        right.plot(tokens, tokens, color=MUTED, ls="--", lw=0.8)
        right.annotate(
            "as much as D_F", (tokens[60], tokens[60]), xytext=(6, -6), textcoords="offset points"
        )
        for ax in (left, right):
            log_axis(ax.xaxis, (tokens[0], tokens[-1]))
            ax.set_xlabel("Tokens of the task D_F")
        left.set_ylabel(LABELS["loss"])
        left.legend(loc="upper right", title="dotted: from new weights")
        log_axis(right.yaxis, (tokens[0], tokens[-1]))
        right.set_ylabel("Effective tokens transferred D_T")
        figure.savefig(path, metadata={"Software": None})


def transferred(fit: Fit, params: Any, tokens: Any) -> Any:
    """D_T = k D_F^alpha N^beta."""
    law = fit.law.coefficients()
    return law["k"] * tokens ** law["alpha"] * params ** law["beta"]


def describe(fit: Fit) -> str:
    """The report: losses in pairs, and the law."""
    frame = fit.table.frame
    lines = [
        "# From prose to Python",
        "",
        "    python experiments/transfer.py",
        "",
        "Models that were pretrained on docstrings and comments of Python's standard library learn "
        "functions of other modules of it, and so do equal models with new weights.",
        "",
        "![](transfer.png)",
        "",
        "| N | tokens of the task | pretrained | new weights | difference | D_T by the law |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (params, tokens), pair in frame.groupby(["params", "tokens"]):
        loss = pair.groupby("pretrained")["loss"].mean()
        worth = format_count(transferred(fit, params, tokens))
        losses = f"{loss[1.0]:.3f} | {loss[0.0]:.3f} | {loss[1.0] - loss[0.0]:+.3f}"
        lines.append(f"| {format_count(params)} | {format_count(tokens)} | {losses} | {worth} |")
    lines += [
        "",
        f"{fit.law}",
        "",
        f"| | value | {100 * fit.level:g}% interval |",
        "| --- " * 3 + "|",
    ]
    for name, value in fit.law.coefficients().items():
        low, high = fit.intervals[name]
        lines.append(f"| {name} | {value:.4g} | {low:.3g} to {high:.3g} |")
    lines += [
        "",
        "From text to Python, with models up to a thousand times as large, Hernandez et al. (2021) "
        "found alpha = 0.18 and beta = 0.38, D in characters.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
