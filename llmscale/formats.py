"""Text out of one file: plain text, JSON lines, CSV and parquet, compressed (.gz, .xz, .zst) or not.

Every fault in a file is an InputError that names the file and the line, row or byte.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from llmscale.errors import InputError

PIECE_CHARACTERS: Final = 16_384
"""Plain text longer than this is cut into documents, where a paragraph ends if possible: without a cut, one long file
could not be held out in part."""
COMPRESSIONS: Final = (".gz", ".xz", ".zst")
_PROBE_BYTES: Final = 8192
_CHUNK_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 8 << 20
_BROKEN: Final = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""What the decompressors raise on a file that is damaged or cut short."""


def format_of(path: Path) -> str | None:
    """The suffix that names the format of `path`, without its compression: `.jsonl`; None where none is known."""
    suffix = (path.with_suffix("") if compression_of(path) else path).suffix.lower()
    return suffix if suffix in FORMATS else None


def compression_of(path: Path) -> str | None:
    """`.gz`, `.xz` or `.zst`; None for a file that is not compressed."""
    suffix = path.suffix.lower()
    return suffix if suffix in COMPRESSIONS else None


def read_documents(path: Path, text_column: str) -> Iterator[str]:
    """The documents of one file; `text_column` names the text in a row of JSON lines, CSV or parquet."""
    with open_stream(path) as stream:
        yield from FORMATS[format_of(path) or ""](stream, path, text_column)


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of `path`, decompressed."""
    with _opened(path) as (stream, _):
        yield stream


def expansion(path: Path) -> float:
    """Bytes of content per byte on disk, by the first 8 MiB of content."""
    compression = compression_of(path)
    if compression is None:
        return 1.0
    with _opened(path) as (stream, raw):
        content = len(stream.read(_SAMPLE_BYTES))
        on_disk = raw.tell() if stream.read(1) else path.stat().st_size
    return content / max(1, on_disk)


def parquet_bytes(path: Path, text_column: str) -> int:
    """Bytes of text in a parquet file, by its footer."""
    with open_stream(path) as stream:
        metadata = _parquet_file(stream, path).metadata
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    columns = (group.column(index) for group in groups for index in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text_column)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The content of a file, and the file on disk that it is read from."""
    compression = compression_of(path)
    try:
        with path.open("rb") as raw:
            yield _decompress(raw, compression), raw
    except _BROKEN as error:
        if compression and not (isinstance(error, OSError) and error.errno):
            raise InputError(
                f"{path} is not a whole {compression} file: {error}", "fetch or compress the file again"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"cannot read {path}: {error.strerror or error}", "name files you may read") from error
        raise


def _decompress(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    if compression == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if compression == ".xz":
        return io.BufferedReader(lzma.LZMAFile(raw))
    if compression == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))
    return raw


