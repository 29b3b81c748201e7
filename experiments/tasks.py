"""Three made tasks by fine-tuned models: what they write, scored, against size and examples.

    .venv/bin/python experiments/tasks.py

Pretrains experiments/made-text.toml, fine-tunes by experiments/finetuning/*.toml, and scores each
run on examples that no training holds; run again, it goes on where it was stopped. Writes tasks.png
and README.md into results/tasks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmscale.explain.figures._style import DOT, MUTED, OPEN_DOT, ordered_colours, style
from llmscale.quantity import format_count

ROOT = Path(__file__).resolve().parents[1]
OUT = Path("results/tasks")
TASKS = {
    "translation": ("translation", "bleu", "BLEU"),
    "summarisation": ("summarisation", "rougeL", "ROUGE-L"),
    "dialogue": ("dialogue", "exact_match", "exact match"),
}
"""The file of experiments/finetuning and of its results, and the score that is drawn."""
TESTED = 100
"""Examples that each run is scored on."""


def main() -> None:
    run("sweep", ROOT / "experiments" / "made-text.toml", "--yes")
    scores = {}
    for task, (name, *_) in TASKS.items():
        run("finetune", ROOT / "experiments" / "finetuning" / f"{name}.toml", "--yes")
        results = Path("results") / name
        tests = f"{task}=task:{task},split=test,examples={TESTED},seed=1"
        run("eval", results, "--task", tests)
        scores[task] = pd.read_parquet(results / "runs.parquet")
    OUT.mkdir(parents=True, exist_ok=True)
    draw(scores, OUT / "tasks.png")
    (OUT / "README.md").write_text(describe(scores), encoding="utf-8")


def run(*words: Any) -> None:
    subprocess.run([sys.executable, "-m", "llmscale", *map(str, words)], check=True)


def draw(scores: dict[str, pd.DataFrame], path: Path) -> None:
    """A panel a task: its score against examples, a line a size; open dots began as new models."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 2.6), layout="constrained")
        for ax, (task, (_, column, title)) in zip(
            figure.subplots(1, len(TASKS)), TASKS.items(), strict=True
        ):
            frame = scores[task]
            sizes = np.sort(frame["params"].unique())
            for size, colour in zip(sizes, ordered_colours(len(sizes)), strict=True):
                for pretrained, look, line in ((1, DOT, "-"), (0, OPEN_DOT, ":")):
                    mine = frame[(frame["params"] == size) & (frame["pretrained"] == pretrained)]
                    mine = mine.sort_values("examples")
                    bars = mine[f"{column}_stderr_{task}"]
                    shown = {**look, "color": colour, "ls": line, "lw": 1.0, "capsize": 2}
                    if pretrained:
                        shown["label"] = f"N = {format_count(size)}"
                    if len(mine):
                        ax.errorbar(mine["examples"], mine[f"{column}_{task}"], yerr=bars, **shown)
            ax.set_xscale("log")
            ax.set_xlabel("training examples")
            ax.set_title(f"{task}: {title}")
            ax.legend(loc="upper left")
        figure.suptitle("dotted: from new weights", fontsize=6.5, color=MUTED)
        figure.savefig(path, metadata={"Software": None})


def describe(scores: dict[str, pd.DataFrame]) -> str:
    """The report: every run's loss and scores."""
    lines = [
        "# Three made tasks, by size and examples",
        "",
        f"`python experiments/tasks.py`. Each run is scored on {TESTED} examples that no training "
        "holds; ± is one standard error over them. `scratch` began with new weights.",
        "",
        "![scores](tasks.png)",
    ]
    for task, frame in scores.items():
        headings = ("size", "method", "examples", "loss", "BLEU", "ROUGE-L", "exact match")
        lines += ["", f"## {task}", "", f"| {' | '.join(headings)} |", "| --- " * 7 + "|"]
        for _, row in frame.sort_values(["params", "recipe", "examples"]).iterrows():
            cells = [row["size"], row["recipe"], f"{row['examples']:.0f}", f"{row['loss']:.3f}"]
            for column in ("bleu", "rougeL", "exact_match"):
                value, error = row[f"{column}_{task}"], row[f"{column}_stderr_{task}"]
                cells.append(f"{value:.3g} ± {error:.1g}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
