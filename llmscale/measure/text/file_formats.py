"""Text out of one file: plain text, JSON, CSV and parquet, compressed (.gz, .xz, .zst, .bz2) or
not. Every fault in a file is an InputError that names the file and the line, row or byte."""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from llmscale.errors import InputError
from llmscale.measure.text.compression import open_stream
from llmscale.measure.text.contents import Content, look, suffix_of
from llmscale.measure.text.parquet_text import parquet_columns, parquet_rows, read_parquet
from llmscale.measure.text.text_column import choose_column, no_such_column, text_in
from llmscale.quantity import format_bytes

PIECE_CHARACTERS: Final = 16_384
"""Plain text longer than this is cut into documents, where a paragraph ends if possible: without a
cut, one long file could not be held out in part."""
LONGEST_LINE: Final = 1 << 28
"""Bytes of a line or a field: no document is as long, and packed files may unpack to any length."""
_PROBE_BYTES: Final = 8192
_CHUNK_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = "\ufeff"
_SPACE: Final = re.compile(r"[ \t\n\r]*")
Rows: TypeAlias = Callable[[IO[bytes], Path], Iterator[tuple[str, dict[str, Any]]]]
"""The rows of a file, each with the place where it stands."""


def read_documents(path: Path, text_column: str, content: Content | None = None) -> Iterator[str]:
    """The documents of one file; `text_column` names the text in a row of JSON, CSV or parquet."""
    content = content or look(path)
    with _opened(path, content) as stream:
        yield from _FORMATS[content.format](stream, path, text_column)


