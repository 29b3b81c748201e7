"""Runs on this machine: one process a place, kept for one task after another, so that it loads torch once."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.executors import Event, Place, Task

LOG_NAME = "worker.log"
SECONDS_BETWEEN_LOOKS = 0.5
"""How often to look whether the file that a task waits for is there."""


@dataclass(eq=False)
class _Worker:
    """A place, its process once it has one, the runs of its task that have not ended, and the shape of the last."""

    place: Place
    messages: "queue.Queue[tuple[_Worker, subprocess.Popen[str], dict[str, Any] | None]]"
    """What each process says, and None when it has ended."""
    process: "subprocess.Popen[str] | None" = None
    running: list[Path] = field(default_factory=list)
    leaving: bool = False
    """Whether the process ends after this task: one of its runs failed, or somebody ended it."""
    shape: Any = None


def run(tasks: Sequence[Task], places: Sequence[Place], report: Callable[[Event], object]) -> None:
    """Train `tasks`, as many at a time as there are `places`; see executors/__init__.py.

    A place takes a task of the shape that it trained last where there is one, else the first that can start.
    """
    waiting, shapes = list(tasks), {task: _shape(task) for task in tasks}
    messages: queue.Queue[tuple[_Worker, subprocess.Popen[str], dict[str, Any] | None]] = queue.Queue()
    workers = [_Worker(place, messages) for place in places]
    stopped: set[Path] = set()
    try:
        while waiting or any(worker.running for worker in workers):
            for worker in (worker for worker in workers if not worker.running):
                ready = [task for task in waiting if _can_start(task, waiting, workers)]
                task = min(ready, key=lambda task, last=worker.shape: shapes[task] != last, default=None)  # type: ignore[misc]
                if task is not None:
                    waiting.remove(task)
                    worker.shape = shapes[task]
                    _begin(task, worker, report)
            if not any(worker.running for worker in workers):
                continue  # what was handed out had ended already
            try:
                worker, process, said = messages.get(timeout=SECONDS_BETWEEN_LOOKS if waiting else None)
            except queue.Empty:
                continue
            if process is not worker.process:
                continue
            if said is None:
                code, worker.process = process.wait(), None
                while worker.running:
                    report(Event("ended", worker.running.pop(0), exit_code=code))
                continue
            folder = Path(said["folder"])
            if "point" in said:
                if report(Event("logged", folder, point=said["point"])) is True and folder not in stopped:
                    stopped.add(folder)
                    with suppress(BrokenPipeError):
                        _tell(process, stop=str(folder))
                continue
            code = said["exit_code"]
            worker.running.remove(folder)
            worker.leaving = worker.leaving or (code != 0 and folder not in stopped)
            if worker.leaving and not worker.running:
                _dismiss(worker)
            report(Event("ended", folder, exit_code=code))
    finally:
        _stop(workers)


def _shape(task: Task) -> Any:
    return json.loads((task.folders[0] / "spec.json").read_text())["job"]["shape"]


def _can_start(task: Task, waiting: Sequence[Task], workers: Sequence[_Worker]) -> bool:
    """Whether the file that `task` waits for is there, or nobody will write it any more."""
    if task.after is None or task.after.exists():
        return True
    unended = {folder for other in waiting for folder in other.folders}
    unended.update(folder for worker in workers for folder in worker.running)
    return task.after.parent not in unended


def _begin(task: Task, worker: _Worker, report: Callable[[Event], object]) -> None:
    """Hand `task` to the worker's process, a new one where it has none or that has ended while it was idle."""
    for folder in task.folders:
        report(Event("started", folder))
        if (folder / "run.json").exists():
            report(Event("ended", folder, exit_code=0))
        else:
            worker.running.append(folder)
    if not worker.running:
        return
    names = [str(folder) for folder in worker.running]
    try:
        if worker.process is not None:
            _tell(worker.process, folders=names)
    except BrokenPipeError:
        worker.process = None
    if worker.process is None:
        worker.process, worker.leaving = _start(names, worker.place), False
        threading.Thread(target=_listen, args=(worker, worker.process), daemon=True).start()


def _start(folders: list[str], place: Place) -> "subprocess.Popen[str]":
    """Start a worker, in a session of its own so that Ctrl-C reaches it through us, once."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"}
    if place.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = _visible(place.gpu)
    with (Path(folders[0]) / LOG_NAME).open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "llmscale.train.worker", *folders, "--more"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )


def _visible(gpu: int) -> str:
    """The name of the `gpu`-th of the GPUs that this process may see."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return allowed[gpu] if allowed else str(gpu)


def _listen(worker: _Worker, process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            worker.messages.put((worker, process, json.loads(line)))
    worker.messages.put((worker, process, None))


def _tell(process: "subprocess.Popen[str]", **message: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _dismiss(worker: _Worker) -> None:
    """Let the process end, and with it what it holds of the GPU."""
    assert worker.process is not None
    _close(worker.process)
    worker.process.wait()
    worker.process = None


def _close(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def _stop(workers: Sequence[_Worker]) -> None:
    """Let the workers save and end; a second Ctrl-C ends them at once."""
    alive = [(worker, worker.process) for worker in workers if worker.process is not None]
    try:
        for worker, process in alive:
            if worker.running:
                process.send_signal(signal.SIGTERM)
            _close(process)
        for _, process in alive:
            process.wait()
    except KeyboardInterrupt:
        for _, process in alive:
            process.kill()
        raise
