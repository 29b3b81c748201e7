"""Compressed files, known by their first bytes and not by their names."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from llmscale.errors import InputError

COMPRESSIONS: Final = (".gz", ".xz", ".zst", ".bz2")
_SKIPPABLE: Final = tuple(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))
"""Frames that zstd's parallel compressors begin a file with (RFC 8878, 3.1.2)."""
_MAGIC: Final[dict[str, tuple[bytes, ...]]] = {
    ".gz": (b"\x1f\x8b",),
    ".xz": (b"\xfd7zXZ\x00",),
    ".zst": (b"\x28\xb5\x2f\xfd", *_SKIPPABLE),
    ".bz2": (b"BZh",),
}
_SAMPLE_BYTES: Final = 8 << 20
_BROKEN: Final = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""What the decompressors raise on a file that is damaged or cut short."""


def compression_by_name(path: Path) -> str | None:
    """What the name of `path` says: `.gz`, `.xz`, `.zst`, `.bz2`, or None."""
    suffix = path.suffix.lower()
    return suffix if suffix in COMPRESSIONS else None


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of `path`, decompressed. What is wrong with the compression is an InputError."""
    with opened(path) as (stream, _, _):
        yield stream


def expansion(path: Path) -> float:
    """Bytes of content per byte on disk, by the first 8 MiB of content."""
    with opened(path) as (stream, raw, compression):
        if compression is None:
            return 1.0
        content = len(stream.read(_SAMPLE_BYTES))
        on_disk = path.stat().st_size
        if stream.read(1):  # there is more content than was looked at
            on_disk = raw.tell()
    return content / max(1, on_disk)


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes], str | None]]:
    """The content of a file, the file on disk that it is read from, and its compression."""
    compression = None
    try:
        with path.open("rb") as raw:
            first = raw.peek(8)
            found = (name for name, magic in _MAGIC.items() if first.startswith(magic))
            compression = next(found, None)
            yield _decompress(raw, compression), raw, compression
    except _BROKEN as error:
        if compression and not (isinstance(error, OSError) and error.errno):
            raise InputError(
                f"{path} is not a whole {compression} file: {error}",
                "fetch or compress the file again",
            ) from error
        if isinstance(error, OSError):
            raise InputError(
                f"cannot read {path}: {error.strerror or error}", "name files you may read"
            ) from error
        raise


def _decompress(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    if compression == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if compression == ".xz":
        return io.BufferedReader(lzma.LZMAFile(raw))
    if compression == ".bz2":
        return io.BufferedReader(bz2.BZ2File(raw))
    if compression == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))
    return raw
