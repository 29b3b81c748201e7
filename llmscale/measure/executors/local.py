"""Runs on this machine: a process a place, kept for one task after another: torch loads once."""

import json
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.measure.executors import Event, Executor, Gone, Place, Task, Worker
from llmscale.measure.executors._hanging import Pulse, Rhythm
from llmscale.measure.executors._worker_process import (
    Process,
    close,
    event_of,
    kill,
    start_worker,
    tell,
    wait_for,
    why_lost,
)

SECONDS_BETWEEN_LOOKS = 0.5
"""How often to look whether a file that a task waits for is there, and whether a worker hangs."""


@dataclass(eq=False)
class _Local(Worker):
    process: Process | None = None
    is_leaving: bool = False
    """Whether the process ends after this task: one of its runs failed, or somebody ended it."""
    pulse: Pulse | None = None
    """Of its task."""
    hung: str = ""
    """Why it was taken to hang, and killed."""


class Local(Executor):
    """One process a place."""

    IS_HERE, PATIENCE = True, 2

    def __init__(self, tasks: Sequence[Task], places: Sequence[Place], options: Any) -> None:
        self._workers = [_Local(place) for place in places]
        self._rhythms = {folder: Rhythm() for task in tasks for folder in task.folders}
        self._said: queue.Queue[tuple[_Local, Process, dict[str, Any] | None]] = queue.Queue()
        """What each process says, and None when it has ended."""
        self._last_look = time.monotonic()

    def ready(self, waiting: Sequence[Task]) -> Iterator[Worker]:
        for worker in self._workers:
            if not worker.running:
                if worker.is_leaving and worker.process is not None:
                    close(worker.process)
                    wait_for(worker.process)
                    worker.process = None
                yield worker

    def start(self, worker: Worker) -> bool:
        assert isinstance(worker, _Local)
        folders = [str(folder) for folder in worker.running]
        worker.pulse = Pulse({folder: self._rhythms[folder] for folder in worker.running})
        try:
            if worker.process is not None:
                tell(worker.process, folders=folders)
                return True
        except BrokenPipeError:  # it has ended while it was idle
            pass
        worker.process = start_worker(folders, worker.place)
        worker.is_leaving, worker.hung = bool(worker.place.gpus), ""
        threading.Thread(target=self._listen, args=(worker, worker.process), daemon=True).start()
        return True

    def poll(self) -> Iterator[tuple[Worker, Event | Gone]]:
        if not any(worker.running for worker in self._workers):
            return
        self._kill_what_hangs()
        try:
            worker, process, said = self._said.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            return
        if process is not worker.process:
            return
        if said is None:
            code, worker.process = process.wait(), None
            yield worker, Gone(code, worker.hung or why_lost(code))
            return
        folder = Path(said["folder"])
        assert worker.pulse is not None
        worker.pulse.hear(folder, said)
        if said.get("exit_code") and folder not in worker.stopped:
            worker.is_leaving = True
        if event := event_of(said, folder):
            yield worker, event

    def stop(self, worker: Worker, folder: Path) -> None:
        assert isinstance(worker, _Local)
        assert worker.process is not None
        with suppress(BrokenPipeError):
            if worker.place.gpus:  # torchrun, which reads no messages
                worker.process.send_signal(signal.SIGTERM)
            else:
                tell(worker.process, stop=str(folder))

    def end(self) -> None:
        alive = [(worker, process) for worker in self._workers if (process := worker.process)]
        try:
            for worker, process in alive:
                if worker.running:
                    process.send_signal(signal.SIGTERM)
                close(process)
            for _, process in alive:
                wait_for(process)
        except KeyboardInterrupt:
            for _, process in alive:
                kill(process)
            raise

    def _listen(self, worker: _Local, process: Process) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                self._said.put((worker, process, json.loads(line)))
        self._said.put((worker, process, None))

    def _kill_what_hangs(self) -> None:
        """Kill them now and then, which is news as any, but none after this process was stopped."""
        now = time.monotonic()
        since = now - self._last_look
        if since < SECONDS_BETWEEN_LOOKS:
            return
        self._last_look = now
        was_stopped = since > 20 * SECONDS_BETWEEN_LOOKS
        for worker in self._workers:
            if worker.process is None or not worker.running or worker.hung:
                continue
            assert worker.pulse is not None
            if was_stopped:
                worker.pulse.last_news = now
            elif hung := worker.pulse.why_hung(worker.running):
                worker.hung = hung
                kill(worker.process)
