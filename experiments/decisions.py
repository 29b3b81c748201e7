"""From a law to a decision, on tables that others published: what each command prints.

    python experiments/decisions.py FOLDER

FOLDER holds chinchilla_epoch.csv (columns params, tokens, flops, loss: the runs of Hoffmann et al.
2022, as read off their figure by Besiroglu et al. 2024) and gadre_overtrain.csv (n_params, tokens,
flops, loss, dataset: the 104 models of Gadre et al. 2024). Neither is part of llmscale. Writes
results/decisions: README.md, the figures, and the page's picture if there is a chromium."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

RESULTS = Path(__file__).resolve().parents[1] / "results" / "decisions"
COLUMNS = 80
WINDOW = "1400,1480"
"""Of the browser, in pixels."""


@dataclass(frozen=True)
class Step:
    """A command that is shown, what it is asked for, and the figure that it writes."""

    question: str
    command: str
    figure: str = ""


STEPS = (
    Step(
        "Chinchilla's own budget: what to train, how long, and what else could be chosen?",
        "llmscale plan chinchilla_epoch.csv --flops 5.76e23 --gpu h100 --price-per-hour 2 "
        "--out plan.png",
        "plan.png",
    ),
    Step(
        "What does a loss of 2.0 cost, if two trillion tokens will be served?",
        "llmscale plan chinchilla_epoch.csv --loss 2.0 --inference-tokens 2T",
    ),
    Step(
        "And a loss of 1.7?",
        "llmscale plan chinchilla_epoch.csv --loss 1.7 --law chinchilla",
    ),
    Step(
        "A model for one GPU of 24 GB, twenty tokens a second, with 200B tokens of text?",
        "llmscale advise chinchilla_epoch.csv --flops 1e22 --unique-tokens 200B --serve-on l4 "
        "--tokens-per-second 20",
    ),
    Step(
        "Three texts, judged on the validation text of the first: how much compute does each need?",
        "llmscale compare gadre_overtrain.csv --by dataset --at 1e22 --out compare.png",
        "compare.png",
    ),
    Step(
        "Only the runs below 1e21 FLOPs are there: which runs would narrow the forecast of "
        "Chinchilla's budget?",
        "llmscale next chinchilla_epoch.csv --where 'flops < 1e21' --budget 2e21 --target 5.76e23 "
        "--figure next.png",
        "next.png",
    ),
    Step(
        "The same law as a page, to send to a colleague",
        "llmscale explore chinchilla_epoch.csv --out page.html",
        "page.png",
    ),
)


def run(command: str, folder: Path) -> str:
    """What a command prints in a terminal of 80 columns, errors and warnings with it."""
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder,
        env={**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode not in (0, 2):
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def photograph(page: Path, picture: Path) -> None:
    """A picture of a page, if there is a browser; else the one that is there stays."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print(f"no chromium here: {picture} is left as it is")
        return
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WINDOW}"]
    place = f"--screenshot={picture}"
    subprocess.run([browser, *options, place, page.as_uri()], check=True, capture_output=True)


def section(step: Step, folder: Path) -> list[str]:
    print(step.command)
    said = run(step.command, folder)
    lines = [f"## {step.question}", "", f"```text\n$ {step.command}\n{said}\n```", ""]
    if step.figure:
        lines += [f"![What {step.command.split()[1]} draws]({step.figure})", ""]
    return lines


def main(tables: Path) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    assert __doc__ is not None
    lines = ["# From a law to a decision", "", *__doc__.splitlines()[2:], ""]
    with TemporaryDirectory() as name:
        folder = Path(name)
        for table in ("chinchilla_epoch.csv", "gadre_overtrain.csv"):
            shutil.copy(tables / table, folder)
        for step in STEPS:
            lines += section(step, folder)
        for figure in folder.glob("*.png"):
            shutil.copy(figure, RESULTS)
        photograph(folder / "page.html", RESULTS / "page.png")
    (RESULTS / "README.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
