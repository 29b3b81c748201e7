"""Standard output and standard error that may be full, closed, or a pipe without a reader."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from llmscale.commands._patience import Patience

EXIT_LOST_OUTPUT = 1
EXIT_CLOSED_PIPE = 141
"""What a shell says of a program that ended as its reader did: 128 and the number of SIGPIPE."""


_answers: Any = None
"""Standard output, while all else that is printed goes to standard error."""


def answers() -> Any:
    """Where a command writes what it was asked for, and nothing else."""
    return _answers or sys.stdout


@contextmanager
def answers_apart() -> Iterator[None]:
    """Within it whatever else prints, such as a file of the user's own, prints on standard error:
    it would spoil the one JSON object, or a table."""
    global _answers
    before = _answers, sys.stdout
    _answers, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        _answers, sys.stdout = before


@contextmanager
def guarded_streams() -> Iterator[Patience]:
    """Within it output that cannot be written ends the program: one sentence and exit code 1, 141
    for a closed pipe.

    A closed standard output ends it at once: no work is done whose result would be lost. What
    standard error cannot take is left out. What is given says what goes on while nothing is
    written."""
    before = sys.stdout, sys.stderr
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the program runs
    if sys.stdout is None:
        sys.stderr.write(
            "error: standard output is closed\n  fix: send it to a file, or to /dev/null\n"
        )
        raise SystemExit(EXIT_LOST_OUTPUT)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A character that the terminal's encoding lacks becomes "?".
            stream.reconfigure(errors="replace")
    patience = Patience(sys.stderr)
    sys.stdout = _Guarded(sys.stdout, patience.stop)
    sys.stderr = _Guarded(sys.stderr, patience.wrote, leave_out=True)
    try:
        try:
            yield patience
        finally:
            patience.stop()
            sys.stdout.flush()
    except _LostError as lost:
        _discard_rest(before[0])
        if isinstance(lost.error, BrokenPipeError):
            _discard_rest(sys.__stderr__)
            raise SystemExit(EXIT_CLOSED_PIPE) from None
        sys.stderr.write(
            f"error: standard output cannot be written: {lost.error.strerror}\n  fix: make room "
            "there\n"
        )
        raise SystemExit(EXIT_LOST_OUTPUT) from None
    finally:
        sys.stdout, sys.stderr = before


class _LostError(Exception):
    """Raised from `write`, and no OSError: those are taken for troubles with other files."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Guarded:
    def __init__(self, stream: Any, before: Callable[[], None], leave_out: bool = False) -> None:
        self._stream, self._before, self._leave_out = stream, before, leave_out

    def write(self, text: Any) -> int:
        self._before()
        with self._losses():
            return int(self._stream.write(text))
        return 0

    def flush(self) -> None:
        with self._losses():
            self._stream.flush()

    @contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._leave_out or isinstance(error, BrokenPipeError):
                raise _LostError(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard_rest(stream: Any) -> None:
    """Python writes what is still buffered when it ends; that goes nowhere now."""
    with suppress(OSError, ValueError, AttributeError):
        if stream in (sys.__stdout__, sys.__stderr__):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
