"""How much compute does cleaning save? One ladder on a dirty text and on the same text cleaned.

    .venv/bin/python experiments/cleaning.py [LADDER.toml [RESULTS]]

Sweeps experiments/cleaning.toml as it is and with CLEAN, all else equal, the tokenizer too; run
again, it goes on where it was stopped. Both are compared on good text that neither has seen
(experiments/own/dirty_text.py:held_out), not on their own validation text, in which the dirty ones
have dirt. How much compute cleaned text saves is what `llmscale compare` says of the two ladders.
Writes runs.parquet, report.json (what cleaning removed) and README.md into results/cleaning."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from multiplier import side_by_side, worth

import llmscale
from llmscale.explain.recipes.multiplier import Multiplier
from llmscale.measure.sweep.spec import read_spec
from llmscale.measure.text.prepare import prepare

ROOT = Path(__file__).resolve().parents[1]
LADDER = ROOT / "experiments" / "cleaning.toml"
RESULTS = ROOT / "results" / "cleaning"
TEXT = ROOT / "experiments" / "own" / "dirty_text.py"
CLEAN = "boilerplate,language:en,near-duplicates"
"""Not Gopher's filters: they are for prose, and this text is code."""


def main(ladder: str = str(LADDER), results: str = str(RESULTS)) -> None:
    folder = Path(results)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = prepare(read_spec(Path(ladder)).data).path / "tokenizer.json"
    tables = {
        "dirty": sweep(Path(ladder), folder / "dirty", tokenizer),
        "cleaned": sweep(Path(ladder), folder / "cleaned", tokenizer, "--clean", CLEAN),
    }
    runs = pd.concat([table.assign(text=name) for name, table in tables.items()], ignore_index=True)
    runs.to_parquet(folder / "runs.parquet", compression="zstd")
    report = report_of(Path(ladder))
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    measured = runs.assign(loss=runs["loss_held_out"], loss_stderr=runs["loss_stderr_held_out"])
    text = describe(measured, worth(measured, "text", "dirty"), report)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


def sweep(ladder: Path, out: Path, tokenizer: Path, *more: str) -> pd.DataFrame:
    """The table of runs of the ladder, with their loss on the good text that was held out."""
    words = ["sweep", str(ladder), "--tokenizer", str(tokenizer), *more, "--out", str(out)]
    command = [sys.executable, "-m", "llmscale", *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    llmscale.evaluate(out, data=[f"held_out={TEXT}:held_out"])
    return pd.read_parquet(out / "runs.parquet")


def report_of(ladder: Path) -> dict[str, Any]:
    """What `llmscale data report` says of the text with the same cleaning."""
    source = read_spec(ladder).data.source
    words = ["data", "report", f"{TEXT}:{source.split(':')[1].split('@')[0]}", "--clean", CLEAN]
    command = [sys.executable, "-m", "llmscale", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    for effect in found["effects"].values():
        del effect["samples"]  # of others' text
    return found


def describe(runs: pd.DataFrame, saved: Multiplier, report: dict[str, Any]) -> str:
    """The report: losses side by side, the multiplier, and what cleaning removed."""
    lines = [
        "# A dirty text, and the same text cleaned",
        "",
        "    python experiments/cleaning.py",
        "",
        f"Cleaned with `--clean {CLEAN}`. Loss in nats per token on good text that was held out; "
        "means over seeds.",
        "",
        "| size | N | tokens | FLOPs | dirty | cleaned | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for _, pair in runs.groupby(["params", "tokens"]):
        lines.append(f"| {side_by_side(pair, 'text', 'dirty', 'cleaned')} |")
    lines += [
        "",
        f"By `llmscale compare`, {saved.sentence} ({saved.level:.0%} interval): cleaning saves "
        f"{saved.saving_shown}.",
        "",
        "| step | documents dropped | bytes dropped | documents changed |",
        "| --- | --- | --- | --- |",
    ]
    for name, effect in report["effects"].items():
        dropped = f"{effect['dropped']:,} | {effect['dropped_bytes']:,}"
        lines.append(f"| {name} | {dropped} | {effect['changed']:,} |")
    kept = f"{report['documents']:,} documents and {report['bytes']:,} bytes"
    lines += ["", f"{kept} were kept, of {report['documents_read']:,} documents."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
