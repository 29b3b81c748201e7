"""The progress of a run under way: one JSON line a logged step, in `runs/RUN_ID/progress.jsonl`.

Other processes, on this machine or another, read it while the run's own process appends. Its
modification time is the run's heartbeat. It goes when the run has ended: its curve is in
`curve.parquet` by then.

It is for those who watch. What the run goes on from is its checkpoint, which carries the curve too:
so a damaged line costs nobody anything. Readers leave it out, and the run's process writes the file
anew from the checkpoint."""

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from llmscale.errors import listed
from llmscale.runs.run import CURVE_COLUMNS, CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import write_text

STEP_MARK = b"-step:"
STEP_DIGITS = 12
"""A checkpoint ends with its step, so marked and in that many digits, and the digest of all before
(train/checkpoint.py): to be read without loading torch."""
_DIGEST_BYTES = 40
_TAIL = 4096
"""Bytes that hold the last row and half of another for certain: a row has about 400."""
_MAY_BE_EMPTY = ("loss", "perplexity", "grad_norm", "tokens_per_second")
_COUNTS = ("step", "tokens", "flops", "seconds")
_KINDS: dict[str, type | tuple[type, ...]] = {"string": str, "int64": int, "float64": (int, float)}


def append_progress(folder: Path, point: CurvePoint) -> None:
    """Add a logged step."""
    with (RunFolder(folder).progress_path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")


def sync_progress(folder: Path) -> None:
    """Have the disk hold what was appended so far, so that a power cut leaves it."""
    with suppress(OSError), _opened(RunFolder(folder).progress_path) as file:
        os.fsync(file.fileno())


def begin_progress(folder: Path, curve: Sequence[CurvePoint]) -> str | None:
    """Have the file say what a run that goes on has logged up to its checkpoint: `curve`. Says what
    was damaged in it. Rows after that are of a process that ended since: they are logged again."""
    path = RunFolder(folder).progress_path
    wanted = [asdict(point) for point in curve]
    damaged = damaged_lines(folder)
    if read_progress(folder)[0] != wanted or damaged:
        write_text(path, "".join(json.dumps(row) + "\n" for row in wanted))
    if not damaged:
        return None
    lines = f"line {damaged[0]} is" if len(damaged) == 1 else f"lines {listed(damaged)} are"
    anew = f"the file is written anew from the run's checkpoint, {len(wanted)} rows"
    return f"{path}: {lines} damaged; {anew}"


def saved_step(folder: Path) -> int:
    """How many steps of the run in `folder` need not be trained again: those of its last
    checkpoint.

    If none says so, as older ones, or those of several processes, the steps that it has logged."""
    length = len(STEP_MARK) + STEP_DIGITS
    try:
        with _opened(RunFolder(folder).checkpoint_path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - length - _DIGEST_BYTES))
            end = file.read(length)
    except OSError:
        end = b""
    digits = end.removeprefix(STEP_MARK)
    if len(end) == length and digits != end and digits.isdigit():
        return int(digits)
    last = last_progress(folder)
    return int(last["step"]) if last else 0


def end_progress(folder: Path) -> None:
    """Remove the file."""
    (RunFolder(folder).progress_path).unlink(missing_ok=True)


def read_progress(folder: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The rows from byte `offset` on, and the offset after them. A last line that is still being
    written is left for later. Left out are lines that are damaged or of another run."""
    try:
        with _opened(RunFolder(folder).progress_path) as file:
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")
    except OSError:
        return [], offset
    return list(_rows(whole.split(b"\n"), folder)), offset + len(whole) + len(newline)


def last_progress(folder: Path) -> dict[str, Any] | None:
    """The last row that is whole, or None if there is none yet."""
    try:
        with _opened(RunFolder(folder).progress_path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            whole, _, _ = file.read().rpartition(b"\n")
    except OSError:
        return None
    last = next(_rows(reversed(whole.split(b"\n")), folder), None)
    if last is not None or len(whole) < _TAIL // 2:
        return last
    return next(iter(read_progress(folder)[0][-1:]), None)  # all of the tail is damaged


def damaged_lines(folder: Path) -> list[int]:
    """The numbers of the lines, counted from 1, that are no row of the run in `folder`. A last line
    without its end is one: of a run that is not trained, nobody will end it."""
    try:
        with _opened(RunFolder(folder).progress_path) as file:
            *lines, torn = file.read().split(b"\n")
    except OSError:
        return []
    damaged = [number for number, line in enumerate(lines, start=1) if _row(line, folder) is None]
    return [*damaged, len(lines) + 1] if torn else damaged


def _opened(path: Path) -> BinaryIO:
    """The file, to be read. Raises OSError, also for a pipe, whose opening waits for ever."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return path.open("rb")


def _rows(lines: Iterable[bytes], folder: Path) -> Iterator[dict[str, Any]]:
    return (row for line in lines if (row := _row(line, folder)) is not None)


def _row(line: bytes, folder: Path) -> dict[str, Any] | None:
    """The row that a line of the run in `folder` holds; None if it holds none or another run's."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if is_row(row) and row["run_id"] == folder.name else None


def is_row(row: Any) -> bool:
    """Whether it is a row of a curve: its fields, each with a value that it can have."""
    if not isinstance(row, dict) or set(row) != {field.name for field in fields(CurvePoint)}:
        return False
    for name, value in row.items():
        if value is None and name in _MAY_BE_EMPTY:
            continue
        if isinstance(value, bool) or not isinstance(value, _KINDS[CURVE_COLUMNS[name]]):
            return False
        if name in _COUNTS and not 0 <= row[name] < math.inf:
            return False
    return True
