"""Where runs are trained: `local` is executors/local.py.

A member defines `run(folders, places, report)`, which trains the run of each folder (one that holds a `spec.json`)
by `python -m llmscale.train.worker FOLDER`, in the order given as places come free, and calls `report(event)` for
every `Event`. It returns when all have ended; on KeyboardInterrupt it first lets every worker save its checkpoint.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Somewhere one run at a time can be trained: a share of the CPU's threads, or a GPU."""

    threads: int
    gpu: int | None = None


@dataclass(frozen=True)
class Event:
    """News of a run: `started`, `logged` (with a row of its curve), or `ended` (with the worker's exit code)."""

    kind: str
    folder: Path
    point: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def run_id(self) -> str:
        return self.folder.name
