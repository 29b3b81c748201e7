"""Where runs are trained: `--executor slurm` is executors/slurm.py, and so on for every member.

A member is a file with one class that inherits `Executor`: it starts workers, polls them and stops
them. Who waits, starts, is lost, and is tried again is the leader's part (measure/lead.py), which
is the same for all. A worker, wherever it is, saves a checkpoint and ends on SIGTERM, and ends one
run on a `{"stop": FOLDER}` on its standard input. An executor of one's own is such a class in a
file anywhere: `--executor ./mine.py:MyExecutor`."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmscale.errors import InputError, both
from llmscale.machine.needs import need
from llmscale.menu import Menu, is_own


@dataclass(frozen=True)
class Place:
    """Somewhere one task at a time can be trained: a share of the CPU's threads, or a GPU."""

    threads: int
    gpu: int | None = None
    gpus: tuple[int, ...] = ()
    """All GPUs of the place, if each run takes several."""
    memory_share: float = 1.0
    """Share of the GPU's memory that a run there may take, next to others."""


@dataclass(frozen=True)
class Task:
    """Runs that one worker trains, each with a `spec.json`: one, or several of equal shape."""

    folders: tuple[Path, ...]
    after: Path | None = None
    """A file that another task's run writes into its folder, a trunk's branch point, to wait for
    while that run may still write it."""


@dataclass(frozen=True)
class Event:
    """News of a run: `started`, `logged` (with a row of its curve), `warned` (with a message), or
    `ended`.

    An end has the exit code of the process, and a message if the executor knows why it was not
    0."""

    kind: str
    folder: Path
    point: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    message: str = ""

    @property
    def run_id(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class Gone:
    """Nothing more is to come of a worker's task: its runs that have not ended are lost. Without a
    reason `why` they are not to be started again: they failed, or were ended on purpose."""

    exit_code: int
    why: str = ""


@dataclass(eq=False)
class Worker:
    """What trains one task at a time, filled in by the leader. A member may add its own fields."""

    place: Place
    task: Task | None = None
    """What it trains, or has trained last; one that was found at work comes with its task."""
    running: list[Path] = field(default_factory=list)
    """The runs of its task that have not ended."""
    stopped: set[Path] = field(default_factory=set)
    """Those that were told to end for good."""


class Executor(ABC):
    """Starts, polls and stops the workers of one sweep, in one place or several."""

    NEEDS: ClassVar[str | None] = None
    """The package that it takes, of the extra of its own name."""
    Options: ClassVar[type | None] = None
    """A frozen dataclass of what is its own, each with a default: `--executor-option KEY=VALUE`,
    and in TOML the table `[hardware.NAME]` of a file of this folder."""
    IS_HERE: ClassVar[bool] = False
    """Whether all runs are trained on this machine, so that its devices are those to train on."""
    PATIENCE: ClassVar[int] = 5
    """How often a run that was lost is started again without getting further than before."""

    @classmethod  # noqa: B027 - most have nothing to check
    def check(cls) -> None:
        """Raise InputError if nothing can be started from here."""

    @classmethod
    def threads_elsewhere(cls, options: Any, device: str) -> int | None:
        """Threads of each run, if any number of them has room; None if they share this machine."""
        return None

    @abstractmethod
    def __init__(self, tasks: Sequence[Task], places: Sequence[Place], options: Any) -> None:
        """Make ready for `tasks`, as many at a time as there are `places`. Raises InputError if it
        cannot start any, WorkError if it fails."""

    @abstractmethod
    def ready(self, waiting: Sequence[Task]) -> Iterable[Worker]:
        """Workers that can take a task now; at first those that are found at one of `waiting`."""

    @abstractmethod
    def start(self, worker: Worker) -> bool:
        """Have `worker` train its `running` runs; false if that has to wait."""

    @abstractmethod
    def poll(self) -> Iterator[tuple[Worker, Event | Gone]]:
        """What has become of the workers; waits a little for the first news."""

    @abstractmethod
    def stop(self, worker: Worker, folder: Path) -> None:
        """End one run of a worker's, with a checkpoint."""

    @abstractmethod
    def end(self) -> None:
        """Let all runs under way save their checkpoints and end, and give back what was taken. A
        second Ctrl-C ends them at once."""


def _is_executor(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Executor) and found is not Executor


def _tried(found: type[Executor], title: str) -> type[Executor]:
    """An executor of the user's own. It starts nothing here."""
    if missing := sorted(found.__abstractmethods__):
        raise InputError(
            f"{title} lacks {both(missing)}",
            "python -m pydoc llmscale.measure.executors says what each does",
        )
    if found.Options is not None:
        found.Options()  # which takes defaults
    return found


EXECUTORS: Menu[type[Executor]] = Menu(
    __name__, "executor", "--executor", is_member=_is_executor, tried=_tried, own="MyExecutor"
)


def executor_tables(*more: str) -> dict[str, type]:
    """The options of each member that has any, by its name; of `more` than those of the folder."""
    found = {name: EXECUTORS.find(name).Options for name in (*EXECUTORS, *more)}
    return {name: options for name, options in found.items() if options is not None}


def check_executor(name: str, starting: bool = True) -> None:
    """Raise InputError if `name` lacks its package or, if `starting`, cannot start anything."""
    member = EXECUTORS.find(name)
    if member.NEEDS:
        install = member.NEEDS if is_own(name) else f"'llmscale[{name}]'"
        need(member.NEEDS, f"--executor {name}", install)
    if starting:
        member.check()
