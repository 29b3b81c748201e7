"""Files written next to their place and renamed: a reader never sees half a file, and a power cut
leaves the old one or the new one."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError, WriteError
from llmscale.quantity import format_bytes
from llmscale.runs.safe_paths import refuse_unusable

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_NAME = 150
"""Bytes of a name that a longer one can be made of."""


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, next to its place and renamed."""
    _write(path, lambda beside: beside.write_text(text, encoding="utf-8"), len(text.encode()))


def write_json(path: Path, payload: Any) -> None:
    """Write `payload` as JSON for people to read, too, next to its place and renamed."""
    write_text(path, json.dumps(payload, indent=2) + "\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, next to its place and renamed."""
    _write(path, lambda beside: beside.write_bytes(content), len(content))


def write_table(path: Path, table: "pa.Table") -> None:
    """Write an arrow table as parquet, next to its place and renamed."""
    import pyarrow.parquet as pq

    _write(
        path,
        lambda beside: pq.write_table(table, beside, compression="zstd", write_page_checksum=True),
        table.nbytes,
    )


def write_groups(path: Path, schema: "pa.Schema", tables: "Iterable[pa.Table]", size: int) -> None:
    """Write parquet of at most `size` bytes with a row group a table, of which one is in memory.
    Only columns of few values are dictionaries: others would be tried in vain."""
    import pyarrow.parquet as pq

    few = [name for name in ("run_id", "lr") if name in schema.names]

    def write(beside: Path) -> None:
        with pq.ParquetWriter(
            beside, schema, compression="zstd", use_dictionary=few, write_page_checksum=True
        ) as writer:
            for table in tables:
                writer.write_table(table)

    _write(path, write, size)


def make_folder(path: Path, fix: str = "name a folder you may write to with --out") -> Path:
    """Create `path` and check that files can be written there. Raises InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        new_file_beside(path / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write into {path}: {reason}", fix) from error
    return path


def check_file_place(path: Path, fix: str) -> None:
    """Raise InputError unless a file can be written there, as far as that can be told before."""
    if refuse_unusable(path, fix).is_dir():
        raise InputError(f"{path} is a folder", fix)
    _refuse_pipe(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(folder, os.W_OK):
        raise InputError(f"{path} cannot be written: {folder} is read-only", fix)


def new_file_beside(path: Path) -> Path:
    """A new empty file in the folder of `path`, to be written and renamed to it. Raises OSError.
    Nobody can guess its name, and so lay a link there that would be written through."""
    name = path.name if len(os.fsencode(path.name)) <= _LONGEST_NAME else path.name[:40]
    beside = path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(8)}.part")
    os.close(
        os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    )
    return beside


def cannot_write(path: Path, error: OSError, size: int | None = None) -> WriteError:
    """The error for a file of up to `size` bytes that could not be written, and what is free."""
    problem = f"cannot write {path}: {error.strerror or error}"
    if error.errno == errno.ENOSPC:
        needed = f", up to {format_bytes(size)} are needed" if size is not None else ""
        problem += f" ({format_bytes(shutil.disk_usage(path.parent).free)} are free{needed})"
    if isinstance(error, FileNotFoundError):
        return WriteError(
            problem, "the folder was there before: put it back, and the same command goes on"
        )
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "make room" if is_full else "mend its permissions or mount"
    return WriteError(problem, f"{fix}; the same command goes on")


def _refuse_pipe(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(
            f"{path} is a pipe or a device, which a file would take the place of", "name a file"
        )


def _write(path: Path, write: Callable[[Path], object], size: int) -> None:
    _refuse_pipe(path)
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = new_file_beside(path)
        write(beside)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    except BaseException as error:
        if beside is not None:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error, size) from error
        raise
