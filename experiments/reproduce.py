"""Measure a scaling law on this machine, draw it, and compare it with the law committed in
results/.

    make reproduce

Without a GPU: experiments/cpu.toml, beside results/cpu. With one: experiments/gpu.toml, or
gpu-stdlib.toml if its dataset cannot be read here, for want of a network or of the package
`datasets`; beside results/gpu-NAME if one is committed whose NAME is that of the GPU, as gpu-h100.
Stopped, the same command goes on where it was."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llmscale.errors import InputError
from llmscale.machine import device_name, pick_device
from llmscale.measure.sweep.spec import read_spec
from llmscale.quantity import format_seconds

ROOT = Path(__file__).resolve().parents[1]
LAW = "fit-power-floor.json"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


def main() -> int:
    started = time.monotonic()
    ladder, committed = choose()
    out = ROOT / "results" / f"reproduced-{ladder.stem}"
    for arguments in (
        ["sweep", ladder.relative_to(ROOT), "--out", out.relative_to(ROOT), "--yes"],
        ["fit", out.relative_to(ROOT)],
        ["plot", out.relative_to(ROOT)],
        ["plot", out.relative_to(ROOT), "--kind", "curves"],
    ):
        command = [sys.executable, "-m", "llmscale", *map(str, arguments)]
        code = subprocess.run(command, check=False, cwd=ROOT).returncode
        if code:
            return code
    console.print(
        f"\n[bold]reproduced in {format_seconds(time.monotonic() - started)}[/bold]: {out}"
    )
    compare(out, committed)
    return 0


def choose() -> tuple[Path, Path | None]:
    """The ladder for this machine, and the folder of committed results of such machines, if there
    is one.
    """
    experiments, results = ROOT / "experiments", ROOT / "results"
    if pick_device() == "cpu":
        return experiments / "cpu.toml", results / "cpu"
    ladder = experiments / "gpu.toml"
    text = read_spec(ladder).data
    try:
        text.open()
    except InputError as error:
        ladder = experiments / "gpu-stdlib.toml"
        console.print(
            f"{error.problem}; the ladder is trained on the standard library's source files instead"
        )
    return ladder, results_of(device_name("cuda"), results)


def results_of(gpu: str, results: Path) -> Path | None:
    """The folder gpu-NAME of `results` that holds a law, where all words of NAME are words of the
    GPU's name.
    """
    words = re.findall(r"[a-z0-9]+", gpu.lower())
    for path in sorted(results.glob(f"gpu-*/{LAW}")):
        if set(path.parent.name.split("-")[1:]) <= set(words):
            return path.parent
    return None


def compare(new: Path, committed: Path | None) -> None:
    """Print the new law beside the committed one."""
    if committed is None or not (committed / LAW).exists():
        console.print("results/ holds no law of such a machine to compare with")
        return
    paths = [folder / LAW for folder in (new, committed)]
    fits = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    table = Table(
        "",
        "here",
        f"{committed.relative_to(ROOT)}",
        title=f"{fits[0]['formula']}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in fits[1]["coefficients"]:
        table.add_row(name, *(coefficient(fit, name) for fit in fits))
    table.add_row("held-out error", *(held_out(fit) for fit in fits))
    console.print(table)
    sweeps = [
        json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        for folder in (new, committed)
    ]
    texts = [sweep["data"] for sweep in sweeps]
    if texts[0]["fingerprint"] != texts[1]["fingerprint"]:
        described = " and ".join(
            f"{text['source']} of {text['train_tokens']:,} tokens" for text in texts
        )
        console.print(
            f"The two were measured on different text ({described}), so their losses need not "
            "agree."
        )
    budgets = [", ".join(sweep["spec"]["tokens"]) for sweep in sweeps]
    if budgets[0] != budgets[1]:
        console.print(
            f"They were trained on {budgets[0]} and {budgets[1]} tokens a run, so the laws need "
            "not agree."
        )


def coefficient(fit: dict[str, Any], name: str) -> str:
    ends = fit["intervals"].get(name)
    interval = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else ""
    return (
        f"{fit['coefficients'][name]:.4g}{interval}".replace("[", r"\[")
        if name in fit["coefficients"]
        else "-"
    )


def held_out(fit: dict[str, Any]) -> str:
    check = fit["holdout"]
    return f"{check['mean_abs_rel_error']:.2%} ({check['law']})" if check else "-"


if __name__ == "__main__":
    sys.exit(main())
