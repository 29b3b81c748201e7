"""Files that many ask for again and again: read once, until they change."""

import os
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeAlias, TypeVar

Value = TypeVar("Value")
Stamp: TypeAlias = str
"""When a file was last written, and its size: another one if it has changed."""


def stamp_of(path: Path) -> Stamp | None:
    """None if there is no such file."""
    try:
        return _stamp(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def once_while_unchanged(
    kept: int = 1 << 16,
) -> Callable[[Callable[[Path], Value]], Callable[[Path], Value]]:
    """A reader of a file that gives what it gave before until the file is another one. The last
    `kept` files are remembered. What a reader raises is not."""

    def decorate(read: Callable[[Path], Value]) -> Callable[[Path], Value]:
        @lru_cache(maxsize=kept)
        def remembered(path: Path, stamp: Stamp, number: int) -> Value:
            return read(path)

        @wraps(read)
        def reader(path: Path) -> Value:
            try:
                found = os.stat(path)
            except OSError:
                return read(path)  # which says what is wrong with it
            # A file that was renamed into place may have the time and the size of the one before.
            return remembered(path, _stamp(found), found.st_ino)

        return reader

    return decorate


def _stamp(found: os.stat_result) -> Stamp:
    return f"{found.st_mtime_ns}-{found.st_size}"
