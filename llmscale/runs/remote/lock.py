"""One sweep a URL at a time, from whatever machine: a lock file that its holder keeps fresh.

No file system behind fsspec lends a lock. So who wants one writes it, waits until any other writer
would have been seen, and has it if it is still its own. A lock whose holder is gone is taken over:
at once if that was a process of this machine, else when nothing has refreshed it for as long as a
living holder never leaves it; the clocks of the two machines play no part."""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.runs.remote._files import FileSystem

NAME = ".sweep-lock.json"
REFRESH_SECONDS = 20.0
EXPIRY_SECONDS = 90.0
SETTLE_SECONDS = 1.0
"""Two that write at the same time have both written by then, and see whose was last."""


class RemoteLock:
    """The lock of a URL, as a context manager. Raises InputError if another sweep holds it."""

    def __init__(self, files: FileSystem, tell: Callable[[str], None] = lambda text: None) -> None:
        self._files, self._tell = files, tell
        process = {"machine": _machine(), "host": platform.node(), "pid": os.getpid()}
        self._mine = {"holder": uuid.uuid4().hex, **process}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, daemon=True)
        self.lost: WorkError | None = None
        """Set when another sweep has taken over a lock that this machine had lost touch of."""

    def __enter__(self) -> "RemoteLock":
        found = self._files.read_json(NAME)
        if found is not None and not _is_dead(found):
            self._wait_for_sign_of_life(found)
        self._write()
        time.sleep(SETTLE_SECONDS)
        now = self._files.read_json(NAME)
        if now is not None and now["holder"] != self._mine["holder"]:
            raise self._busy(now)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        # If the URL cannot be reached the lock stays, and is taken over in time.
        with suppress(Exception):
            if (found := self._files.read_json(NAME)) and found["holder"] == self._mine["holder"]:
                self._files.remove(NAME)

    def _wait_for_sign_of_life(self, found: dict[str, Any]) -> None:
        self._tell(
            f"{self._files.url} was being written by {_name(found)}; waiting up to "
            f"{EXPIRY_SECONDS:g} s to see whether it still is"
        )
        deadline = time.monotonic() + EXPIRY_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(1.0, REFRESH_SECONDS / 4))
            now = self._files.read_json(NAME)
            if now is None:
                return
            if (now["holder"], now["refreshed"]) != (found["holder"], found["refreshed"]):
                raise self._busy(now)

    def _keep_fresh(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            # What cannot be reached now is tried again; whoever took the lock over meanwhile is
            # seen then.
            with suppress(Exception):
                now = self._files.read_json(NAME)
                if now is not None and now["holder"] != self._mine["holder"]:
                    self.lost = WorkError(
                        f"{self._files.url} has been taken over by {_name(now)} after this "
                        "machine had not reached it",
                        "wait for that sweep; then the same command adds what was trained here",
                    )
                    return
                self._write()

    def _write(self) -> None:
        self._files.write_json(NAME, {**self._mine, "refreshed": uuid.uuid4().hex})

    def _busy(self, found: dict[str, Any]) -> InputError:
        problem = f"{self._files.url} is being written by {_name(found)}"
        return InputError(problem, "wait for it, or name another URL with --out")


def _name(found: dict[str, Any]) -> str:
    return f"process {found['pid']} on {found['host']}"


def _machine() -> str:
    """What tells apart machines, their starts, and containers with process numbers of their own."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_dead(found: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if found["machine"] != _machine():
        return False
    with suppress(PermissionError):
        try:
            os.kill(found["pid"], 0)
        except ProcessLookupError:
            return True
    return False
