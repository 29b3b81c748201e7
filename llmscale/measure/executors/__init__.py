"""Where runs are trained: `local`, `ray` and `slurm` are executors/local.py and so on.

A member defines `run(tasks, places, report)`, which takes the member's own `Options` as a fourth
argument where it has any. It names the package that it `NEEDS`, of the extra of its own name, if it
needs one. It may define `check()`, which raises InputError if nothing can be started from here.

`run` trains every task, the first ones first as places come free, and calls `report(event)` for
every `Event`. Where that returns true for a logged step, the run is stopped for good: it saves a
checkpoint and ends with exit code 130. A run whose folder has got a `run.json` meanwhile ends
without being trained. `run` returns when all have ended; on KeyboardInterrupt it first lets every
worker save its checkpoint. A worker, wherever it is, does so on SIGTERM, and on a `{"stop":
FOLDER}` on its standard input. A worker that ends so while `report` has not asked for it is lost,
as one that is killed. A member whose machines may be lost starts a run again from its checkpoint,
until it has been lost five times without a step more."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.machine.needs import need
from llmscale.menu import Menu


@dataclass(frozen=True)
class Place:
    """Somewhere one task at a time can be trained: a share of the CPU's threads, or a GPU."""

    threads: int
    gpu: int | None = None
    gpus: tuple[int, ...] = ()
    """All GPUs of the place, where each run takes several."""
    memory_share: float = 1.0
    """Share of the GPU's memory that a run there may take, so that others at its side have theirs.
    """


@dataclass(frozen=True)
class Task:
    """Runs that one worker trains: one folder, or several of equal shape and recipe.

    Each holds a `spec.json`.
    """

    folders: tuple[Path, ...]
    after: Path | None = None
    """A file that another task's run writes into its folder, a trunk's branch point, to wait for
    while that run may still write it."""


@dataclass(frozen=True)
class Event:
    """News of a run: `started`, `logged` (with a row of its curve), `warned` (with a message), or
    `ended`.

    An end has the exit code of the process, and a message where the executor knows why it was not
    0."""

    kind: str
    folder: Path
    point: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    message: str = ""

    @property
    def run_id(self) -> str:
        return self.folder.name


EXECUTORS: Menu[Any] = Menu(__name__, "executor", "--executor")


def executor_names() -> tuple[str, ...]:
    """The members of this menu."""
    return EXECUTORS.names


def check_executor(name: str, starting: bool = True) -> None:
    """Raise InputError if the member `name` lacks its package, or if `starting`, cannot start
    anything here.
    """
    member = pick_executor(name)
    if hasattr(member, "NEEDS"):
        need(member.NEEDS, f"--executor {name}", f"'llmscale[{name}]'")
    if starting and hasattr(member, "check"):
        member.check()


def pick_executor(name: str) -> Any:
    """The member `name`. Raises InputError where there is none."""
    return EXECUTORS.find(name)
