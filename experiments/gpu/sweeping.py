"""The sweep as its user runs it, by the command line, from text to figures."""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from gpu import Row
from gpu.text import write_counting
from llmscale.commands import app

COLUMNS = (
    "size",
    "params",
    "tokens",
    "batch_tokens",
    "status",
    "loss",
    "tokens_per_second",
    "mfu",
    "wall_mfu",
    "seconds",
)
"""Of runs.parquet, for the report."""


def prepare_text(device: str, data: str, tokenizer: str, work: str) -> Iterator[Row]:
    """Tokenize the text of the sweep, which then finds it."""
    yield _llmscale("data", "prepare", _source(data, work), "--tokenizer", tokenizer)


def sweep(
    device: str,
    dtype: str,
    data: str,
    tokenizer: str,
    work: str,
    sizes: str,
    tokens: str,
    context: int,
    folder: str,
) -> Iterator[Row]:
    """`llmscale sweep` into `folder`; the time from its start to its end, then its runs."""
    options = {
        "--sizes": sizes,
        "--tokens": tokens,
        "--context": str(context),
        "--device": device,
        "--out": folder,
    }
    options |= {"--dtype": dtype, "--data": _source(data, work), "--tokenizer": tokenizer}
    words = [word for option in options.items() for word in option]
    yield _llmscale("sweep", *words, "--yes", fresh=True)
    for run in pq.read_table(Path(folder) / "runs.parquet").to_pylist():
        yield {name: run[name] for name in COLUMNS}


def fit_law(device: str, folder: str) -> Iterator[Row]:
    """Fit the law of the sweep in `folder`, and draw its figures."""
    yield _llmscale("fit", folder)
    yield _llmscale("plot", folder)
    yield _llmscale("plot", folder, "--kind", "curves")


def _llmscale(*arguments: str, fresh: bool = False) -> Row:
    """Run the program, in a `fresh` process or in this one; its output goes to the log.

    Raises RuntimeError.
    """
    command = shlex.join(["llmscale", *arguments])
    started = time.perf_counter()
    if fresh:
        code = subprocess.run(
            [sys.executable, "-m", "llmscale", *arguments], check=False
        ).returncode
    else:
        code = app(list(arguments), prog_name="llmscale", standalone_mode=False) or 0
    if code:
        raise RuntimeError(f"{command} ended with exit code {code}")
    return {"command": command, "wall_seconds": time.perf_counter() - started}


def _source(data: str, work: str) -> str:
    return str(write_counting(Path(work))) if data == "counting" else data
