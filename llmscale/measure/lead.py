"""The leader of a sweep: which task is next, which run is lost, and whether it is started again.
Where the runs are trained is the executor's part (executors/)."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.measure.executors import EXECUTORS, Event, Executor, Gone, Place, Task, Worker
from llmscale.measure.executors._worker_process import EXIT_INTERRUPTED, why_lost
from llmscale.measure.train.run_spec import known_spec
from llmscale.runs.run_folder import RunFolder

Report = Callable[[Event], object]


def train_tasks(
    executor: str,
    tasks: Sequence[Task],
    places: Sequence[Place],
    report: Report,
    options: Any = None,
) -> None:
    """Train every task, the first ones first as places come free, and `report` every event.

    If `report` returns true for a logged step, the run is stopped for good: it saves a checkpoint
    and ends with exit code 130. A run whose folder has got a `run.json` meanwhile ends without
    being trained. A worker that ends, is killed or hangs while nobody here has told it to is lost:
    its runs go on from their checkpoints, in a worker of their own. Returns when all have ended; on
    KeyboardInterrupt every worker first saves its checkpoint. Raises InputError if nothing can be
    started here, WorkError if the executor fails."""
    if tasks:
        member = EXECUTORS.find(executor)
        _Leader(member(tasks, places, options), tasks, report).lead()


@dataclass
class _Reached:
    """How far a run has got, where it was when it was lost last, and how often since without
    progress."""

    step: int = 0
    lost_at: int = -1
    losses: int = 0
    is_back: bool = False
    """Whether it was lost and has not logged a step since."""


class _Leader:
    def __init__(self, executor: Executor, tasks: Sequence[Task], report: Report) -> None:
        self._executor, self._report = executor, report
        self._waiting = list(tasks)
        self._shapes = {task: _shape(task) for task in tasks}
        self._busy: list[Worker] = []
        self._reached: dict[Path, _Reached] = {}
        """Of the runs that have been started."""
        self._lost: dict[Path, Gone] = {}
        """Runs that are lost while others of their task go on."""

    def lead(self) -> None:
        try:
            while self._waiting or self._busy:
                self._hand_out()
                for worker, news in self._executor.poll():
                    self._take(worker, news)
        except KeyboardInterrupt:
            runs = [folder for worker in self._busy for folder in worker.running]
            if runs:
                count = "1 run saves its checkpoint and ends"
                if len(runs) > 1:
                    count = f"{len(runs)} runs save their checkpoints and end"
                message = f"{count}; Ctrl-C again ends them at once"
                self._report(Event("warned", runs[0], message=message))
            raise
        finally:
            self._executor.end()

    def _hand_out(self) -> None:
        """Give tasks to the workers that are free."""
        for worker in self._executor.ready(tuple(self._waiting)):
            found = worker.task in self._waiting
            task = worker.task if found else self._next(worker)
            if task is None or not self._begin(task, worker):
                return

    def _next(self, worker: Worker) -> Task | None:
        """The first task that can start, if there is one of the shape that the worker trained last:
        it compiles nothing anew."""
        under_way = {folder for busy in self._busy for folder in busy.running}
        under_way.update(folder for task in self._waiting for folder in task.folders)

        def can_start(task: Task) -> bool:
            """Whether the file that it waits for is there, or nobody will write it any more."""
            after = task.after
            return after is None or after.exists() or after.parent not in under_way

        ready = [task for task in self._waiting if can_start(task)]
        if worker.task is not None:
            shape = self._shapes[worker.task]
            ready.sort(key=lambda task: self._shapes[task] != shape)
        return next(iter(ready), None)

    def _begin(self, task: Task, worker: Worker) -> bool:
        """Hand `task` to the worker; false if it cannot be started for now."""
        self._waiting.remove(task)
        worker.task, worker.stopped = task, set()
        worker.running = [folder for folder in task.folders if self._is_left(folder)]
        if not worker.running:
            return True
        if not self._executor.start(worker):
            worker.running = []
            self._waiting.insert(0, task)
            return False
        self._busy.append(worker)
        return True

    def _is_left(self, folder: Path) -> bool:
        """Whether a run is still to be trained. Says so when it starts, and when it need not."""
        if folder not in self._reached:
            self._reached[folder] = _Reached()
            self._report(Event("started", folder))
        if RunFolder(folder).has_ended:
            self._report(Event("ended", folder, exit_code=0))
            return False
        return True

    def _take(self, worker: Worker, news: Event | Gone) -> None:
        if isinstance(news, Gone):
            self._lost |= dict.fromkeys(worker.running, news)
            worker.running = []
        elif news.kind == "logged":
            self._log(worker, news)
        elif news.kind == "ended":
            self._end(worker, news)
        else:
            self._report(news)
        if not worker.running and worker in self._busy:
            self._busy.remove(worker)
            self._start_again(worker)

    def _log(self, worker: Worker, event: Event) -> None:
        reached, step = self._reached[event.folder], event.point["step"]
        if reached.is_back:
            message = f"goes on from its checkpoint at step {step}"
            self._report(Event("warned", event.folder, message=message))
            reached.is_back = False
        reached.step = max(reached.step, step)
        is_unwanted = self._report(event) is True
        if is_unwanted and event.folder not in worker.stopped:
            worker.stopped.add(event.folder)
            self._executor.stop(worker, event.folder)

    def _end(self, worker: Worker, event: Event) -> None:
        """A run has ended: for good, or because somebody else ended its process."""
        if event.folder not in worker.running:
            return
        code = event.exit_code or 0
        why = why_lost(code) if code else ""
        if why and event.folder not in worker.stopped:
            self._lost[event.folder] = Gone(code, why)
        elif why:
            self._report(Event("ended", event.folder, exit_code=EXIT_INTERRUPTED))
        else:
            self._report(event)
        worker.running.remove(event.folder)

    def _start_again(self, worker: Worker) -> None:
        """What the worker was given and has lost is handed out again, before all that waits."""
        assert worker.task is not None
        lost = [folder for folder in worker.task.folders if folder in self._lost]
        again = [folder for folder in lost if self._goes_on(worker, folder)]
        if again:
            task = Task(tuple(again), worker.task.after)
            self._shapes[task] = self._shapes[worker.task]
            self._waiting.insert(0, task)

    def _goes_on(self, worker: Worker, folder: Path) -> bool:
        """Whether a lost run is started again. Reports that it is, or its end."""
        gone, reached = self._lost.pop(folder), self._reached[folder]
        has_progressed = reached.step > reached.lost_at
        reached.losses = 1 if has_progressed else reached.losses + 1
        reached.lost_at, reached.is_back = reached.step, True
        if folder in worker.stopped:
            self._report(Event("ended", folder, exit_code=EXIT_INTERRUPTED))
        elif not gone.why or RunFolder(folder).has_ended:
            self._report(Event("ended", folder, exit_code=gone.exit_code))
        elif reached.losses > self._executor.PATIENCE:
            times = f"{reached.losses} times without getting beyond step {reached.step}"
            # Of a run that is given up 0 and 130 would say that it is done, or can go on.
            was_ended = gone.exit_code in (0, EXIT_INTERRUPTED)
            code = -signal.SIGTERM if was_ended else gone.exit_code
            self._report(Event("ended", folder, exit_code=code, message=f"{gone.why}, {times}"))
        else:
            again = "it is started again from its checkpoint"
            message = f"lost at step {reached.step}: {gone.why}; {again}"
            self._report(Event("warned", folder, message=message))
            return True
        return False


def _shape(task: Task) -> Any:
    spec = known_spec(RunFolder(task.folders[0]))
    return spec.job.shape if spec else None
