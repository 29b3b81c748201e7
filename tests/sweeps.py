"""What tests of whole sweeps share: a text, the command, the tables, and its processes."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.train.job import Job
from llmscale.runs.shape import Shape

TIMES = ["seconds", "tokens_per_second", "mfu", "wall_mfu", "peak_memory_bytes"]
BRANCHED = {"sizes": "1x16x1,2x16x1", "tokens": "20k,25k,40k"}
# One learning rate whatever the budgets.
ALIKE = ["--lr", "0.02"]


def write_counting(folder: Path) -> Path:
    """Two hundred documents of counting in words, 300 kB."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lines = []
    for document in range(200):
        numbers = range(document * 37, document * 37 + 60)
        spelled = (" ".join(words[int(digit)] for digit in str(number)) for number in numbers)
        lines.append(json.dumps({"text": "; ".join(spelled)}))
    path = folder / "counting.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def loop_words(path: Path, text: Path, out: Path, hardware: str) -> list[str]:
    """The options of a `llmscale next --auto` of one chosen round, from a file that is written here
    with these lines of [hardware]."""
    path.write_text(
        'sizes = ["1x16x1", "2x16x1", "2x24x2"]\ntokens = ["5k", "10k", "20k"]\n'
        f'[data]\nsource = "{text}"\ntokenizer = "bpe:300"\n'
        "[recipe]\ncontext = 32\nbatch_tokens = 512\nlr = 0.02\n"
        f'[hardware]\ndevice = "cpu"\ndtype = "float32"\n{hardware}\n'
    )
    words = ["next", str(path), "--auto", "--yes", f"--out={out}", "--budget=5e10", "--rounds=1"]
    return [*words, "--params=40k", "--tokens=1M", "--law=chinchilla", "--bootstrap=20"]


def read_loop(out: Path) -> dict[str, Any]:
    """What adaptive.json has of a loop."""
    found: dict[str, Any] = json.loads((out / "adaptive.json").read_text())
    return found


def changed(command: list[str], changes: list[str]) -> list[str]:
    """The command with `changes`, options and their values, in the place of its own."""
    kept = list(command)
    for name in (word.partition("=")[0] for word in changes):
        if name.startswith("--") and name in kept:
            place = kept.index(name)
            del kept[place : place + 2]
    return [*kept, *changes]


def options(
    text: Path | str,
    out: Path | str,
    sizes: str,
    tokens: str = "20k",
    workers: str | None = "1",
    batch_tokens: str | None = "512",
) -> list[str]:
    """The command of a sweep by one worker however many cores there are: to start another takes
    seconds; and in a quarter of the usual steps, each of which takes as long as a smaller one. None
    leaves either to the sweep."""
    return [
        "sweep",
        "--sizes",
        sizes,
        "--tokens",
        tokens,
        "--data",
        str(text),
        "--tokenizer",
        "bpe:300",
        "--context",
        "32",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        *([] if workers is None else ["--workers", workers]),
        *([] if batch_tokens is None else ["--batch-tokens", batch_tokens]),
        "--out",
        str(out),
    ]


def llmscale(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_parquet(folder / "runs.parquet"), pd.read_parquet(folder / "curves.parquet")


def assert_same_results(one: Path, other: Path) -> None:
    """The tables of two sweeps are equal, value for value, times aside.

    Within pandas' 1e-5: what is left of a sweep may get more threads a run, which decide the
    rounding of torch's own operations. That differs by 2e-7 here; that a run goes on bit for bit is
    tested in test_train.py and test_trunks.py."""
    runs, curves = tables(one)
    other_runs, other_curves = tables(other)
    pd.testing.assert_frame_equal(runs.drop(columns=TIMES), other_runs.drop(columns=TIMES))
    ordered, other_ordered = (
        frame.drop(columns=["seconds", "tokens_per_second"]).sort_values(
            ["run_id", "step"], ignore_index=True
        )
        for frame in (curves, other_curves)
    )
    pd.testing.assert_frame_equal(ordered, other_ordered)


def lengthened(folder: Path, times: int) -> Path:
    """The folder of an untrained run as that of one of so many times as many steps."""
    spec = json.loads((folder / "spec.json").read_text())
    spec["job"]["sequences"] *= times
    (folder / "spec.json").write_text(json.dumps(spec))
    job = Job(**{**spec["job"], "shape": Shape(**spec["job"]["shape"])})
    return folder.rename(folder.with_name(job.run_id))


def worker_pids(out: Path) -> list[int]:
    """The processes that train runs of folder `out`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"llmscale.measure.train.worker" in words and any(
            word.startswith(os.fsencode(out)) for word in words
        ):
            found.append(int(entry.parent.name))
    return found


def wait_for(condition: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
