"""Reading a source of runs: a results folder, a file of CSV, parquet or JSON, standard input, or a frame."""

import bz2
import gzip
import io
import lzma
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from llmscale.errors import InputError, Note
from llmscale.remote import is_url, pull_table
from llmscale.runs import ResultsFolder, newest_results
from llmscale.table._nested import frame_from_json, unfold

STANDARD_INPUT = Path("<stdin>")
FRAME = Path("<table>")

_KINDS = {
    ".csv": "CSV", ".tsv": "CSV", ".parquet": "parquet", ".jsonl": "JSON", ".ndjson": "JSON", ".json": "JSON",
}  # fmt: skip
_OPEN: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_NAMES = "name a results folder, or a .csv, .tsv, .parquet, .jsonl or .json file (CSV and JSON also as .gz, .bz2, .xz)"
_NEEDS = "it needs columns for params, tokens or flops, and loss"


def read_source(source: Path | str | pd.DataFrame | None) -> tuple[Path, pd.DataFrame, tuple[Note, ...]]:
    """The source's path (or a word for it), its rows with a plain index and plain columns, and notes on the reading.

    Raises InputError.
    """
    if isinstance(source, pd.DataFrame):
        return FRAME, _checked(source.copy(), FRAME), ()
    if source is not None and str(source) == "-":
        content = _standard_input()
        return STANDARD_INPUT, *_parsed(content, _sniffed(content), STANDARD_INPUT, "")
    if isinstance(source, str) and is_url(source):
        source = pull_table(source)
    path = newest_results().path if source is None else Path(source)
    file = _file_of(path)
    suffixes = [suffix.lower() for suffix in file.suffixes]
    compression = suffixes.pop() if suffixes[-1] in _OPEN else ""
    try:
        content = _OPEN[compression](file).read() if compression else file.read_bytes()
    except PermissionError as error:
        raise InputError(f"{file} may not be read", "check its permissions") from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{file} cannot be unpacked or read: {_reason(error)}", _NEEDS) from error
    return path, *_parsed(content, _KINDS[suffixes[-1]], file, suffixes[-1])


def _file_of(source: Path) -> Path:
    """The file to read for what the user named."""
    if source.is_dir():
        runs = ResultsFolder(source).runs_path
        if not runs.is_file():
            raise InputError(f"{source} is a folder without runs.parquet", _NAMES)
        return runs
    if not source.exists():
        raise InputError(f"there is no file {source}", _NAMES)
    suffixes = [suffix.lower() for suffix in source.suffixes]
    if suffixes and suffixes[-1] in _OPEN:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in _KINDS:
        saved = "save the sheet as CSV" if source.suffix.lower() in (".xlsx", ".xls", ".ods") else _NAMES
        raise InputError(f"{source} does not end in .csv, .tsv, .parquet, .jsonl or .json", saved)
    if source.stat().st_size == 0:
        raise InputError(f"{source} is empty", "it needs a line of column names and one line a run")
    return source


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("nothing is piped into -", "pipe a table in: cat runs.csv | llmscale fit -")
    buffer = getattr(sys.stdin, "buffer", None)
    content = buffer.read() if buffer is not None else sys.stdin.read().encode()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise InputError(f"{STANDARD_INPUT} cannot be unpacked: {_reason(error)}", _NEEDS) from error
    if not content.strip():
        raise InputError(f"{STANDARD_INPUT} is empty", "it needs a line of column names and one line a run")
    return content


def _sniffed(content: bytes) -> str:
    """What the content is, by its first bytes."""
    if content[:4] == b"PAR1":
        return "parquet"
    return "JSON" if content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[") else "CSV"


def _parsed(content: bytes, kind: str, file: Path, suffix: str) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    notes: tuple[Note, ...] = ()
    try:
        if kind == "parquet":
            frame = pd.read_parquet(io.BytesIO(content))
        elif kind == "JSON":
            frame = frame_from_json(content.decode("utf-8-sig"), file)
        else:
            frame, notes = _read_csv(content, suffix)
    except (ValueError, OSError, RecursionError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        article = f"a {kind} file" if file != STANDARD_INPUT else kind
        raise InputError(f"{file} cannot be read as {article}: {_reason(error)}", _NEEDS) from error
    return _checked(frame, file), notes


def _read_csv(content: bytes, suffix: str) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = content[: 1 << 16].decode(encoding, errors="replace").strip().splitlines()
    header = re.sub(r'"[^"]*"', "", lines[0]) if lines else ""
    separator = "\t" if suffix == ".tsv" else max(",\t;|", key=header.count)
    # Where commas do not separate columns, they may stand for the decimal point; 1,000 could be either, and is left.
    decimal = "."
    if separator == ";" and not re.search(rb"\d\.\d", content) and re.search(rb"\d,(\d{1,2}|\d{4,})(?!\d)", content):
        decimal = ","
    frame = pd.read_csv(
        io.BytesIO(content),
        sep=separator,
        decimal=decimal,
        encoding=encoding,
        skipinitialspace=separator != "\t",
        low_memory=False,
    )
    if decimal == ".":
        return frame, ()
    return frame, (Note("decimal-comma", "columns are separated by semicolons: 3,5 was read as 3.5"),)


def _checked(frame: pd.DataFrame, file: Path) -> pd.DataFrame:
    frame.columns = [str(column).strip() for column in frame.columns]
    frame = unfold(frame.reset_index(drop=True))
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise InputError(f"{file} has more than one column named {repeated[0]!r}", "give each column its own name")
    return frame


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
