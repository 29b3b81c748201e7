"""Measure a scaling law on this machine, draw it, and compare its losses with those in results/.

    make reproduce

Without a GPU it trains experiments/cpu.toml. With one it trains experiments/gpu.toml, or
gpu-stdlib.toml if the dataset of gpu.toml cannot be read here. The losses of experiments/NAME.toml
are compared with those of results/NAME, if it is there. Stopped, the same command goes on."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from llmscale.errors import InputError
from llmscale.machine import pick_device
from llmscale.measure.sweep.spec import read_spec
from llmscale.quantity import format_count, format_seconds

ROOT = Path(__file__).resolve().parents[1]
SAME_RUN = ["size", "tokens", "seed"]
TWO_SIDED_95 = 2.0
"""Standard errors of a difference that rounding on other hardware seldom exceeds."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 80)


def main() -> int:
    started = time.monotonic()
    ladder = choose()
    out = Path("results") / f"reproduced-{ladder.stem}"
    for arguments in (
        ["sweep", str(ladder.relative_to(ROOT)), "--out", str(out), "--yes"],
        ["fit", str(out)],
        ["plot", str(out)],
        ["plot", str(out), "--kind", "curves"],
    ):
        console.print(f"\n[bold]$ llmscale {' '.join(arguments)}[/bold]", soft_wrap=True)
        command = [sys.executable, "-m", "llmscale", *arguments]
        code = subprocess.run(command, check=False, cwd=ROOT).returncode
        if code:
            return code
    seconds = format_seconds(time.monotonic() - started)
    console.print(f"\n[bold]Measured in {seconds}[/bold]: {out}, with figures in {out}/figures\n")
    return show_verdict(ROOT / out, ROOT / "results" / ladder.stem)


def choose() -> Path:
    """The ladder for this machine."""
    experiments = ROOT / "experiments"
    if pick_device() == "cpu":
        return experiments / "cpu.toml"
    ladder = experiments / "gpu.toml"
    try:
        read_spec(ladder).data.open()
    except InputError as error:
        console.print(f"{error.problem}; the ladder is trained on the standard library instead")
        return experiments / "gpu-stdlib.toml"
    return ladder


@dataclass(frozen=True)
class Verdict:
    """What two tables of the same ladder say of each other: one row of `losses` a run in both."""

    losses: pd.DataFrame
    missing: int
    """Committed runs that have not been trained to their end here."""
    same_text: bool
    same_dtype: bool

    @property
    def disagreeing(self) -> int:
        return int((self.losses["apart"] > TWO_SIDED_95).sum())

    @property
    def failed(self) -> bool:
        return self.missing > 0 or (self.same_text and self.disagreeing > 0)

    def __str__(self) -> str:
        runs = len(self.losses)
        if self.missing:
            return f"NOT reproduced: {self.missing} of {runs + self.missing} runs are not here"
        if not self.same_text:
            return (
                "no verdict on the losses: the texts differ (the standard library of another "
                "Python is another text), so the losses need not agree"
            )
        rounding = "" if self.same_dtype else " (trained in another number type)"
        if self.disagreeing:
            return (
                f"NOT reproduced: {self.disagreeing} of {runs} losses differ by more than "
                f"{TWO_SIDED_95:g} standard errors{rounding}"
            )
        return (
            f"reproduced: {runs} of {runs} losses agree within {TWO_SIDED_95:g} standard errors; "
            f"the largest difference is {self.losses['apart'].max():.2f} of them{rounding}"
        )


def compare(new: Path, committed: Path) -> Verdict:
    """The losses of two results folders, run by run.

    `apart` is the difference in standard errors of a difference of two such losses: both are means
    over a sample of validation text, with the standard error that the tables hold.
    """
    here, there = (
        pd.read_parquet(folder / "runs.parquet").query("status == 'done'")
        for folder in (new, committed)
    )
    losses = here.merge(there, on=SAME_RUN, suffixes=("", "_there")).sort_values("params")
    difference = losses["loss"] - losses["loss_there"]
    stderr = (losses["loss_stderr"] ** 2 + losses["loss_stderr_there"] ** 2) ** 0.5
    return Verdict(
        losses.assign(difference=difference, apart=difference.abs() / stderr),
        missing=len(there) - len(losses),
        same_text=bool((losses["data_fingerprint"] == losses["data_fingerprint_there"]).all()),
        same_dtype=bool((losses["dtype"] == losses["dtype_there"]).all()),
    )


def show_verdict(new: Path, committed: Path) -> int:
    """Print the losses next to those committed, and the verdict; 1 if not reproduced."""
    if not (committed / "runs.parquet").exists():
        console.print(f"no verdict: there is no results/{committed.name} to compare with")
        return 0
    verdict = compare(new, committed)
    columns = ("size", "N", "tokens", "loss here", f"results/{committed.name}", "difference")
    table = Table(*columns, "standard errors", box=None, pad_edge=False)
    for run in verdict.losses.itertuples():
        table.add_row(
            str(run.size),
            format_count(run.params),
            format_count(run.tokens),
            f"{run.loss:.4f}",
            f"{run.loss_there:.4f}",
            f"{run.difference:+.4f}",
            f"{run.apart:.2f}",
        )
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    console.print(f"\n[bold]{verdict}[/bold]")
    return int(verdict.failed)


if __name__ == "__main__":
    sys.exit(main())
