"""Runs on this machine: one process a place, kept for one task after another, so that it loads
torch once.

A process that is killed, by the system for want of memory, say, is started again and goes on from
the checkpoints; so is one that is told to end by somebody else, and one that hangs, after it has
been killed."""

import json
import os
import queue
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import WriteError
from llmscale.machine import GPU_SHARE_VARIABLE
from llmscale.measure.executors import Event, Place, Task
from llmscale.measure.executors._worker_process import (
    EXIT_INTERRUPTED,
    WORKER,
    close,
    start_worker,
    tell,
    why_lost,
)
from llmscale.measure.train.run_spec import known_spec
from llmscale.quantity import format_seconds
from llmscale.runs.run_folder import RunFolder

SECONDS_BETWEEN_LOOKS = 0.5
"""How often to look whether the file that a task waits for is there, and whether a worker hangs."""
FIRST_STEP_SECONDS = 1800.0
"""How long a worker may take until its first step: it waits for a dying one, loads torch and
compiles kernels.
"""
HANG_SECONDS, HANG_FACTOR = 600.0, 20.0
"""A worker hangs when it has trained no step for so long, and for so many times what a logged step
usually takes.
"""
STARTS_AGAIN = 2
"""How often a run whose process was killed or hung is started again without getting further than
before.
"""


@dataclass
class _Reached:
    """How far a run has got, at which pace, and how often its process was lost since."""

    step: int = 0
    losses: int = 0
    intervals: list[float] = field(default_factory=list)
    """Seconds from one logged step to the next."""
    logged: float | None = None
    speed: float = 0.0
    """Training tokens a second."""


@dataclass(eq=False)
class _Worker:
    """A place, its process once it has one, the runs of its task that have not ended, and the shape
    of the last.
    """

    place: Place
    messages: "queue.Queue[tuple[_Worker, subprocess.Popen[str], dict[str, Any] | None]]"
    """What each process says, and None when it has ended."""
    process: "subprocess.Popen[str] | None" = None
    running: list[Path] = field(default_factory=list)
    interrupted: list[Path] = field(default_factory=list)
    """Those that it has saved and left, because somebody else told it to end."""
    leaving: bool = False
    """Whether the process ends after this task: one of its runs failed, or somebody ended it."""
    shape: Any = None
    last_news: float = 0.0
    """When the process was started, or trained a step; by the monotonic clock."""
    stepped: bool = False
    """Whether it has trained a step of its task."""
    hung: str = ""
    """Why it was taken to hang, and killed."""