def _read_plain(stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    text = ""
    for decoded in _decoded_chunks(stream, path):
        text += decoded
        start = 0
        while len(text) - start > PIECE_CHARACTERS:
            end = _cut(text, start)
            yield text[start:end]
            start = end
        text = text[start:]
    if text:
        yield text


def _cut(text: str, start: int) -> int:
    """Where the piece of `text` from `start` on should end: after a blank line, else a line, else a word."""
    limit = start + PIECE_CHARACTERS
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, start + PIECE_CHARACTERS // 2, limit)
        if found >= 0:
            return found + len(mark)
    return limit


def _decoded_chunks(stream: IO[bytes], path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = lines = 0
    chunk = _first_chunk(stream, path)
    while chunk:
        held_back = len(decoder.getstate()[0])
        try:
            decoded = decoder.decode(chunk)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            raise _undecodable(path, offset - held_back + error.start, lines + before.count(b"\n") + 1) from None
        yield decoded.removeprefix("\ufeff") if offset == 0 else decoded
        offset += len(chunk)
        lines += chunk.count(b"\n")
        chunk = stream.read(_CHUNK_BYTES)
    left = len(decoder.getstate()[0])
    if left:
        raise _undecodable(path, offset - left, lines + 1)


def _decoded_lines(stream: IO[bytes], path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 1."""
    offset = 0
    first = io.BytesIO(_first_chunk(stream, path, whole_lines=True))
    for number, line in enumerate(itertools.chain(first, stream), start=1):
        try:
            decoded = line.decode()
        except UnicodeDecodeError as error:
            raise _undecodable(path, offset + error.start, number) from None
        yield number, decoded.removeprefix("\ufeff") if number == 1 else decoded
        offset += len(line)


def _first_chunk(stream: IO[bytes], path: Path, whole_lines: bool = False) -> bytes:
    chunk = stream.read(_CHUNK_BYTES)
    zero = chunk.find(b"\0", 0, _PROBE_BYTES)
    if zero >= 0:
        raise InputError(f"{path} is binary, not text: byte {zero} is zero", "name text files in UTF-8")
    return chunk + (stream.readline() if whole_lines else b"")


def _undecodable(path: Path, offset: int, line: int) -> InputError:
    return InputError(
        f"{path} is not UTF-8 at byte {offset} (line {line})",
        f"convert it: iconv -f LATIN1 -t UTF-8 {path} > converted{format_of(path) or '.txt'}",
    )


def _read_json_lines(stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    for number, line in _decoded_lines(stream, path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}:{number} is not JSON: {error}", 'every line must be one object, like {"text": "..."}'
            ) from None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}:{number} is not a JSON object but {type(row).__name__}",
                'every line must be one object, like {"text": "..."}',
            )
        if text_column not in row:
            raise no_such_column(f"{path}:{number}", text_column, list(row))
        yield text_of(row[text_column], f"{path}:{number}", text_column)


def _read_csv(stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)  # documents are longer than the 131,072 characters the csv module allows
    rows = csv.reader(line for _, line in _decoded_lines(stream, path))
    try:
        header = next(rows, [])
        if header and text_column not in header:
            raise no_such_column(str(path), text_column, header)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}:{rows.line_num} has {len(row)} fields, but the header has {len(header)}",
                    "quote fields that hold commas or line ends",
                )
            yield row[header.index(text_column)]
    except csv.Error as error:
        raise InputError(f"{path}:{rows.line_num} is not CSV: {error}", "mend that line") from None


def _read_parquet(stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    file = _parquet_file(stream, path)
    if text_column not in file.schema_arrow.names:
        raise no_such_column(str(path), text_column, file.schema_arrow.names)
    row = 0
    for batch in file.iter_batches(batch_size=1024, columns=[text_column]):
        for value in batch.column(0).to_pylist():
            yield text_of(value, f"{path}, row {row}", text_column)
            row += 1


def _parquet_file(stream: IO[bytes], path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(io.BytesIO(stream.read()) if compression_of(path) else stream)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a parquet file: {error}", "name a whole parquet file") from None


def no_such_column(where: str, text_column: str, columns: list[str]) -> InputError:
    """The error for a table without the asked column; it lists the columns there are."""
    listed = ", ".join(map(str, columns[:20])) or "none"
    likely = next((name for name in columns if "text" in str(name).lower() or name == "content"), None)
    return InputError(
        f"{where} has no column {text_column!r}; its columns are {listed}",
        f"name the column that holds the text: --text-column {likely or 'NAME'}",
    )


def text_of(value: object, where: str, text_column: str) -> str:
    """The text in a cell; an empty cell is an empty document, and anything but text an InputError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(
            f"column {text_column!r} at {where} holds {type(value).__name__}, not text",
            "name the column that holds the text: --text-column NAME",
        )
    return value


FORMATS: Final[dict[str, Callable[[IO[bytes], Path, str], Iterator[str]]]] = {
    ".txt": _read_plain,
    ".md": _read_plain,
    ".rst": _read_plain,
    ".py": _read_plain,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
