"""One process at a time: a sweep holds its results folder, a worker the folder of the run that it
trains, and whoever prepares a text the folder that it builds."""

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
from llmscale.runs.checked import DamagedFile, plain_file
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

    Waits so long for another process, unless `stop()` turns true meanwhile. Raises InputError if
    that still holds it. On a file system that knows no locks it goes on without, with a warning."""
    file = path / FILE_NAME
    try:
        lock = _open(file)
    except OSError as error:
        raise cannot_write(file, error) from error
    try:
        _wait_for(lock, path, wait_seconds, warn, stop)
        # Who holds it is news for people: a full disk does not keep it from being held.
        with suppress(OSError):
            os.ftruncate(lock, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S %z")
            os.pwrite(lock, f"process {os.getpid()} on {platform.node()} since {since}".encode(), 0)
        yield
    finally:
        os.close(lock)


@contextmanager
def only_builder(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock `file` for this process, however long another one holds it: then it calls
    `waiting`, and waits. The file goes with the lock. Raises OSError."""
    while True:
        lock = _open(file)
        if not _is_mine(lock):
            waiting()
            while not _is_mine(lock):
                time.sleep(SECONDS_BETWEEN_TRIES)
        # Whoever held it has removed it since; a lock on a file that is gone keeps nobody out.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), file.stat()):
                break
        os.close(lock)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(lock)


def lock_holder(path: Path) -> str | None:
    """Who holds the folder of a sweep, or of a run, as its lock file says; None if nobody does."""
    try:
        with plain_file(path / FILE_NAME).open(encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "another process"
    except (OSError, DamagedFile):
        pass
    return None


def _open(file: Path) -> int:
    """Raises InputError for what nobody leaves: a write would go elsewhere, too."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        lock = os.open(file, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP or file.is_symlink():
            raise _not_ours(file, "a link") from error
        raise
    found = os.fstat(lock)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return lock
    os.close(lock)
    is_linked = stat.S_ISREG(found.st_mode)
    raise _not_ours(file, "also a file elsewhere (a hard link)" if is_linked else "no plain file")


def _is_mine(lock: int) -> bool:
    """Take the lock if nobody holds it. Raises OSError on a file system without locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def _wait_for(
    lock: int,
    path: Path,
    wait_seconds: float,
    warn: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    started, told = time.monotonic(), False
    while not _is_mine_or_nobodys(lock, path, warn):
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


def _is_mine_or_nobodys(lock: int, path: Path, warn: Callable[[str], None]) -> bool:
    """As _is_mine, but without locks it is everybody's, with a warning."""
    try:
        return _is_mine(lock)
    except OSError as error:
        unlocked = f"{path} is on a file system without locks ({error.strerror})"
        warn(f"{unlocked}: start one sweep at a time there")
        return True


def _not_ours(file: Path, what: str) -> InputError:
    return InputError(f"{file} is {what}", f"no sweep leaves that: {command_line('rm', file)}")


def _holder(lock: int) -> str:
    return os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
