"""Runs of a sweep shown in experiment trackers, from its events: so with every executor alike.

A thread of its own talks to them: training never waits for a tracker, and one that fails is left
out."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from llmscale.measure.executors import Event
from llmscale.measure.sweep.records import read_run
from llmscale.measure.trackers import Session, TrackedRun, find_trackers, finite
from llmscale.measure.train.job import Job
from llmscale.runs.checked import DamagedFile
from llmscale.runs.columns import fields_from
from llmscale.runs.log import read_progress
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.title import short_title

FINISH_SECONDS = 120.0
"""How long to wait at the end for trackers that lag behind."""
_NOT_METRICS = ("step", "run_id")

Report = Callable[[Event], object]


@contextmanager
def tracked(
    names: Sequence[str],
    jobs: Sequence[Job],
    folder: ResultsFolder,
    report: Report,
    warn: Callable[[str], None],
) -> Iterator[Report]:
    """Show `jobs` in the trackers `names`; gives the `report` to call. Raises InputError."""
    if not names:
        yield report
        return
    feed = _Feed(find_trackers(names), {job.run_id: job for job in jobs}, folder, warn)
    thread = threading.Thread(target=feed.work, daemon=True)
    thread.start()

    def pass_on(event: Event) -> object:
        feed.put(event)
        return report(event)

    try:
        yield pass_on
    finally:
        feed.put(None)
        thread.join(FINISH_SECONDS)
        if thread.is_alive():
            late = f"after {FINISH_SECONDS:.0f} s the trackers have not taken all that was logged"
            warn(f"{late}; the tables have it")


class _Feed:
    """Takes events to the sessions of all runs under way."""

    def __init__(
        self,
        trackers: dict[str, Any],
        jobs: dict[str, Job],
        folder: ResultsFolder,
        warn: Callable[[str], None],
    ) -> None:
        self._queue: queue.Queue[Event | None] = queue.Queue()
        self._trackers, self._jobs, self._folder, self._warn = dict(trackers), jobs, folder, warn
        self._sessions: dict[tuple[str, str], Session] = {}
        self._earlier: dict[str, list[dict[str, Any]]] = {}
        """Of each run, what was logged before its first event here: all of it, since a tracker may
        have lost the last steps of a process that was ended."""
        self._last: dict[tuple[str, str], int] = {}
        """The last step given to each: a lost worker's run logs some steps again."""

    def put(self, event: Event | None) -> None:
        """Take note of an event; None after the last one."""
        if event is not None and event.kind == "logged" and event.run_id not in self._earlier:
            self._earlier[event.run_id] = _logged_before(event)
        self._queue.put(event)

    def work(self) -> None:
        while (event := self._queue.get()) is not None:
            for name in list(self._trackers):
                if event.run_id in self._jobs:
                    self._try(name, partial(self._take, name, event))
        for name, run_id in list(self._sessions):
            self._try(name, partial(self._end, name, run_id))

    def _try(self, name: str, action: Callable[[], None]) -> None:
        """Do `action`; a tracker that fails is told of once, and left alone from then on."""
        if name not in self._trackers:
            return
        try:
            action()
        except Exception as error:
            del self._trackers[name]
            for key in [key for key in self._sessions if key[0] == name]:
                del self._sessions[key]
            why = f"{type(error).__name__}: {error}"
            self._warn(f"{name} is not told of this sweep any more: {why}")

    def _take(self, name: str, event: Event) -> None:
        if event.kind == "ended":
            self._end(name, event.run_id)
        elif event.kind == "logged":
            session = self._sessions.get((name, event.run_id))
            points = [event.point]
            if session is None:
                points = [*self._earlier[event.run_id], *points]
                session = self._trackers[name].begin(self._run(event.run_id, points[0]["step"]))
                self._sessions[name, event.run_id] = session
            for point in points:
                self._log(session, (name, event.run_id), point)

    def _log(self, session: Session, key: tuple[str, str], point: dict[str, Any]) -> None:
        if point["step"] > self._last.get(key, 0):
            logged = finite(point).items()
            metrics = {name: value for name, value in logged if name not in _NOT_METRICS}
            session.log(point["step"], metrics)
            self._last[key] = point["step"]

    def _end(self, name: str, run_id: str) -> None:
        session = self._sessions.pop((name, run_id), None)
        if session is not None:
            row = read_run(self._folder, run_id)
            session.end(asdict(row) if row else None)

    def _run(self, run_id: str, first_step: int) -> TrackedRun:
        job = self._jobs[run_id]
        settings = {name: value for name, value in job.to_json().items() if name != "shape"}
        config = {**fields_from(Run, job, job.shape), **settings}
        config = {name: value for name, value in config.items() if value is not None}
        return TrackedRun(job.run_id, short_title(job), config, self._folder.path, first_step)


def _logged_before(event: Event) -> list[dict[str, Any]]:
    """The rows of a run before that of `event`. The run may have ended meanwhile."""
    rows = read_progress(event.folder)[0]
    run = RunFolder(event.folder)
    if not rows and run.curve_path.exists():
        try:
            rows = run.read_curve().to_pylist()
        except DamagedFile:
            return []
    return [row for row in rows if row["step"] < event.point["step"]]
