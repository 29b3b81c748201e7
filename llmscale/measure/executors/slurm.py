"""Runs as jobs of a Slurm cluster, whose nodes share the results folder: one job a task.

What comes of a job is read from the folders of its runs, and whether it goes on from `squeue`. A
sweep whose own process was killed takes up the jobs that go on, which it finds by their names.
Preempted jobs and those of lost nodes are requeued by Slurm; before the time limit the worker is
told to save its checkpoint, and the job requeues itself."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import WorkError
from llmscale.measure.executors import Event, Executor, Gone, Place, Task, Worker
from llmscale.measure.executors._slurm_queue import (
    Options,
    Queue,
    end_jobs,
    hand_in,
    job_name,
    tell_to_stop,
)
from llmscale.measure.executors._watch import Watch, exit_code
from llmscale.measure.executors._worker_process import EXIT_INTERRUPTED
from llmscale.runs.run_folder import RunFolder

LOST = -9
"""The exit code of a run whose job is gone: as if its process had been killed."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_SEE = 10.0
"""How long files that a job has written may take to be seen here after it has ended."""


@dataclass(eq=False)
class _Job(Worker):
    job_id: str = ""
    is_told: bool = False
    """Whether it was told to end."""


class Slurm(Executor):
    """A job a task."""

    NEEDS, Options = "submitit", Options

    @classmethod
    def check(cls) -> None:
        Queue()

    @classmethod
    def threads_elsewhere(cls, options: Any, device: str) -> int:
        return options.cpus or 1

    def __init__(self, tasks: Sequence[Task], places: Sequence[Place], options: Any) -> None:
        self._places, self._options, self._watch = places, options or Options(), Watch()
        self._queue, self._jobs = Queue(), list[_Job]()
        self._found: list[tuple[Worker, Event]] = []
        """What to say of jobs that were taken up."""

    def ready(self, waiting: Sequence[Task]) -> Iterator[Worker]:
        mine = {job.job_id for job in self._jobs}
        alive = {name: one for name, one in self._queue.alive().items() if one not in mine}
        for task in waiting if alive else ():
            if job_id := alive.get(job_name(task.folders)):
                yield _Job(self._places[0], task, job_id=job_id)
        while len(self._jobs) < len(self._places):
            yield _Job(self._places[0])

    def start(self, worker: Worker) -> bool:
        assert isinstance(worker, _Job)
        if worker.job_id:
            message = f"goes on as job {worker.job_id}, which was handed in before"
            self._found.append((worker, Event("warned", worker.running[0], message=message)))
        else:
            try:
                worker.job_id = hand_in(worker.running, worker.place, self._options)
            except WorkError:
                if not self._jobs:
                    raise
                return False  # the cluster takes no more of this user's jobs for now
        for folder in worker.running:
            self._watch.begin(folder)
        self._jobs.append(worker)
        return True

    def poll(self) -> Iterator[tuple[Worker, Event | Gone]]:
        yield from self._found
        self._found.clear()
        self._queue.refresh()
        for job in list(self._jobs):
            for folder in list(job.running):
                yield from ((job, event) for event in self._news(folder, job))
            self._stop_if_unwanted(job)
            if not job.running:
                self._jobs.remove(job)
            elif self._queue.is_gone(job.job_id, 0 if job.is_told else SECONDS_TO_SEE):
                self._jobs.remove(job)
                yield from self._last_words(job)
        if self._jobs:
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self, worker: Worker, folder: Path) -> None:
        assert isinstance(worker, _Job)
        self._stop_if_unwanted(worker)

    def end(self) -> None:
        end_jobs({job.job_id for job in self._jobs})

    def _news(self, folder: Path, job: _Job) -> list[Event]:
        """What a run has logged since the last look, and its end."""
        code = None if folder in job.stopped else exit_code(folder)
        if code is None:
            return self._watch.events(folder)
        return [*self._watch.last_events(folder), Event("ended", folder, exit_code=code)]

    def _stop_if_unwanted(self, job: _Job) -> None:
        """A job ends as a whole, once none of its runs is wanted any more."""
        if job.running and not job.is_told and job.stopped.issuperset(job.running):
            job.is_told = True
            tell_to_stop(job.job_id, self._queue.state(job.job_id))

    def _last_words(self, job: _Job) -> Iterator[tuple[Worker, Event | Gone]]:
        """Of a job that has ended before its runs have."""
        state = self._queue.state(job.job_id) or "gone from the queue"
        if state != "CANCELLED":
            log = RunFolder(job.running[0]).log_path
            yield job, Gone(LOST, f"job {job.job_id} is {state}; see {log}")
            return
        message = f"job {job.job_id} was cancelled; the same command goes on"
        for folder in set(job.running) - job.stopped:
            yield job, Event("warned", folder, message=message)
        yield job, Gone(EXIT_INTERRUPTED)
