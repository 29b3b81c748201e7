"""Where runs are trained: `local` is executors/local.py.

A member defines `run(tasks, places, report)`, which trains every task, the first ones first as places come free, and
calls `report(event)` for every `Event`. Where that returns true for a logged step, the run is stopped for good: it
saves a checkpoint and ends with exit code 130. A run whose folder has got a `run.json` meanwhile ends without being
trained. `run` returns when all have ended; on KeyboardInterrupt it first lets every worker save its checkpoint.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Somewhere one task at a time can be trained: a share of the CPU's threads, or a GPU."""

    threads: int
    gpu: int | None = None


@dataclass(frozen=True)
class Task:
    """Runs that one worker trains: one folder, or several of equal shape and recipe. Each holds a `spec.json`."""

    folders: tuple[Path, ...]
    after: Path | None = None
    """A file that another task's run writes into its folder, a trunk's branch point, to wait for while that run may
    still write it."""


@dataclass(frozen=True)
class Event:
    """News of a run: `started`, `logged` (with a row of its curve), or `ended` (with its exit code)."""

    kind: str
    folder: Path
    point: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def run_id(self) -> str:
        return self.folder.name
