"""Checkpoints of a run under way: written beside and renamed, checked when read, loaded without
running any code.

A file is what torch.save writes and 58 bytes more: a mark and the step, a mark and the digest of
all before. torch.load reads it as it is. Tensors are read into the host's memory, and copied from
there into what a model holds already."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch

from llmscale.errors import WorkError
from llmscale.runs.log import STEP_DIGITS, STEP_MARK
from llmscale.runs.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT
from llmscale.runs.safe_write import cannot_write, new_file_beside

_MARK = b"-sha256:"
_DIGEST_BYTES = 32
_PART_BYTES = 1 << 22


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on after `step` steps as if it had never stopped."""

    step: int
    seconds: float
    """Training time so far."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    curve: list[dict[str, Any]]
    """The logged steps so far, as rows of curves.parquet."""
    loss_sum: float | torch.Tensor
    """Training loss over the `steps_summed` steps since a logged one; a number once written."""
    steps_summed: int
    parent: str | None = None
    """The run whose first steps these are, if another one trained them."""
    parent_step: int = 0
    """How many of the steps the parent trained."""
    parent_seconds: float = 0.0
    """How much of `seconds` the parent took."""
    micro_batch: int | None = None
    """The micro-batch, if memory ran out and made it smaller than it was to be."""
    checkpointing: bool = False
    """Whether memory ran out even so, and activations are computed twice."""
    evaluation_batch: int | None = None
    """Sequences of an evaluation's pass, if memory ran out in one."""
    run_id: str | None = None
    """The run whose state this is; None in older files."""
    beginning: str | None = None
    """Of a branch point: what runs that go on from it begin with; None in older files."""

    @classmethod
    def before_any_step(cls) -> "Checkpoint":
        """The state that a new run begins with, but for its weights."""
        return cls(0, 0.0, model={}, optimizer={}, curve=[], loss_sum=0.0, steps_summed=0)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; tensors are not copied, as dataclasses.asdict would."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`; a run's last one stays next to it as `checkpoint-previous.pt`.
    Raises WriteError.

    If there is room for two but not for three, the one before last goes first."""
    previous = beside = None
    if path.name == CHECKPOINT:
        previous = path.with_name(PREVIOUS_CHECKPOINT)
    try:
        beside = new_file_beside(path)
        try:
            _write(beside, checkpoint)
        except OSError:
            if previous is None or not (previous.exists() and path.exists()):
                raise
            previous.unlink()
            _write(beside, checkpoint)
        if previous is not None and path.exists():
            path.replace(previous)
        beside.replace(path)
    except OSError as error:
        if beside is not None:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
        raise cannot_write(path, error, _size(checkpoint.to_dict())) from error


class DamagedError(Exception):
    """A file that is not what was written there."""


def read_checkpoint(path: Path, mmap: bool = False) -> Checkpoint | None:
    """The checkpoint at `path`, or None. Raises DamagedError; WorkError if it may not be read."""
    if not path.exists():
        return None
    try:
        whole = _is_whole(path)
    except OSError as error:
        raise WorkError(
            f"cannot read {path}: {error.strerror or error}", "fix that; the same command goes on"
        ) from error
    if whole is False:
        raise DamagedError(f"{path} is damaged: its checksum is wrong")
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True, mmap=mmap))
    except Exception as error:  # torch.load knows many, and one for code that it does not run
        problem = "is no checkpoint of llmscale" if whole else "is damaged or torn"
        raise DamagedError(f"{path} {problem}") from error


def remove_checkpoint(folder: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        (folder / name).unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left half written, for the one that holds the folder's lock."""
    for name in ("checkpoint*", "trunk-*", "curve.parquet", "progress.jsonl"):
        for path in folder.glob(f".{name}.*.part"):
            path.unlink(missing_ok=True)


class _Digested:
    """A file that computes the digest of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()

    def end(self) -> None:
        self._file.write(_MARK + self._digest.digest())


def _write(path: Path, checkpoint: Checkpoint) -> None:
    with path.open("wb") as file:
        digested = _Digested(file)
        try:
            torch.save(checkpoint.to_dict(), digested)  # type: ignore[arg-type]
        except RuntimeError:  # torch finds the end of its archive missing
            raise digested.error or OSError("torch could not write it") from None
        digested.write(STEP_MARK + f"{checkpoint.step:0{STEP_DIGITS}}".encode())
        digested.end()
        file.flush()
        os.fsync(file.fileno())


def _is_whole(path: Path) -> bool | None:
    """Whether the file is as it was written; None if it, older or torn, does not say."""
    with path.open("rb") as file:
        left = file.seek(0, os.SEEK_END) - len(_MARK) - _DIGEST_BYTES
        file.seek(max(0, left))
        end = file.read()
        if left < 0 or not end.startswith(_MARK):
            return None
        file.seek(0)
        digest = hashlib.sha256()
        while left:
            part = file.read(min(left, _PART_BYTES))
            digest.update(part)
            left -= len(part)
    return digest.digest() == end[len(_MARK) :]


def _size(value: Any) -> int:
    """Bytes of all tensors in `value`, and about as many as the rest takes."""
    if isinstance(value, torch.Tensor):
        return value.nbytes + 300
    if isinstance(value, dict):
        return sum(map(_size, value.values())) + 10 * len(value)
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 10
