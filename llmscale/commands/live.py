"""Progress of a sweep on standard error: the table of `llmscale status` in a terminal, plain lines
elsewhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.text import Text

from llmscale.commands import output
from llmscale.commands._sweep_view import (
    has_rates,
    mfu_text,
    run_state,
    run_title,
    runs_table,
    time_text,
)
from llmscale.errors import counted
from llmscale.measure.executors import Event
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.planned_run import PlannedRun
from llmscale.measure.sweep.records import read_run
from llmscale.measure.sweep.remaining import Pace, work_left
from llmscale.measure.sweep.run_status import RunStatus
from llmscale.measure.sweep.status import seconds_left
from llmscale.quantity import format_count, format_seconds
from llmscale.runs.results_folder import ResultsFolder

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class _Watched:
    """A run of the plan: when it started here, and its last logged step."""

    run: PlannedRun
    peak_flops: float
    started: float | None = None
    pace: Pace = field(default_factory=Pace)
    logged: float = 0.0
    """When the last step was logged."""
    step: int = 0
    train_loss: float | None = None
    tokens_per_second: float | None = None
    last_line: float = field(default_factory=time.monotonic)

    def log(self, event: Event) -> None:
        """Take note of a logged step."""
        point = event.point
        self.pace.log(point)
        self.logged, self.step = time.monotonic(), point["step"]
        self.train_loss, self.tokens_per_second = point["train_loss"], point["tokens_per_second"]

    @property
    def seconds_left(self) -> float | None:
        """From the pace of the logged steps, evaluations included, or from the plan before that,
        with starting and compiling. None if it takes longer than was planned.
        """
        now = time.monotonic()
        if self.step:
            work = work_left(self.run.job, self.step)
            waited = now - self.logged
            left = self.pace.seconds_left(work, self.run.evaluation_seconds, waited)
            if left is not None:
                return left
        spent = 0.0 if self.started is None else now - self.started
        return self.run.seconds - spent if spent < self.run.seconds else None

    @property
    def state(self) -> str:
        """What it is doing: when it has the last step behind it by its pace, it reads the
        validation text.
        """
        if self.started is None:
            return "waiting"
        if not self.step:
            return "compiling" if self.run.compile else "starting"
        speed = self.pace.tokens_per_second
        left = work_left(self.run.job, self.step).tokens
        is_done = bool(speed and left / speed < time.monotonic() - self.logged)
        return "evaluating" if is_done else "running"

    def status(self) -> RunStatus:
        """How it stands, as `llmscale status` would say."""
        job, rate = self.run.job, self.tokens_per_second
        flops, peak = job.shape.flops_per_token, self.peak_flops
        left = work_left(job, max(self.step, self.run.first_step))
        return RunStatus(
            run_id=job.run_id,
            size=job.size,
            recipe=job.recipe,
            params=job.shape.params,
            tokens=job.tokens,
            seed=job.seed,
            state=self.state,
            tokens_done=min(job.tokens, self.step * job.batch_tokens),
            flops=job.flops,
            own_flops=self.run.own_flops,
            flops_left=float(left.tokens) * flops,
            train_loss=self.train_loss,
            tokens_per_second=rate,
            mfu=rate * flops / peak if rate and peak else None,
            seconds_spent=0.0 if self.started is None else time.monotonic() - self.started,
            seconds_left=self.seconds_left,
            lr=job.lr,
            batch_tokens=job.batch_tokens,
            parent=self.run.descent.parent.run_id if self.run.descent.parent else None,
        )


class SweepProgress:
    """Shows events of a sweep. Use as a context manager that gives what to call with each event."""

    def __init__(self, plan: Plan, folder: ResultsFolder) -> None:
        self._plan, self._folder = plan, folder
        self._left = {
            run.job.run_id: _Watched(run, plan.peak_flops) for run in plan.runs if not run.finished
        }
        """Runs that have not ended."""
        self._total, self._ended = len(self._left), 0
        statuses = [watched.status() for watched in self._left.values()]
        self._rates = has_rates(statuses) or (folder.path / "tune.json").exists()
        self._terminal = output.progress.is_terminal
        self._live = Live(
            console=output.progress,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Callable[[Event], None]:
        if self._terminal:
            self._live.__enter__()
        elif self._total:
            at_a_time = min(self._total, len(self._plan.places))
            output.progress.print(f"starting {at_a_time} of {counted(self._total, 'run')} ...")
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
        """Take note of one event, and print it if it is worth a line."""
        watched = self._left[event.run_id]
        if event.kind == "started":
            watched.started = watched.last_line = time.monotonic()
        elif event.kind == "warned":
            self._say(f"{self._title(watched)}: {event.message}")
        elif event.kind == "logged":
            watched.log(event)
            is_due = time.monotonic() - watched.last_line > SECONDS_BETWEEN_LINES
            if is_due and not self._terminal:
                watched.last_line = time.monotonic()
                self._say(self._line(watched))
        else:
            del self._left[event.run_id]
            self._ended += 1
            self._say(self._ending(watched))

    def _title(self, watched: _Watched) -> str:
        origin = f", {watched.run.origin}" if watched.run.origin else ""
        retry = " retry" if watched.run.job.retry_of else ""
        return f"{run_title(watched.status(), self._rates)}{retry}{origin}"

    def _line(self, watched: _Watched) -> str:
        run = watched.status()
        speed = f"{format_count(run.tokens_per_second)} tokens/s" if run.tokens_per_second else ""
        mfu = f"MFU {mfu_text(run.mfu)}" if run.mfu else ""
        time_left = time_text(run.seconds_left)
        left = f"{time_left} left" if time_left else ""
        title = f"{self._title(watched):<22}"
        parts = (title, run_state(run), f"train loss {run.train_loss:.3f}", speed, mfu, left)
        return "  ".join(part for part in parts if part)

    def _ending(self, watched: _Watched) -> str:
        row = read_run(self._folder, watched.run.job.run_id)
        start = f"[{self._ended}/{self._total}]  {self._title(watched):<22}  "
        if row is None:
            return f"{start}interrupted"
        if row.status != "done":
            return f"{start}{row.status}: {row.error}"
        time = format_seconds(row.seconds or 0)
        if self._rates:  # the title is long
            return f"{start}done  loss {row.loss:.4f}  {time}"
        return f"{start}done  loss {row.loss:.4f}  perplexity {row.perplexity:.2f}  {time}"

    def _say(self, line: str) -> None:
        if not self._terminal:
            output.progress.print(line)
            return
        # Else its own thread may draw the table between the moment that the line's way past the
        # table is reckoned and the moment that it is taken: a table that grew overwrites the line.
        with self._live._lock:
            self._live.console.print(line)

    def _render(self) -> Group:
        runs = [watched.status() for watched in list(self._left.values())]
        under_way = [run for run in runs if run.state != "waiting"]
        table = runs_table("", under_way, output.progress.width, rates=self._rates)
        left = time_text(seconds_left(runs, len(self._plan.places), under_way=True))
        time_left = f", about {left} left" if left else ""
        state = f"{self._ended} of {counted(self._total, 'run')} ended{time_left}"
        line = Text(f"{state}; Ctrl-C stops, the same command goes on", style="dim")
        return Group(table, line) if under_way else Group(line)
