"""Does the built-in rule for learning rate and batch hold? Tunes the CPU ladder and compares the
rule with the best.

    .venv/bin/python experiments/learning_rate.py [SIZES@TOKENS ...] [--out FOLDER] [--seeds N]

By default every size of experiments/cpu.toml at 1M tokens and three of them at 4M, so that N and D
are told apart. Run again, it goes on where it was stopped. Writes results/learning-rate: the
trials, tune.json, and README.md, which is what it prints."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from llmscale.measure.train import recipe
from llmscale.measure.train.rule import PowerRule
from llmscale.quantity import format_count

ROOT = Path(__file__).resolve().parents[1]
LADDER = ROOT / "experiments" / "cpu.toml"
RUNGS = ("10k,25k,60k,140k,330k@1M", "10k,60k,330k@4M")
GOAL = 0.01
"""The rule holds where its loss is at most this share above the best of the grid."""
PUBLISHED = (
    ("lr", "Porian et al. 2024", "N^-0.333"),
    ("lr", 'Li et al. 2025, "Step Law"', "1.79 N^-0.713 D^0.307"),
    ("batch_tokens", "Porian et al. 2024", "N^0.667"),
    ("batch_tokens", 'Li et al. 2025, "Step Law"', "0.58 D^0.571"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rungs", nargs="*", default=RUNGS, metavar="SIZES@TOKENS")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "learning-rate")
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    for number, rungs in enumerate(asked.rungs, start=1):
        sizes, _, tokens = rungs.partition("@")
        print(f"[{number}/{len(asked.rungs)}] {sizes} on {tokens} tokens", flush=True)
        command = [
            "tune",
            LADDER,
            "--sizes",
            sizes,
            "--tokens",
            tokens,
            "--seeds",
            asked.seeds,
            "--out",
            asked.out,
        ]
        code = subprocess.run(
            [sys.executable, "-m", "llmscale", *map(str, command)], check=False
        ).returncode
        if code:
            return code
    report = describe(json.loads((asked.out / "tune.json").read_text(encoding="utf-8")))
    called = shlex.join(["python", "experiments/learning_rate.py", *sys.argv[1:]])
    text = f"# Does the built-in rule hold?\n\n    {called}\n\n{report}\n"
    (asked.out / "README.md").write_text(text, encoding="utf-8")
    print(f"\n{report}")
    return 0


def describe(tuning: dict[str, Any]) -> str:
    """The rule against the best of every grid, and the exponents found beside those in use and
    published.
    """
    hardware, data = tuning["hardware"], tuning["data"]
    lines = [
        f"Measured on {hardware['device_name']}, {hardware['cores']} cores, {hardware['dtype']}; "
        f"text {data['source']} of {data['train_tokens']:,} tokens. Losses are in nats per token.",
        "",
        "| size | N | tokens | rule: lr | batch | loss above the best | best lr | batch | loss | "
        "bracketed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rungs = [rung for rung in tuning["rungs"] if rung["finished"]]
    for rung in rungs:
        rule, open_ended = (
            rung["rule_in_use"],
            False in (rung["lr_bracketed"], rung["batch_bracketed"]),
        )
        cells = [
            rung["size"],
            f"{rung['params']:,}",
            format_count(rung["tokens"]),
            f"{rule['lr']:.5f}",
            f"{rule['batch_tokens']:,}",
            "diverged" if rule["penalty"] is None else f"{rule['penalty']:.2%}",
            f"{rung['lr']:.5f}",
            f"{rung['batch_tokens']:,}",
            f"{rung['loss']:.4f}",
            "no" if open_ended else "yes",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    within = sum(
        rung["rule_in_use"]["penalty"] is not None and rung["rule_in_use"]["penalty"] <= GOAL
        for rung in rungs
    )
    lines += ["", f"The rule is within {GOAL:.0%} of the best at {within} of {len(rungs)}.", ""]
    lines += ["| | learning rate | tokens a step |", "| --- | --- | --- |"]
    lines.append(f"| here | {exponents(tuning, 'lr')} | {exponents(tuning, 'batch_tokens')} |")
    batch = f"{recipe.BATCH_TOKENS} D^{recipe.BATCH_EXPONENT}"
    lines.append(f"| in use | {PowerRule(*recipe.LEARNING_RATE)} | {batch} |")
    for source in dict.fromkeys(source for _, source, _ in PUBLISHED):
        found = {name: law for name, where, law in PUBLISHED if where == source}
        lines.append(f"| {source} | {found.get('lr', '')} | {found.get('batch_tokens', '')} |")
    lines += [f"\n{warning['code']}: {warning['message']}" for warning in tuning["warnings"]]
    return "\n".join(lines)


def exponents(tuning: dict[str, Any], name: str) -> str:
    """The law found, and its exponents with their standard errors."""
    fit = tuning["fits"].get(name)
    if fit is None:
        return ""
    letters = {"params": "N", "tokens": "D"}
    found = (
        f"{letters[key]}: {exponent['value']:.3f} ± {exponent['stderr']:.3f}"
        for key, exponent in fit["exponents"].items()
        if exponent["stderr"] is not None
    )
    return "; ".join([fit["formula"], *found])


if __name__ == "__main__":
    sys.exit(main())
