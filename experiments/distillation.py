"""How much compute does a small model save that is taught by a larger one? (Hinton et al. 2015.)

    .venv/bin/python experiments/distillation.py

Trains a teacher of 160k parameters, then the ladder of experiments/distillation.toml by itself and
taught; run again, it goes on where it was stopped. The multiplier is given for the FLOPs of the
students only, as if the teacher were there anyway, and with the forward passes of the teacher.
Writes README.md into results/distillation, next to the tables."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from multiplier import side_by_side, worth

from llmscale.explain.recipes.multiplier import Multiplier

OUT, TEACHER = "results/distillation", "results/teacher"
"""From the folder of the repository, as sweep.json tells the command."""
LADDER = "experiments/distillation.toml"
SHARED = ["--tokenizer", "bpe:512", "--validation-tokens", "100k", "--context", "128"]


def main() -> None:
    sweep("--sizes", "160k", "--tokens", "2M", "--data", "stdlib", *SHARED, "--out", TEACHER)
    sweep(LADDER, "--keep", "none", "--out", OUT)
    runs = pd.read_parquet(f"{OUT}/runs.parquet")
    whole = runs.assign(flops=runs["flops"] + runs["teacher_flops"].fillna(0))
    teacher = pd.read_parquet(f"{TEACHER}/runs.parquet").iloc[0]
    saved = [worth(table, "recipe", "default") for table in (runs, whole)]
    text = describe(runs, teacher, *saved)
    (Path(OUT) / "README.md").write_text(text, encoding="utf-8")
    print(text)


def sweep(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "llmscale", "sweep", *words, "--yes"], check=True)


def describe(
    runs: pd.DataFrame, teacher: "pd.Series", students: Multiplier, whole: Multiplier
) -> str:
    """The report: losses side by side, and the multiplier."""
    lines = [
        "# Small models by themselves, and taught",
        "",
        "    python experiments/distillation.py",
        "",
        f"The teacher has {teacher['params']:,} parameters, read {teacher['tokens']:,} tokens of "
        f"the same text, and has a loss of {teacher['loss']:.4f}.",
        "",
        "| size | N | tokens | FLOPs | alone | taught | difference | the teacher's FLOPs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for _, pair in runs.groupby(["params", "tokens"]):
        losses = side_by_side(pair, "recipe", "default", "distilled")
        lines.append(f"| {losses} | {pair['teacher_flops'].mean():.2e} |")
    lines += [
        "",
        f"By `llmscale compare`, with {students.level:.0%} intervals:",
        "",
        f"- If the teacher is there anyway, {students.sentence}: {students.saving_shown}.",
        f"- With the teacher's forward passes counted, but not its training, {whole.sentence}: "
        f"{whole.saving_shown}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
