"""Who watches a sweep or a tuning: what is told while it works, and how a notebook shows it."""

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from llmscale.errors import Note, counted
from llmscale.errors.printable import one_line
from llmscale.notes import weightiest
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.executors import Event
    from llmscale.measure.sweep.plan import Plan
    from llmscale.measure.text.prepare import Progress, TokenStore
    from llmscale.runs.results_folder import ResultsFolder


class Watcher(ABC):
    """What is told of a sweep while it works."""

    @abstractmethod
    def tell(self, text: str) -> None:
        """One line of news."""

    @abstractmethod
    def warn(self, note: Note | str) -> None:
        """What to know before the result is believed."""

    @abstractmethod
    def warn_all(self, notes: Sequence[Note]) -> None:
        """Several at once, of which the weightiest matter most."""

    @abstractmethod
    def preparing(self) -> "AbstractContextManager[Callable[[Progress], None]]":
        """While this lasts, text is read: gives what is to be called with how far it has got."""

    @abstractmethod
    def planned(self, plan: "Plan", store: "TokenStore", where: str) -> None:
        """What is about to be trained, on which text, into which folder or URL."""

    @abstractmethod
    def may_start(self, problem: str) -> bool:
        """Whether to start in spite of `problem`, a sentence."""

    @abstractmethod
    def training(
        self, plan: "Plan", folder: "ResultsFolder"
    ) -> "AbstractContextManager[Callable[[Event], object]]":
        """While this lasts, `plan` is trained: gives what is to be called with its events."""


class Silent(Watcher):
    """Shows nothing, and starts nothing that takes longer than was said."""

    def tell(self, text: str) -> None:
        """Nothing."""

    def warn(self, note: Note | str) -> None:
        """Nothing: the result holds all notes."""

    def warn_all(self, notes: Sequence[Note]) -> None:
        """Nothing."""

    def preparing(self) -> "AbstractContextManager[Callable[[Progress], None]]":
        """Takes progress without showing it."""
        return nullcontext(lambda done: None)

    def planned(self, plan: "Plan", store: "TokenStore", where: str) -> None:
        """Nothing."""

    def may_start(self, problem: str) -> bool:
        """No."""
        return False

    def training(
        self, plan: "Plan", folder: "ResultsFolder"
    ) -> "AbstractContextManager[Callable[[Event], object]]":
        """Takes events without showing them."""
        return nullcontext(lambda event: None)


class Shown(Watcher):
    """Shows progress where Python runs: bars in a terminal and in a notebook, else a line for each
    run that ends."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(stderr=True, markup=False, highlight=False, emoji=False)

    def tell(self, text: str) -> None:
        """Printed."""
        self._console.print(one_line(text))

    def warn(self, note: Note | str) -> None:
        """Printed behind the word `warning`."""
        self.tell(f"warning: {note}")

    def warn_all(self, notes: Sequence[Note]) -> None:
        """The weightiest; the result has all of them."""
        shown, left = weightiest(notes)
        for note in shown:
            self.warn(note)
        if left:
            self.tell(f"and {left} more: .notes of the result")

    @contextmanager
    def preparing(self) -> "Iterator[Callable[[Progress], None]]":
        """Says each stage once: text is read in seconds, or once for all sweeps of it."""
        seen: set[str] = set()

        def report(done: "Progress") -> None:
            if done.stage not in seen:
                self.tell(f"text: {done.stage} ...")
            seen.add(done.stage)

        yield report

    def planned(self, plan: "Plan", store: "TokenStore", where: str) -> None:
        """How much there is to train, for how long, and by which tuned rule."""
        waiting = len(plan.waiting)
        time = f", about {format_seconds(plan.seconds)}" if plan.seconds else ""
        runs = counted(len(plan.runs), "run")
        self.tell(f"{where}: {waiting} of {runs} to train{time} on {plan.device}")
        for rule in plan.rules:
            self.tell(rule)

    def may_start(self, problem: str) -> bool:
        """No: whoever calls says so with `max_hours` or `yes`."""
        return False

    @contextmanager
    def training(
        self, plan: "Plan", folder: "ResultsFolder"
    ) -> "Iterator[Callable[[Event], object]]":
        """A bar for each run under way, and a line for each that has ended."""
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        from llmscale.measure.sweep.records import read_run

        jobs = {run.job.run_id: run.job for run in plan.runs}
        bars: dict[str, TaskID] = {}
        plain = TextColumn("{task.description}", markup=False)
        shown = self._console.is_terminal or self._console.is_jupyter
        columns = (plain, BarColumn(), TimeRemainingColumn())

        def report(event: "Event") -> None:
            job = jobs[event.run_id]
            title = f"{job.size} on {format_count(job.tokens)} tokens"
            if event.kind == "started":
                bars[event.run_id] = bar.add_task(title, total=job.tokens)
            elif event.kind == "warned":
                self.warn(f"{title}: {event.message}")
            elif event.kind == "logged":
                loss = f"{title}, train loss {event.point['train_loss']:.3f}"
                bar.update(bars[event.run_id], completed=event.point["tokens"], description=loss)
            else:
                bar.remove_task(bars.pop(event.run_id))
                row = read_run(folder, event.run_id)
                self.tell(f"{title}: {_ending(row)}")

        with Progress(*columns, console=self._console, disable=not shown, transient=True) as bar:
            yield report


def _ending(row: object) -> str:
    from llmscale.runs.run import Run

    if not isinstance(row, Run):
        return "interrupted"
    return f"loss {row.loss:.4f}" if row.loss is not None else f"{row.status}: {row.error}"


def watcher_of(progress: "Watcher | bool") -> Watcher:
    """The watcher that is meant: True shows progress, False nothing."""
    if isinstance(progress, Watcher):
        return progress
    return Shown() if progress else Silent()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """While this lasts, SIGTERM saves what is under way as Ctrl-C does. Outside of the main thread,
    where Python takes no signals, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
