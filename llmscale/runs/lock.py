"""One process a folder at a time: a sweep holds its results folder, a worker the folder of the run
that it trains.
"""

import errno
import fcntl
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.quantity import format_seconds
from llmscale.runs.safe_write import cannot_write

FILE_NAME = ".lock"
SECONDS_BETWEEN_TRIES = 0.1
SECONDS_BEFORE_NEWS = 2.0


@contextmanager
def only_writer(
    path: Path,
    wait_seconds: float = 0.0,
    warn: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with it, however it ends.

    Waits so long for another process, unless `stop()` turns true meanwhile. Raises InputError where
    that still holds it. On a file system that knows no locks it goes on without, with a warning.
    """
    file = path / FILE_NAME
    try:
        lock = os.open(
            file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666
        )
    except OSError as error:
        if error.errno == errno.ELOOP or file.is_symlink():
            raise _not_ours(file, "a link") from error
        raise cannot_write(file, error) from error
    try:
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode):
            raise _not_ours(file, "no plain file")
        if found.st_nlink > 1:
            raise _not_ours(file, "also a file elsewhere (a hard link)")
        _acquire(lock, path, wait_seconds, warn, stop)
        with suppress(
            OSError
        ):  # who holds it is news for people; a full disk does not keep it from being held
            os.ftruncate(lock, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S %z")
            os.pwrite(lock, f"process {os.getpid()} on {platform.node()} since {since}".encode(), 0)
        yield
    finally:
        os.close(lock)


def _acquire(
    lock: int,
    path: Path,
    wait_seconds: float,
    warn: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    started, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                warn(
                    f"{path} is on a file system without locks ({error.strerror}): start one sweep "
                    "at a time there"
                )
                return
        waited = time.monotonic() - started
        if waited >= wait_seconds or stop():
            after = f", after {format_seconds(waited)} of waiting" if wait_seconds else ""
            raise InputError(
                f"{path} is being written by {_holder(lock)}{after}",
                "wait for it, or name another folder with --out",
            )
        if waited > SECONDS_BEFORE_NEWS and not told:
            warn(f"waiting for {_holder(lock)}, which still writes {path}")
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _not_ours(file: Path, what: str) -> InputError:
    """What is written into the lock would be written into another file."""
    return InputError(f"{file} is {what}", f"no sweep leaves that: {command_line('rm', file)}")


def _holder(lock: int) -> str:
    return os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
