"""Runs steps in processes of their own within a budget of time, and keeps what each has found at
once.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu import Row
from gpu.child import LOADED_BEFORE, run_step
from gpu.steps import Step

GRACE_SECONDS = 5.0
"""How long a step that is told to end may take: a sweep writes its tables."""
LOOK_SECONDS = 0.3
"""How often to look whether somebody wants the check to end."""
PACKING_SECONDS = 3.0
"""Kept of the budget for tables and packing."""
MEMORY_SHARE = 0.85
"""Of the GPU's memory, for all steps that run side by side."""
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Machine:
    """What decides how many steps may run side by side."""

    at_a_time: int
    memory_bytes: int


@dataclass
class Journal:
    """`check.jsonl`: one line a step, on the disk before the next step begins.

    Calls `tell` with each end in words.
    """

    path: Path
    tell: Callable[[str], None]

    def append(self, step: str, status: str, seconds: float = 0.0, **found: Any) -> None:
        line = {
            "step": step,
            "status": status,
            "seconds": round(seconds, 2),
            "written": _now(),
            **found,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.tell(f"{step:40} {status:12} {seconds:6.1f} s  {found.get('reason', '')}".rstrip())

    def latest(self) -> dict[str, Row]:
        """The last line of each step. One that was run stays when a later command skipped it."""
        found: dict[str, Row] = {}
        for line in read_rows(self.path):
            if line["status"] != "skipped" or line["step"] not in found:
                found[line["step"]] = line
        return found


@dataclass
class Running:
    """A step under way."""

    step: Step
    process: Any
    rows: Path
    log: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class Leader:
    """Starts steps, ends those that take too long, and writes the journal.

    A step has the machine to itself unless it `shares` it. It waits while less important ones still
    fit beside all that is more important, and is left out where it does not fit any more."""

    def __init__(self, work: Path, journal: Journal, budget: float) -> None:
        self.work, self.journal = work, journal
        self.began = time.monotonic()
        self.budget = budget
        self.interrupted = False
        self.pending: list[Step] = []
        self.running: list[Running] = []
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(LOADED_BEFORE)
        for folder in ("logs", "rows"):
            (work / folder).mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - PACKING_SECONDS - (time.monotonic() - self.began)

    def interrupt(self, *_: Any) -> None:
        """For a signal: end what runs as soon as it can be told from what is just being started."""
        self.interrupted = True

    def ask(self, function: str, arguments: dict[str, Any]) -> Row:
        """The one row of a function, without a line in the journal.

        Raises RuntimeError with its last words.
        """
        asked = self._start(Step("ask", function, arguments, 0.0, 60.0, 1))
        asked.process.join()
        rows = read_rows(asked.rows)
        if not rows:
            raise RuntimeError(_last_words(asked.log))
        return rows[0]

    def run(self, steps: Sequence[Step], machine: Machine) -> None:
        """All of `steps`, each with a line in the journal; where it is interrupted, all that it has
        begun.
        """
        self.pending = [step for step in steps if not step.missing]
        for step in steps:
            if step.missing:
                self.journal.append(step.name, "skipped", reason=step.missing)
        while (self.pending or self.running) and not self.interrupted:
            self._skip_late()
            while (following := self._next(machine)) is not None:
                self.pending.remove(following)
                self.running.append(self._start(following))
            if not self.running:
                break
            self._wait()
        if self.interrupted:
            for one in list(self.running):
                self._end(one, "interrupted", "stopped from outside")
            return
        for step in self.pending:
            reason = f"takes about {step.seconds:.0f} s, and {max(0.0, self.left):.0f} s are left"
            if not _has_input(step):
                reason = f"{step.reads} is not there"
            self.journal.append(step.name, "skipped", reason=reason)

    def _left_for(self, step: Step, side_by_side: int = 1) -> float:
        """Seconds of the budget without those that are kept for what is more important."""
        kept = [other for other in self.pending if other.priority < step.priority]
        return self.left - sum(
            other.seconds / (side_by_side if other.shares else 1) for other in kept
        )

    def _next(self, machine: Machine) -> Step | None:
        """The next step to start now, by the order of the list."""
        for step in self.pending:
            if step.seconds > self._left_for(step, machine.at_a_time) or not _has_input(step):
                continue
            if not self.running:
                return step
            if not step.shares:
                return None  # it waits until it has the machine to itself, and others wait for it
            busy = [one.step for one in self.running]
            room = len(busy) < machine.at_a_time and all(other.shares for other in busy)
            memory = step.memory_bytes + sum(other.memory_bytes for other in busy)
            if room and memory <= MEMORY_SHARE * machine.memory_bytes:
                return step
        return None

    def _skip_late(self) -> None:
        """Leave out what had to begin earlier."""
        elapsed = time.monotonic() - self.began
        for step in [step for step in self.pending if elapsed > step.latest * self.budget]:
            self.pending.remove(step)
            self.journal.append(
                step.name, "skipped", reason="what is timed after it waits no longer"
            )

    def _start(self, step: Step) -> Running:
        name = step.name.replace(":", "-")
        rows, log = self.work / "rows" / f"{name}.jsonl", self.work / "logs" / f"{name}.log"
        rows.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        process = self._context.Process(
            target=run_step,
            args=(step.function, step.arguments, step.environment, rows, log),
            name=step.name,
        )
        process.start()
        return Running(step, process, rows, log)

    def _wait(self) -> None:
        """Until a step has ended, or is over its limit and is ended."""
        soonest = min(
            min(one.step.limit - one.seconds, self._left_for(one.step)) for one in self.running
        )
        sentinels = [one.process.sentinel for one in self.running]
        multiprocessing.connection.wait(sentinels, max(0.0, min(soonest, LOOK_SECONDS)))
        for one in list(self.running):
            if not one.process.is_alive():
                code = one.process.exitcode
                if code == 0:
                    self._note(one, "done")
                else:
                    self._note(one, "failed", reason=f"exit code {code}: {_last_words(one.log)}")
            elif one.seconds > one.step.limit:
                self._end(one, "timed out", f"took more than its {one.step.limit:g} s")
            elif self._left_for(one.step) <= 0:
                self._end(
                    one,
                    "timed out",
                    f"what is left of the budget of {self.budget:g} s is kept for other steps",
                )

    def _end(self, one: Running, status: str, reason: str) -> None:
        stop(one.process)
        self._note(one, status, reason=reason)

    def _note(self, one: Running, status: str, **found: Any) -> None:
        self.running.remove(one)
        self.journal.append(one.step.name, status, one.seconds, **found, rows=read_rows(one.rows))


def _has_input(step: Step) -> bool:
    return not step.reads or Path(step.reads).exists()


def read_rows(path: Path) -> list[Row]:
    """The whole lines of a file of JSON objects; a process that was ended may have left half a
    line.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def stop(process: Any) -> None:
    """Tell a step, and all that it has started, to end, and end at once what has not after
    GRACE_SECONDS.
    """
    family = set(_family(process.pid))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)  # it may not have its own group yet
    deadline = time.monotonic() + GRACE_SECONDS
    while any(map(_is_alive, family)) and time.monotonic() < deadline:
        time.sleep(0.05)
        family.update(_family(process.pid))
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.join()


def _family(pid: int) -> list[int]:
    """A process and all below it, those in sessions of their own too; on Linux, elsewhere itself
    only.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(_stat(entry)[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _stat(path: Path) -> list[str]:
    """State, parent and all that follows the name, which may hold anything, in a process's
    /proc/PID/stat.
    """
    return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _is_alive(pid: int) -> bool:
    try:
        return _stat(Path(f"/proc/{pid}/stat"))[0] != "Z"
    except OSError:
        return False


def _last_words(log: Path) -> str:
    """The last line that a step has printed."""
    text = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
