"""Keeping a URL equal with its mirror while a sweep works there."""

import threading
import time
from collections.abc import Callable

from llmscale.errors import InputError, WorkError
from llmscale.runs.remote import Remote, Wanted, is_results
from llmscale.runs.remote._files import reason
from llmscale.runs.remote.lock import RemoteLock

SECONDS_BETWEEN_PUSHES = 60.0
"""How often what has changed is sent, checkpoints above all."""
SECONDS_AFTER_AN_END = 2.0
"""A run that has ended is sent so soon, with what else ends in that time."""
FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0
"""Seconds until what has failed is tried again: doubled each time."""
LAST_TRIES_SECONDS = 60.0
"""How long to try at the end."""


def try_often(act: Callable[[], object], seconds: float) -> None:
    """Do it, again for `seconds` if it fails. Raises the last error; InputError at once."""
    deadline, wait = time.monotonic() + seconds, FIRST_WAIT / 2
    while True:
        try:
            act()
            return
        except InputError:
            raise
        except Exception:
            if time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
        wait = min(LONGEST_WAIT, 2 * wait)


class Uploads:
    """Sends what changes in the mirror, in a thread of its own, and all that is left at the end.

    A context manager. Raises WorkError at the end if something could not be sent; nothing is lost
    here."""

    def __init__(
        self,
        remote: Remote,
        lock: RemoteLock | None,
        tell: Callable[[str], None],
        wanted: Wanted = is_results,
    ) -> None:
        self._remote, self._lock, self._tell, self._wanted = remote, lock, tell, wanted
        self._asked, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_sending, daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> "Uploads":
        self._thread.start()
        return self

    def soon(self) -> None:
        """A run has ended: send it without waiting for the minute to pass."""
        self._asked.set()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._asked.set()
        self._thread.join()
        try:
            try_often(self._send, LAST_TRIES_SECONDS)
        except Exception as failure:
            problem = self._lost or self._unsent(failure)
            if error is None:
                raise problem from failure
            self._tell(f"{problem.problem}; {problem.fix}")
        if self._failure is not None and not isinstance(self._failure, Exception):
            raise self._failure

    @property
    def _lost(self) -> WorkError | None:
        return self._lock.lost if self._lock else None

    def _unsent(self, failure: Exception) -> WorkError:
        count = self._remote.waiting(self._wanted)
        files = "1 file" if count == 1 else f"{count} files"
        return WorkError(
            f"{files} could not be sent to {self._remote.url}: {reason(failure)}",
            f"nothing is lost, they are in {self._remote.folder}; the same command sends them",
        )

    def _send(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._remote.push(self._wanted)

    def _keep_sending(self) -> None:
        wait, pause, reached = 0.0, SECONDS_AFTER_AN_END, True
        while not self._ended.is_set():
            if reached:
                self._asked.wait(SECONDS_BETWEEN_PUSHES)
            if self._ended.wait(pause if reached else wait):
                return
            self._asked.clear()
            started = time.monotonic()
            try:
                self._send()
            except Exception as failure:  # each file system has errors of its own
                if self._lost is not None:
                    self._tell(f"{self._lost.problem}; the sweep goes on here")
                    return
                if reached:
                    problem = f"{self._remote.url} cannot be written ({reason(failure)})"
                    self._tell(f"{problem}; the sweep goes on here")
                wait = FIRST_WAIT if reached else min(LONGEST_WAIT, 2 * wait)
                reached = False
            except BaseException as failure:
                self._failure = failure
                raise
            else:
                if not reached:
                    again = f"{self._remote.url} can be written again"
                    self._tell(f"{again}, and has all that was trained meanwhile")
                pause, reached = max(SECONDS_AFTER_AN_END, time.monotonic() - started), True
