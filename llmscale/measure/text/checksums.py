"""Checksums of large files: the sha256 of the sha256s of every 16 MiB, many read at a time."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from llmscale.errors import InputError
from llmscale.machine import available_cores

ALGORITHM: Final = "sha256 of the sha256s of every 16 MiB"
_CHUNK_BYTES: Final = 16 << 20


class RunningChecksum:
    """The checksum of bytes that come one after the other."""

    def __init__(self) -> None:
        self._done = b""
        self._chunk = hashlib.sha256()
        self._room = _CHUNK_BYTES

    def update(self, content: bytes) -> None:
        """Go on with `content`."""
        while content:
            part = content[: self._room]
            self._chunk.update(part)
            self._room -= len(part)
            content = content[len(part) :]
            if not self._room:
                self._done += self._chunk.digest()
                self._chunk, self._room = hashlib.sha256(), _CHUNK_BYTES

    def hexdigest(self) -> str:
        """64 hex digits over all that has come so far."""
        last = b""
        if self._room < _CHUNK_BYTES:
            last = self._chunk.digest()
        return hashlib.sha256(self._done + last).hexdigest()

    @classmethod
    def of_file(cls, path: Path, size: int) -> "RunningChecksum":
        """That of the first `size` bytes of a file."""
        running = cls()
        with path.open("rb") as file:
            while size > 0 and (content := file.read(min(size, _CHUNK_BYTES))):
                running.update(content)
                size -= len(content)
        return running


@dataclass(frozen=True)
class FileCheck:
    """What reading a file once found."""

    checksum: str
    largest: int
    """The largest number in it; -1 if it holds none."""


def check_file(
    path: Path, size: int, dtype: np.dtype, report: Callable[[int], None] = lambda read_bytes: None
) -> FileCheck:
    """The checksum of the first `size` bytes of a file, and the largest of the numbers of type
    `dtype` in them, read by as many threads as there are cores. `report` is told bytes read. Raises
    InputError if it cannot be read."""
    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise _unreadable(path, error) from error

        def part(start: int) -> tuple[bytes, int, int]:
            content = os.pread(descriptor, min(_CHUNK_BYTES, size - start), start)
            numbers = np.frombuffer(content, dtype, len(content) // dtype.itemsize)
            largest = -1
            if len(numbers):
                largest = int(numbers.max())
            return hashlib.sha256(content).digest(), largest, len(content)

        digest, largest, read = hashlib.sha256(), -1, 0
        try:
            for chunk, most, count in pool.map(part, range(0, size, _CHUNK_BYTES)):
                digest.update(chunk)
                largest = max(largest, most)
                read += count
                report(read)
        except OSError as error:  # the disk itself may say that it lost something
            raise _unreadable(path, error) from error
        finally:
            os.close(descriptor)
    return FileCheck(digest.hexdigest(), largest)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot read {path}: {error.strerror or error}", "look at its permissions and at the disk"
    )
