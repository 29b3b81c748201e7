"""One sweep a folder at a time."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmscale.errors import InputError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with it, however it ends. Raises InputError."""
    lock = path / ".lock"
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(
                f"{path} is being written by {holder}", "wait for it, or name another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield
