"""Runs on this machine: one process a place, the first runs of the list first."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from llmscale.executors import Event, Place

LOG_NAME = "worker.log"


def run(folders: Sequence[Path], places: Sequence[Place], report: Callable[[Event], None]) -> None:
    """Train the runs of `folders`, as many at a time as there are `places`; see executors/__init__.py."""
    waiting, free = list(folders), list(places)
    working: dict[Path, tuple[subprocess.Popen[str], Place]] = {}
    events: queue.Queue[Event] = queue.Queue()
    try:
        while waiting or working:
            while waiting and free:
                folder, place = waiting.pop(0), free.pop(0)
                working[folder] = (_start(folder, place, events), place)
                report(Event("started", folder))
            event = events.get()
            if event.kind == "ended":
                free.append(working.pop(event.folder)[1])
            report(event)
    finally:
        _stop([process for process, _ in working.values()])


def _start(folder: Path, place: Place, events: "queue.Queue[Event]") -> subprocess.Popen[str]:
    """Start a worker, in a session of its own so that Ctrl-C reaches it through us, once."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"}
    if place.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = _visible(place.gpu)
    with (folder / LOG_NAME).open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmscale.train.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
    threading.Thread(target=_listen, args=(process, folder, events), daemon=True).start()
    return process


def _visible(gpu: int) -> str:
    """The name of the `gpu`-th of the GPUs that this process may see."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return allowed[gpu] if allowed else str(gpu)


def _listen(process: subprocess.Popen[str], folder: Path, events: "queue.Queue[Event]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            events.put(Event("logged", folder, point=json.loads(line)))
    events.put(Event("ended", folder, exit_code=process.wait()))


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Let the workers save and end; a second Ctrl-C ends them at once."""
    try:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise
