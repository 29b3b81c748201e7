"""A line on standard error while a command has nothing to say, so that nobody wonders."""

import threading
import time
from typing import Any

SILENCE = 0.8
"""Seconds without a word after which it is said what goes on."""
_TIMES_ELSEWHERE = 40
"""Out of a terminal the silence may be longer: what is written there stays."""
_AT_FIRST = "loading"
_ERASE = "\r\x1b[K"


class Patience:
    """Says after a silence what goes on, until the answer begins. In a terminal a line that counts
    seconds and goes away before anything else is written; elsewhere one line, once."""

    def __init__(self, stream: Any) -> None:
        self.doing = _AT_FIRST
        """What goes on, as the library tells it."""
        self._stream = stream
        self._in_terminal = bool(getattr(stream, "isatty", bool)())
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._began = self._last = time.monotonic()
        self._shown = ""

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Say nothing any more: the answer begins, or the command ends."""
        self._over.set()
        self.wrote()

    def wrote(self) -> None:
        """Something else is about to be written: take the line away, and begin to wait anew."""
        if self.doing == _AT_FIRST:
            self.doing = "working"
        with self._lock:
            if self._shown:
                self._write(_ERASE)
            self._shown = ""
            self._last = time.monotonic()

    def _watch(self) -> None:
        longest = SILENCE if self._in_terminal else _TIMES_ELSEWHERE * SILENCE
        while not self._over.wait(0.2):
            with self._lock:
                silence = time.monotonic() - self._last
                if silence > longest and not self._over.is_set():
                    self._say()

    def _say(self) -> None:
        if self._in_terminal:
            line = f"{self.doing} ... {time.monotonic() - self._began:.0f} s"
            if line != self._shown:
                self._write(f"{_ERASE}{line}")
            self._shown = line
        else:
            self._write(f"{self.doing} ...\n")
            self._over.set()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._over.set()
