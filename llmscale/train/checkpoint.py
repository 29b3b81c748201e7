"""Checkpoints of a run under way: written beside and renamed, loaded without running any code."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llmscale.errors import WorkError

FILE_NAME = "checkpoint.pt"


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
    loss_sum: float
    """Sum of the training loss over the `steps_summed` steps since the last logged one."""
    steps_summed: int
    parent: str | None = None
    """The run whose first steps these are, where another one trained them."""
    parent_step: int = 0
    """How many of the steps the parent trained."""
    parent_seconds: float = 0.0
    """How much of `seconds` the parent took."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, replacing the last one in one step. Raises WorkError on a full disk."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            torch.save(asdict(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        raise WorkError(f"cannot write {path}: {error}", "make room and run it again") from error


def load_checkpoint(path: Path, device: str) -> Checkpoint | None:
    """The checkpoint at `path`; None where there is none. Raises WorkError where it cannot be read."""
    if not path.exists():
        return None
    try:
        return Checkpoint(**torch.load(path, map_location=device, weights_only=True))
    except Exception as error:
        raise WorkError(f"{path} cannot be read: {error}", f"remove it to train from the start: rm {path}") from error


def remove_checkpoint(folder: Path) -> None:
    (folder / FILE_NAME).unlink(missing_ok=True)