def read_rows(
    path: Path, columns: Sequence[str] | None = None, content: Content | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one file of JSON, CSV or parquet, each with the place where it stands; of parquet
    only `columns`, if they are named. Raises InputError, also for plain text, which has no rows."""
    content = content or look(path)
    with _opened(path, content) as stream:
        if content.format == ".parquet":
            yield from parquet_rows(stream, path, columns)
        elif content.format == ".csv":
            yield from _csv_objects(stream, path)
        elif content.tabular:
            yield from _ROWS[content.format](stream, path)
        else:
            raise InputError(
                f"{path} is plain text, and has no rows", "name JSON lines, CSV or parquet"
            )


def first_row(path: Path, content: Content) -> dict[str, Any] | None:
    """The columns of one file of JSON, CSV or parquet, with the values of its first row if these
    are known without more; None if it has no rows."""
    with _opened(path, content) as stream:
        return next(_FIRST_ROWS[content.format](stream, path), None)


def column_of(path: Path, asked: str, content: Content) -> str | None:
    """The column of `path` that holds the text, by its first row; None without columns or rows."""
    if not content.tabular:
        return None
    row = first_row(path, content)
    if not row:
        return None
    try:
        return choose_column(asked, row, str(path))
    except InputError as error:
        rows = next((key for key, value in row.items() if _is_table(value)), None)
        if rows is None or suffix_of(path) != ".json":
            raise
        problem = f"{error.problem}, and {rows!r} holds a list of rows"
        fix = f"write one row a line: jq -c '.[\"{rows}\"][]' {path} > lines.jsonl"
        raise InputError(problem, fix) from None


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(row, dict) for row in value)


@contextmanager
def _opened(path: Path, content: Content) -> Iterator[IO[bytes]]:
    """The content of a file, text as UTF-8."""
    with open_stream(path) as stream:
        if content.encoding == "utf-8":
            yield stream
        else:
            yield io.BufferedReader(_AsUtf8(stream, path, content.encoding), _CHUNK_BYTES)


class _AsUtf8(io.RawIOBase):
    """Text of another encoding, written anew as UTF-8."""

    def __init__(self, stream: IO[bytes], path: Path, encoding: str) -> None:
        self._stream, self._path, self._encoding = stream, path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            chunk = self._stream.read(_CHUNK_BYTES)
            self._ended = not chunk
            try:
                decoded = self._decoder.decode(chunk, final=self._ended)
            except UnicodeDecodeError as error:
                name = self._encoding.upper()[:6]
                raise InputError(
                    f"{self._path} begins like {name} and is not: {error.reason}",
                    f"convert it: iconv -t UTF-8 {self._path} > "
                    f"converted{suffix_of(self._path) or '.txt'}",
                ) from None
            self._ready = decoded.encode("utf-8", "surrogatepass")
        given = self._ready[: len(buffer)]
        buffer[: len(given)] = given
        self._ready = self._ready[len(given) :]
        return len(given)


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
    """Where the piece from `start` on should end: after a blank line, else a line, else a word."""
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
            line = 1 + lines + error.object[: error.start].count(b"\n")
            raise _undecodable(path, offset - held_back + error.start, line) from None
        if offset == 0:
            decoded = decoded.removeprefix(_BYTE_ORDER_MARK)
        yield decoded
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
    more = iter(lambda: stream.readline(LONGEST_LINE), b"")
    for number, line in enumerate(itertools.chain(first, more), start=1):
        if len(line) >= LONGEST_LINE:
            raise _too_long(f"{path}:{number}")
        try:
            decoded = line.decode()
        except UnicodeDecodeError as error:
            raise _undecodable(path, offset + error.start, number) from None
        if number == 1:
            decoded = decoded.removeprefix(_BYTE_ORDER_MARK)
        yield number, decoded
        offset += len(line)


def _first_chunk(stream: IO[bytes], path: Path, whole_lines: bool = False) -> bytes:
    chunk = stream.read(_CHUNK_BYTES)
    zero = chunk.find(b"\0", 0, _PROBE_BYTES)
    if zero >= 0:
        raise InputError(
            f"{path} is binary, not text: byte {zero} is zero", "name text files in UTF-8"
        )
    if whole_lines:
        chunk += stream.readline(LONGEST_LINE)
    return chunk


def _too_long(where: str) -> InputError:
    return InputError(
        f"{where} goes on for more than {format_bytes(LONGEST_LINE)}: that is no document",
        "look at the file there; if it should be text, put line ends into it",
    )


def _undecodable(path: Path, offset: int, line: int) -> InputError:
    return InputError(
        f"{path} is not UTF-8 at byte {offset} (line {line})",
        f"convert it: iconv -f LATIN1 -t UTF-8 {path} > converted{suffix_of(path) or '.txt'}",
    )


def _read_rows(rows: Rows, stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    for where, row in rows(stream, path):
        yield text_in(row, text_column, where)


def _json_lines(stream: IO[bytes], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _decoded_lines(stream, path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}:{number} is not JSON: {error}",
                'every line must be one object, like {"text": "..."}',
            ) from None
        yield f"{path}:{number}", _object(row, f"{path}:{number}")


def _object(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    raise InputError(
        f"{where} is not a JSON object but {type(row).__name__}",
        'every line must be one object, like {"text": "..."}',
    )


def _json_objects(stream: IO[bytes], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of an array, or objects that follow each other, over any lines; streamed."""
    chunks = _decoded_chunks(stream, path)
    decoder = json.JSONDecoder()
    held, place, number = "", 0, 0
    in_array: bool | None = None
    while True:
        place = _after_space(held, place)
        if in_array is None and place < len(held):
            in_array = held[place] == "["
            place += in_array
        elif in_array and number and held[place : place + 1] == ",":
            place += 1
        place = _after_space(held, place)
        if in_array and held[place : place + 1] == "]":
            rest = (held[place + 1 :] + "".join(chunks)).strip()
            if rest:
                raise InputError(
                    f"{path} goes on after its array: {rest[:40]!r}", "keep one array in a file"
                )
            return
        where = f"{path}, object {number + 1}"
        try:
            row, place = decoder.raw_decode(held, place)
        except (ValueError, RecursionError) as error:
            held, place = held[place:], 0
            # Each time as much again as there is, or a long object would be read over and over.
            more = "".join(itertools.islice(chunks, 1 + len(held) // _CHUNK_BYTES))
            if more and len(held) < LONGEST_LINE:
                held += more
                continue
            if more:
                raise _too_long(where) from None
            if not held and not in_array:
                return
            raise InputError(
                f"{where} is not JSON: {error}", "write one object a line, and name it .jsonl"
            ) from None
        yield where, _object(row, where)
        number += 1


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None  # it matches nothing, too
    return found.end()


def _read_csv(stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    rows = _csv_rows(stream, path)
    _, header = next(rows, (0, []))
    if header and text_column not in header:
        raise no_such_column(str(path), text_column, header)
    for line, row in rows:
        _check_fields(f"{path}:{line}", row, header)
        yield row[header.index(text_column)]


def _csv_objects(stream: IO[bytes], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = _csv_rows(stream, path)
    _, header = next(rows, (0, []))
    for line, row in rows:
        _check_fields(f"{path}:{line}", row, header)
        yield f"{path}:{line}", dict(zip(header, row, strict=True))


def _check_fields(where: str, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise InputError(
            f"{where} has {len(row)} fields, but the header has {len(header)}",
            "quote fields that hold commas or line ends",
        )


def _csv_rows(stream: IO[bytes], path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows with the lines they begin in, the header first; between fields stands a comma, or
    what the header has in its place."""
    # Documents are longer than the 131,072 characters that the csv module allows.
    csv.field_size_limit(LONGEST_LINE)
    lines = (line for _, line in _decoded_lines(stream, path))
    first = next(lines, "")
    whole = itertools.chain(filter(None, [first]), lines)
    rows = csv.reader(whole, delimiter=_delimiter(first, path), strict=True)
    begun = 1
    try:
        for row in rows:
            if row:
                yield begun, row
            begun = rows.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise _too_long(f"{path}:{begun}") from None
        unclosed = ""
        if rows.line_num > begun:
            unclosed = f" (a quote that begins in this row was read on to line {rows.line_num})"
        raise InputError(
            f"{path}:{begun} is not CSV: {error}{unclosed}",
            'close the quote in that row, and write a quote within a quoted field twice, as ""',
        ) from None


def _delimiter(header: str, path: Path) -> str:
    likely = "\t,;" if suffix_of(path) == ".tsv" else ",\t;"
    return next((mark for mark in likely if mark in header), likely[0])


_ROWS: Final[dict[str, Rows]] = {".jsonl": _json_lines, ".json": _json_objects}
_FORMATS: Final[dict[str, Callable[[IO[bytes], Path, str], Iterator[str]]]] = {
    ".txt": _read_plain,
    ".jsonl": partial(_read_rows, _json_lines),
    ".json": partial(_read_rows, _json_objects),
    ".csv": _read_csv,
    ".parquet": read_parquet,
}


def _first_csv_row(stream: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    for _, header in _csv_rows(stream, path):
        yield dict.fromkeys(header)


_FIRST_ROWS: Final[dict[str, Callable[[IO[bytes], Path], Iterator[dict[str, Any]]]]] = {
    ".jsonl": lambda stream, path: (row for _, row in _json_lines(stream, path)),
    ".json": lambda stream, path: (row for _, row in _json_objects(stream, path)),
    ".csv": _first_csv_row,
    ".parquet": lambda stream, path: iter([parquet_columns(stream, path)]),
}
