"""The progress of a run under way: one JSON line a logged step, in `runs/RUN_ID/progress.jsonl`.

Other processes, on this machine or another, read it while the run's own process appends. Its modification time is the
run's heartbeat. It goes when the run has ended: its curve is in `curve.parquet` by then.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmscale.runs import CurvePoint, write_text

FILE_NAME = "progress.jsonl"
LOG_NAME = "worker.log"
"""What the run's process says on standard error, beside it."""
_TAIL = 4096
"""Bytes that hold the last row and half of another for certain: a row has about 400."""


def append_progress(folder: Path, point: CurvePoint) -> None:
    """Add a logged step."""
    with (folder / FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")


def begin_progress(folder: Path, step: int) -> None:
    """Drop the rows from `step` on, of a process that ended after its last checkpoint: they are logged again."""
    if (folder / FILE_NAME).exists():
        kept = [row for row in read_progress(folder)[0] if row["step"] < step]
        write_text(folder / FILE_NAME, "".join(json.dumps(row) + "\n" for row in kept))


def end_progress(folder: Path) -> None:
    """Remove the file."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def read_progress(folder: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The rows from byte `offset` on, and the offset after them. A last line that is still being written is left."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], offset
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole) + len(newline)


def last_progress(folder: Path) -> dict[str, Any] | None:
    """The last row, or None where there is none yet."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            whole, _, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return None
    line = whole.rpartition(b"\n")[2]
    return json.loads(line) if line else None
