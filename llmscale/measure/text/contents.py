"""What a file of text holds by its first bytes: its format and encoding, or no text at all."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmscale.errors import InputError
from llmscale.measure.text.compression import compression_by_name, opened

PLAIN: Final = (".txt", ".text", ".md", ".rst", ".py")
JSON: Final = (".jsonl", ".json", ".ndjson")
SUFFIXES: Final = (*PLAIN, *JSON, ".csv", ".tsv", ".parquet")
"""The names of files that are read; what is in them decides how."""
_HEAD_BYTES: Final = 1 << 16
_PROBE_BYTES: Final = 8192
_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
"""Byte order marks, of UTF-32 first: those of UTF-16 begin one of them."""
_OTHER_FILES: Final = (
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a rar archive", "unpack it first"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it first: lz4 -d"),
    (b"%PDF", "a PDF", "extract its text first: pdftotext"),
    (
        b"ARROW1",
        "an Arrow file",
        "write it as parquet, or name the folder of the dataset: --data hub:FOLDER",
    ),
    (b"\x89HDF", "an HDF5 file", "write its text as JSON lines"),
    (b"\x93NUMPY", "an array of numpy", "name files of text, not of numbers"),
    (b"SQLite format 3", "an SQLite database", "export its text as CSV"),
)
_HTML: Final = re.compile(
    rb"\s*(<!--.*?-->\s*)?(<!doctype\s+html|<html)", re.IGNORECASE | re.DOTALL
)
_ANSWER: Final = re.compile(rb"\s*(<\?xml[^>]*\?>\s*)?<Error>\s*<Code>", re.IGNORECASE)
_LFS: Final = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Content:
    """How a file is read."""

    format: str
    """`.txt` (plain text), `.jsonl` (one object a line), `.json` (an array, or objects over several
    lines), `.csv` or `.parquet`."""
    encoding: str = "utf-8"
    remark: str | None = None
    """What its name would not make one expect, in words; None if it is what its name says."""

    @property
    def tabular(self) -> bool:
        """Whether one of its columns holds the text."""
        return self.format != ".txt"


def suffix_of(path: Path) -> str | None:
    """What names the format of `path`, without its compression: `.jsonl`; None if unknown."""
    suffix = (path.with_suffix("") if compression_by_name(path) else path).suffix.lower()
    return suffix if suffix in SUFFIXES else None


def look(path: Path) -> Content:
    """How to read `path`. Raises InputError if it cannot be read as text, saying what it is."""
    with opened(path) as (stream, _, packed):
        head = stream.read(_HEAD_BYTES)
    suffix = suffix_of(path)
    if suffix is not None:
        _refuse_other_files(path, head)
    encoding = _encoding(head)
    found = _format(path, suffix, head.decode(encoding, "ignore").removeprefix("\ufeff"))
    if found is None:
        raise InputError(
            f"{path} has a suffix that is not supported",
            f"supported are {' '.join(SUFFIXES)}, and each with .gz .xz .zst .bz2",
        )
    return Content(found, encoding, _remark(path, packed, found, encoding, head))


def _refuse_other_files(path: Path, head: bytes) -> None:
    if head.startswith(_LFS):
        raise InputError(
            f"{path} is a Git LFS pointer, which stands for a file that was not fetched",
            "fetch it in its repository: git lfs pull",
        )
    if _HTML.match(head) or _ANSWER.match(head):
        raise InputError(
            f"{path} is a web page, not the file itself: a server's answer was saved in its place",
            "download the file again, by its direct address",
        )
    for magic, what, fix in _OTHER_FILES:
        if head.startswith(magic):
            raise InputError(f"{path} is {what}, not text", fix)
    if head[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive, not text", "unpack it first: tar -xf")


def _encoding(head: bytes) -> str:
    """By its mark; UTF-16 without one is known by its zeros, every other byte of most letters."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    probe = head[: _PROBE_BYTES // 2 * 2]
    pairs = len(probe) // 2
    even, odd = probe[0::2].count(0), probe[1::2].count(0)
    if pairs >= 8 and max(even, odd) > 0.4 * pairs and min(even, odd) < 0.02 * pairs:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _format(path: Path, suffix: str | None, text: str) -> str | None:
    if text.startswith("PAR1"):
        return ".parquet"
    if suffix in PLAIN:
        return ".txt"
    if suffix == ".parquet" and not text:
        return ".jsonl"  # an empty file, of which nothing is read
    start = text.lstrip()
    line, ended, _ = start.partition("\n")
    whole = _is_object(line)
    if suffix in JSON:
        begins_array = re.match(r"\[\s*[{\]]", start)
        rows_follow = ended and _is_json(line) and start[len(line) :].strip()
        if begins_array and not rows_follow:
            return ".json"
        object_over_lines = ended and start[:1] == "{" and not whole
        return ".json" if suffix == ".json" and object_over_lines else ".jsonl"
    one_long_line = len(line) == len(start)
    cut_object = suffix is None and one_long_line and re.match(r'\{\s*"', start)
    if whole or cut_object:
        return ".jsonl"
    if suffix in (".csv", ".tsv"):
        return ".csv"
    if suffix == ".parquet":
        raise InputError(
            f"{path} is not a parquet file: it begins with {start[:40]!r}",
            "name a whole parquet file",
        )
    return None


def _is_object(line: str) -> bool:
    return line.startswith("{") and _is_json(line)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _remark(path: Path, packed: str | None, found: str, encoding: str, head: bytes) -> str | None:
    remarks = []
    named, suffix = compression_by_name(path), suffix_of(path)
    if head and named != packed:
        truth = f"compressed as {packed}" if packed else "not compressed"
        remarks.append(f"is {truth}, whatever its name")
    if encoding != "utf-8":
        remarks.append(f"is {encoding.upper()[:6]}, and read as such")
    expected: dict[str, tuple[str, ...]] = {".parquet": (".parquet",), ".csv": (".csv", ".tsv")}
    expected |= {".jsonl": JSON, ".json": JSON, ".txt": PLAIN}
    words = {".parquet": "parquet", ".jsonl": "JSON lines", ".json": "JSON", ".csv": "CSV"}
    if head and suffix not in expected[found]:
        remarks.append(f"holds {words[found]}, and is read as such")
    first_line = head.decode(encoding, "ignore").lstrip("\ufeff \n\r\t").partition("\n")[0]
    if found == ".txt" and _is_object(first_line):
        plain = "holds JSON lines, but is read as plain text, for that is its name"
        remarks.append(f"{plain}: name it .jsonl")
    return "; it ".join(remarks) or None
