"""Worker processes that stay for the next sweep of the tests: to start one takes three seconds."""

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmscale.measure.executors import Place, local
from llmscale.measure.executors._worker_process import start_worker
from llmscale.measure.train.run_spec import known_spec
from llmscale.runs.run_folder import RunFolder

MOST_IDLE = 3
_idle: "list[KeptWorker]" = []


@contextmanager
def kept_workers() -> Iterator[None]:
    """Sweeps that this process leads are given workers that others have left, if they fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "start_worker", _lend)
        yield
    while _idle:
        _idle.pop().end()


def _lend(folders: Sequence[str], place: Place) -> "KeptWorker | subprocess.Popen[str]":
    """A worker on the runs of `folders`: one that is idle and would be started just so now, or a
    new one."""
    if place.gpu is not None or any(map(_has_own_code, folders)):
        return start_worker(folders, place)
    kind = place, os.getcwd(), {**os.environ, "PYTEST_CURRENT_TEST": ""}
    alike = [kept for kept in _idle if kept.kind == kind and kept.is_alive]
    if not alike:
        return KeptWorker(kind, start_worker(folders, place), folders)
    _idle.remove(alike[-1])
    alike[-1].lend(folders)
    return alike[-1]


def _has_own_code(folder: str) -> bool:
    spec = known_spec(RunFolder(Path(folder)))
    return spec is None or bool(spec.own)


class KeptWorker:
    """What a sweep takes for a worker's process. If every run of it has ended well when the sweep
    closes its standard input, the process is kept; if not, it ends as any."""

    def __init__(self, kind: Any, process: "subprocess.Popen[str]", folders: Sequence[str]) -> None:
        self.kind, self.pid = kind, process.pid
        self.stdin = self.stdout = self
        self._process, self._is_spoiled = process, False
        self._running = set(folders)
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        """What the process says to the sweep that has it, and None at the end."""
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def lend(self, folders: Sequence[str]) -> None:
        """Have it train `folders`, and tell of them to who reads it from now on."""
        self._said = queue.SimpleQueue()
        self.write(json.dumps({"folders": list(folders)}) + "\n")
        self.flush()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{") and "exit_code" in (said := json.loads(line)):
                self._running.discard(said["folder"])
                self._is_spoiled = self._is_spoiled or said["exit_code"] != 0
            self._said.put(line)
        self._said.put(None)

    # What follows is what a sweep asks of a process.

    def __iter__(self) -> Iterator[str]:
        return iter(self._said.get, None)

    def write(self, message: str) -> None:
        assert self._process.stdin is not None
        folders = json.loads(message).get("folders", [])
        if any(map(_has_own_code, folders)):
            self._is_spoiled = True
        self._running.update(folders)
        self._process.stdin.write(message)

    def flush(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        if self._running or self._is_spoiled or not self.is_alive:
            self._process.stdin.close()
            return
        self._said.put(None)
        _idle.append(self)
        if len(_idle) > MOST_IDLE:
            _idle.pop(0).end()

    def wait(self, timeout: float | None = None) -> int:
        if self in _idle:
            return 0
        return self._process.wait(timeout)

    def send_signal(self, number: int) -> None:
        self._is_spoiled = True
        self._process.send_signal(number)