def run(tasks: Sequence[Task], places: Sequence[Place], report: Callable[[Event], object]) -> None:
    """Train `tasks`, as many at a time as there are `places`; see executors/__init__.py.

    A place takes a task of the shape that it trained last where there is one, else the first that
    can start."""
    waiting, shapes = list(tasks), {task: _shape(task) for task in tasks}
    messages: queue.Queue[tuple[_Worker, subprocess.Popen[str], dict[str, Any] | None]] = (
        queue.Queue()
    )
    workers = [_Worker(place, messages) for place in places]
    stopped: set[Path] = set()
    reached = {folder: _Reached() for task in tasks for folder in task.folders}
    last_look = time.monotonic()

    def start_again(worker: _Worker, code: int) -> None:
        """What a process that ended with `code` has not trained is handed out again, before all
        that waits.
        """
        lost, worker.running, worker.interrupted = [*worker.interrupted, *worker.running], [], []
        again = Task(tuple(_end_lost(lost, code, worker.hung, reached, stopped, report)))
        if again.folders:
            shapes[again] = worker.shape
            waiting.insert(0, again)

    try:
        while waiting or any(worker.running for worker in workers):
            for worker in (worker for worker in workers if not worker.running):
                ready = [task for task in waiting if _can_start(task, waiting, workers)]
                # One of the shape that this worker trained last compiles nothing anew.
                alike = [task for task in ready if shapes[task] == worker.shape]
                task = next(iter(alike or ready), None)
                if task is not None:
                    waiting.remove(task)
                    worker.shape = shapes[task]
                    _begin(task, worker, report)
            if not any(worker.running for worker in workers):
                continue  # what was handed out had ended already
            last_look = _look(workers, reached, last_look)
            try:
                worker, process, said = messages.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                continue
            if process is not worker.process:
                continue
            if said is None:
                code, worker.process = process.wait(), None
                start_again(worker, code)
                continue
            folder = Path(said["folder"])
            worker.last_news = time.monotonic()
            if "cannot_write" in said:
                raise WriteError(*said["cannot_write"])
            if "warning" in said:
                report(Event("warned", folder, message=said["warning"]))
                continue
            if "step" in said:
                worker.stepped = True
                continue
            if "point" in said:
                worker.stepped = True
                _note(reached[folder], said["point"])
                if (
                    report(Event("logged", folder, point=said["point"])) is True
                    and folder not in stopped
                ):
                    stopped.add(folder)
                    with suppress(BrokenPipeError):
                        if worker.place.gpus:
                            process.send_signal(signal.SIGTERM)
                        else:
                            tell(process, stop=str(folder))
                continue
            code = said["exit_code"]
            worker.running.remove(folder)
            interrupted = code == EXIT_INTERRUPTED and folder not in stopped
            if interrupted:
                worker.interrupted.append(folder)
            worker.leaving = worker.leaving or (code != 0 and folder not in stopped)
            if worker.leaving and not worker.running:
                _dismiss(worker)
            if not interrupted:
                report(Event("ended", folder, exit_code=code))
            if not worker.running:
                start_again(worker, EXIT_INTERRUPTED)
    finally:
        _stop(workers)


def _note(reached: _Reached, point: dict[str, Any]) -> None:
    now = time.monotonic()
    if reached.logged is not None:
        reached.intervals.append(now - reached.logged)
    reached.logged, reached.speed = now, point["tokens_per_second"] or reached.speed
    if point["step"] > reached.step:
        reached.step, reached.losses = point["step"], 0


def _look(workers: Sequence[_Worker], reached: dict[Path, _Reached], last_look: float) -> float:
    """Now and then kill what hangs; gives the time of the last look.

    Nobody hangs while this process was stopped.
    """
    now = time.monotonic()
    if now - last_look > 20 * SECONDS_BETWEEN_LOOKS:
        for worker in workers:
            worker.last_news = now
    elif now - last_look > SECONDS_BETWEEN_LOOKS:
        for worker in workers:
            _kill_if_hung(worker, reached)
    else:
        return last_look
    return now


def _kill_if_hung(worker: _Worker, reached: dict[Path, _Reached]) -> None:
    """Kill a process that has trained no step for much longer than usual; its end is reported as
    any.
    """
    if worker.process is None or not worker.running or worker.hung:
        return
    silent = time.monotonic() - worker.last_news
    if silent <= (HANG_SECONDS if worker.stepped else FIRST_STEP_SECONDS):
        return
    intervals = [interval for folder in worker.running for interval in reached[folder].intervals]
    usual = statistics.median(intervals) if intervals else 0.0
    if silent > HANG_FACTOR * (usual + _evaluation_seconds(worker.running[0], reached)):
        usually = f", a logged step usually takes {usual:.2g} s" if intervals else ""
        worker.hung = f"hung (no step in {format_seconds(silent)}{usually}) and was killed"
        _kill(worker.process)


def _evaluation_seconds(folder: Path, reached: dict[Path, _Reached]) -> float:
    """About how long the validation set takes: a token of it costs a third of one that is trained
    on.
    """
    spec = known_spec(RunFolder(folder))
    tokens = (spec.validation_tokens if spec else None) or 0
    return tokens / 3 / reached[folder].speed if reached[folder].speed else 0.0


def _end_lost(
    folders: Sequence[Path],
    code: int,
    hung: str,
    reached: dict[Path, _Reached],
    stopped: set[Path],
    report: Callable[[Event], object],
) -> list[Path]:
    """Report how the runs of a process that is gone go on; gives those to start again."""
    again = []
    reason = why_lost(code, hung)
    for folder in folders:
        reached[folder].losses += 1
        reached[folder].logged = None
        losses = reached[folder].losses
        if RunFolder(folder).has_ended or folder in stopped or not reason:
            report(
                Event("ended", folder, exit_code=EXIT_INTERRUPTED if folder in stopped else code)
            )
        elif losses > STARTS_AGAIN:
            times = f"{losses} times without getting beyond step {reached[folder].step}"
            failed = -signal.SIGTERM if code in (0, EXIT_INTERRUPTED) else code
            report(
                Event("ended", folder, exit_code=failed, message=f"its process {reason}, {times}")
            )
        else:
            report(
                Event(
                    "warned",
                    folder,
                    message=f"its process {reason}; it is started again from its checkpoint",
                )
            )
            again.append(folder)
    return again


def _shape(task: Task) -> Any:
    spec = known_spec(RunFolder(task.folders[0]))
    return spec.job.shape if spec else None


def _can_start(task: Task, waiting: Sequence[Task], workers: Sequence[_Worker]) -> bool:
    """Whether the file that `task` waits for is there, or nobody will write it any more."""
    if task.after is None or task.after.exists():
        return True
    unended = {folder for other in waiting for folder in other.folders}
    unended.update(folder for worker in workers for folder in worker.running)
    return task.after.parent not in unended


def _begin(task: Task, worker: _Worker, report: Callable[[Event], object]) -> None:
    """Hand `task` to the worker's process, a new one where it has none or that has ended while it
    was idle.
    """
    for folder in task.folders:
        report(Event("started", folder))
        if RunFolder(folder).has_ended:
            report(Event("ended", folder, exit_code=0))
        else:
            worker.running.append(folder)
    if not worker.running:
        return
    names = [str(folder) for folder in worker.running]
    worker.last_news, worker.stepped = time.monotonic(), False
    try:
        if worker.process is not None:
            tell(worker.process, folders=names)
    except BrokenPipeError:
        worker.process = None
    if worker.process is None:
        worker.process, worker.leaving = _start(names, worker.place), bool(worker.place.gpus)
        worker.hung = ""
        threading.Thread(target=_listen, args=(worker, worker.process), daemon=True).start()


def _start(folders: list[str], place: Place) -> "subprocess.Popen[str]":
    environment = {}
    if place.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(_visible, place.gpus or (place.gpu,)))
    if place.memory_share < 1:
        environment[GPU_SHARE_VARIABLE] = str(place.memory_share)
    return start_worker(folders, place.threads, _program(place), environment, more=not place.gpus)


def _program(place: Place) -> list[str]:
    """The worker, or torchrun with one for each of the place's GPUs, of which the first one
    talks.
    """
    torchrun = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(len(place.gpus)),
        "-m",
    ]
    return [*(torchrun if place.gpus else []), *WORKER]


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


def _kill(process: "subprocess.Popen[str]") -> None:
    """End the process, and those that it has started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _dismiss(worker: _Worker) -> None:
    """Let the process end, and with it what it holds of the GPU."""
    assert worker.process is not None
    close(worker.process)
    _wait(worker.process)
    worker.process = None


def _wait(process: "subprocess.Popen[str]") -> None:
    """Wait for a process that has been told to end, for as long as a large checkpoint may take."""
    try:
        process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()


def _stop(workers: Sequence[_Worker]) -> None:
    """Let the workers save and end; a second Ctrl-C ends them at once."""
    alive = [(worker, worker.process) for worker in workers if worker.process is not None]
    try:
        for worker, process in alive:
            if worker.running:
                process.send_signal(signal.SIGTERM)
            close(process)
        for _, process in alive:
            _wait(process)
    except KeyboardInterrupt:
        for _, process in alive:
            _kill(process)
        raise
