"""How much may be unpacked: a small file can hold more rows than there is memory for."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.quantity import format_bytes

_SHARE = 0.5
"""Of the memory at hand, what a table may take: the fit needs some, too."""
_CELL_BYTES, _ROW_BYTES = 100, 120
"""A cell of text in Python: 58 bytes, letters, a place in a list, and the number it becomes."""
_FEWER = "keep fewer rows or columns: a law needs one row a run"


def memory_at_hand() -> int:
    """Bytes that this process may still take: free memory, or less by control group or ulimit."""
    return max(0, min(_limits()))


def read_within(stream: Any, file: Path) -> bytes:
    """All that the stream gives. Raises InputError before it is more than memory can hold."""
    at_hand = memory_at_hand() * _SHARE
    most = int(at_hand / 2)  # the bytes, and the letters that they spell
    parts: list[bytes] = []
    size = rows = 0
    most_rows = float("inf")
    while part := stream.read(1 << 22):
        if not parts and not part.startswith(b"PAR1"):
            heading = part[: part.find(b"\n") + 1]
            columns = 1 + max(map(heading.count, (b",", b";", b"\t", b"|")))
            most_rows = at_hand / (_ROW_BYTES + columns * _CELL_BYTES)
        parts.append(part)
        size += len(part)
        rows += part.count(b"\n")
        if size > most or rows > most_rows:
            held = f"{rows:,} rows" if rows > most_rows else format_bytes(size)
            raise InputError(
                f"{file} holds more than {held}, and {format_bytes(at_hand)} of memory may be used",
                _FEWER,
            )
    return b"".join(parts)


def check_cells(rows: int, columns: int, file: Path, *, text: bool) -> None:
    """Raise InputError if a table of that many rows and columns does not fit into memory."""
    needed = rows * (_ROW_BYTES + columns * _CELL_BYTES) if text else rows * columns * 3 * 8
    most = memory_at_hand() * _SHARE
    if needed > most:
        raise InputError(
            f"{file} has {rows:,} rows of {columns} columns, which need about "
            f"{format_bytes(needed)} of memory, and {format_bytes(most)} may be used",
            _FEWER,
        )


def _limits() -> Iterator[int]:
    yield _free()
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        pages = (_read("/proc/self/statm") or "0").split()[0]
        yield soft - int(pages) * os.sysconf("SC_PAGE_SIZE")
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most, now = (_read(limit) or "").strip(), (_read(used) or "").strip()
        if most.isdigit() and now.isdigit():
            # What files are cached counts as used, though it is given back if needed: a quarter is
            # left at least.
            yield max(int(most) - int(now), int(most) // 4)


def _free() -> int:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return None
