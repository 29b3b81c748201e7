"""Progress of a sweep on standard error: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from llmscale.commands import output
from llmscale.commands._tables import SafeTable
from llmscale.measure.executors import Event
from llmscale.measure.sweep.plan import Plan, PlannedRun
from llmscale.measure.sweep.records import read_run
from llmscale.measure.sweep.remaining import Pace, work_left
from llmscale.quantity import format_count, format_seconds
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.title import short_title

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class _Watched:
    """A run under way: when it started here, where from, and its last logged step."""

    run: PlannedRun
    started: float
    pace: Pace = field(default_factory=Pace)
    logged: float = 0.0
    """When the last step was logged."""
    step: int = 0
    tokens: int = 0
    train_loss: float | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    last_line: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float:
        """From the pace of the logged steps, evaluations included, or from the plan before that."""
        now = time.monotonic()
        left = None
        if self.step:
            work = work_left(self.run.job, self.step)
            left = self.pace.seconds_left(work, self.run.evaluation_seconds, now - self.logged)
        return max(0.0, self.run.seconds - (now - self.started)) if left is None else left

    @property
    def is_evaluating(self) -> bool:
        """Whether it has the last step behind it by its pace, and reads the validation text."""
        speed = self.pace.tokens_per_second
        left = self.run.job.tokens - self.tokens
        return bool(self.step and speed and left / speed < time.monotonic() - self.logged)


class SweepProgress:
    """Shows events of a sweep. Use as a context manager that gives what to call with each event."""

    def __init__(self, plan: Plan, folder: ResultsFolder) -> None:
        self._plan, self._folder = plan, folder
        self._runs = {run.job.run_id: run for run in plan.runs}
        self._total = len(plan.waiting)
        self._ended = 0
        self._watched: dict[str, _Watched] = {}
        self._live = Live(
            console=output.progress,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
        )
        self._terminal = output.progress.is_terminal

    def __enter__(self) -> Callable[[Event], None]:
        if self._terminal:
            self._live.__enter__()
        return self.report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:
            self._live.__exit__(kind, error, trace)

    def report(self, event: Event) -> None:
        """Take note of one event, and print it where it is worth a line."""
        run = self._runs[event.run_id]
        if event.kind == "started":
            self._watched[event.run_id] = _Watched(run, time.monotonic())
        elif event.kind == "warned":
            self._say(f"{_title(run):<22} {event.message}")
        elif event.kind == "logged":
            self._log(self._watched[event.run_id], event)
        else:
            del self._watched[event.run_id]
            self._ended += 1
            self._say(self._ending(run))

    def _log(self, watched: _Watched, event: Event) -> None:
        now, point = time.monotonic(), event.point
        watched.pace.log(point)
        watched.logged, watched.step = now, point["step"]
        watched.tokens, watched.train_loss = point["tokens"], point["train_loss"]
        watched.loss = point["loss"] or watched.loss
        watched.tokens_per_second = point["tokens_per_second"]
        if not self._terminal and now - watched.last_line > SECONDS_BETWEEN_LINES:
            watched.last_line = now
            job = watched.run.job
            self._say(
                f"{_title(watched.run):<22} {watched.tokens / job.tokens:4.0%}  train loss "
                f"{point['train_loss']:.3f}  "
                f"{self._speed(watched)}  {format_seconds(watched.seconds_left)} left"
            )

    def _ending(self, run: PlannedRun) -> str:
        row = read_run(self._folder, run.job.run_id)
        start = f"{_title(run):<22} "
        count = f"[{self._ended}/{self._total}]"
        if row is None:
            return start + "interrupted"
        if row.status != "done":
            return f"{start}{row.status}: {row.error}  {count}"
        return (
            f"{start}done  loss {row.loss:.4f}  perplexity {row.perplexity:.2f}  "
            f"{format_seconds(row.seconds or 0)}  {count}"
        )

    def _speed(self, watched: _Watched) -> str:
        rate = watched.tokens_per_second
        if not rate:
            return ""
        peak = self._plan.peak_flops
        mfu = f"  MFU {rate * watched.run.job.shape.flops_per_token / peak:.0%}" if peak else ""
        return f"{format_count(rate)} tokens/s{mfu}"

    def _losses(self, watched: _Watched) -> str:
        if watched.train_loss is None:
            return "starting"
        if watched.is_evaluating:
            return f"train loss {watched.train_loss:.3f}, evaluating"
        validation = f", validation {watched.loss:.3f}" if watched.loss is not None else ""
        return f"train loss {watched.train_loss:.3f}{validation}"

    def _say(self, line: str) -> None:
        console = self._live.console if self._terminal else output.progress
        console.print(line)

    def _render(self) -> Group:
        table = SafeTable.grid(padding=(0, 2))
        for watched in list(self._watched.values()):
            job = watched.run.job
            table.add_row(
                _title(watched.run),
                ProgressBar(total=job.tokens, completed=watched.tokens, width=24),
                f"{watched.tokens / job.tokens:.0%}",
                self._losses(watched),
                self._speed(watched),
                f"{format_seconds(watched.seconds_left)} left" if watched.tokens else "",
            )
        state = f"{self._ended} of {self._total} runs ended; Ctrl-C stops, the same command goes on"
        return Group(table, Text(state, style="dim"))


def _title(run: PlannedRun) -> str:
    origin = f", {run.origin}" if run.origin else ""
    return f"{short_title(run.job)}{origin}"
