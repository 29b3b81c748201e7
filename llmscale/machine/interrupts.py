"""Ctrl-C at moments that may not be cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_held() -> Iterator[None]:
    """While this lasts Ctrl-C waits, and comes when it is over.

    Of numpy and torch a second import fails, or ends the process, if the first one was cut off: a
    notebook would have to be started again. Outside of the main thread nothing is held: Ctrl-C does
    not come there."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
