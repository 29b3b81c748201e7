"""Reading a source of runs: a results folder, a file of CSV, parquet or JSON, standard input, or a
frame.

A file is what its content says. A name that says otherwise is noted; content that says nothing
certain is refused."""

import bz2
import contextlib
import glob
import gzip
import io
import lzma
import os
import re
import stat
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.errors.command_lines import command_line
from llmscale.errors.printable import begun
from llmscale.explain.table.files.bounds import check_cells, read_within
from llmscale.explain.table.files.csv_text import read_csv
from llmscale.explain.table.files.frames import is_frame, to_frame
from llmscale.explain.table.files.letters import decode
from llmscale.explain.table.files.logs import logs_in, refuse_log, runs_of
from llmscale.explain.table.files.nested import frame_from_json, unfold
from llmscale.explain.table.files.not_a_table import refuse_binary, refuse_text
from llmscale.explain.table.files.plain import flat_names, plain, with_index
from llmscale.notes.reading import KIND_BY_CONTENT
from llmscale.runs.checked import REMAKE, DamagedFile, plain_file
from llmscale.runs.remote import is_url, pull_table
from llmscale.runs.results_folder import ResultsFolder, newest_results
from llmscale.runs.safe_paths import refuse_unusable

STANDARD_INPUT = Path("<stdin>")
FRAME = Path("<table>")

_KINDS = {
    **dict.fromkeys((".csv", ".tsv"), "CSV"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "JSON"),
    ".parquet": "parquet",
}
_OPEN: dict[bytes, Callable[[Any], Any]] = {
    rb"\x1f\x8b": gzip.open,
    rb"BZh[1-9][1\x17]": bz2.open,
    rb"\xfd7zXZ\x00": lzma.open,
}
"""How to unpack what begins so."""
_PACKED = (".gz", ".bz2", ".xz")
_NAMES = (
    "name a results folder, or a .csv, .tsv, .parquet, .jsonl or .json file (CSV and JSON also "
    "as .gz, .bz2, .xz)"
)
_NEEDS = "it needs columns for params, tokens or flops, and loss"
_MOST_LOGS = 10_000

Read = tuple[pd.DataFrame, tuple[Note, ...]]


def read_source(source: Any) -> tuple[Path, pd.DataFrame, tuple[Note, ...]]:
    """The source's path (or a word for it), its rows with plain index and columns, and notes.
    Logs of one run each, named by a pattern such as logs/*/trainer_state.json, are a table.
    Raises InputError."""
    if is_frame(source):
        frame = _checked(to_frame(source), FRAME)
        refuse_log(frame, FRAME)
        return FRAME, frame, ()
    if source is not None and str(source) == "-":
        frame, notes = _parsed(_standard_input(), "", STANDARD_INPUT)
        refuse_log(frame, STANDARD_INPUT)
        return STANDARD_INPUT, frame, notes
    if isinstance(source, str) and not source.strip():
        raise InputError("the name of the table is empty", _NAMES)
    if not (source is None or isinstance(source, (str, os.PathLike))):
        raise InputError(
            f"a table cannot be read from a {type(source).__name__}",
            "give a path, a pandas, polars or pyarrow table, or a dict of columns",
        )
    if isinstance(source, str) and is_url(source):
        source = pull_table(source)
    path = newest_results().path if source is None else Path(source)
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is no name of a file", _NAMES)
    with _one_sentence(path):
        if any(letter in str(path) for letter in "*?[") and not path.exists():
            return path, *_read_logs(path)
        file = _file_of(path)
        frame, notes = _read(file)
    if not path.is_dir():
        refuse_log(frame, file)
    return path, frame, notes


def read_rows_of(path: Path) -> pd.DataFrame:
    """The rows of one file, whatever they are: of a log, too. Raises InputError."""
    with _one_sentence(path):
        return _read(_file_of(path))[0]


def _read_logs(pattern: Path) -> Read:
    """The table of the logs that a pattern names; of one file, what it holds."""
    files = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    files = [file for file in files if not file.is_dir()]
    if not files:
        raise InputError(f"there is no file {pattern}", _NAMES)
    if len(files) > _MOST_LOGS:
        raise InputError(
            f"{pattern} names {len(files):,} files", f"name at most {_MOST_LOGS:,} logs"
        )
    read = {file: _read(_file_of(file)) for file in files}
    if len(files) == 1:
        refuse_log(read[files[0]][0], files[0])
        return read[files[0]]
    frame, notes = runs_of({file: frame for file, (frame, _) in read.items()}, str(pattern))
    notes_read = chain.from_iterable(more for _, more in read.values())
    return frame, (*dict.fromkeys(notes_read), *notes)


def _read(file: Path) -> Read:
    """What one file holds, unpacked if its first bytes say that it is packed."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    with file.open("rb") as stream:
        content = _unpacked(stream, file)
    return _parsed(content, suffixes[-1] if suffixes else "", file)


def _unpacked(stream: Any, file: Path) -> bytes:
    """What a stream that can be wound back holds, unpacked if it begins as packed ones do."""
    start = stream.read(6)
    stream.seek(0)
    unpack = next((how for magic, how in _OPEN.items() if re.match(magic, start)), None)
    with contextlib.nullcontext(stream) if unpack is None else unpack(stream) as unpacked:
        return read_within(unpacked, file)


def _empty(file: Path) -> InputError:
    if _of_a_sweep(file):
        return DamagedFile(file, "it is empty", REMAKE)
    return InputError(f"{file} is empty", "it needs a line of column names and one line a run")


def _file_of(source: Path) -> Path:
    """The file to read for what the user named."""
    refuse_unusable(source, _NAMES)
    if source.is_dir():
        runs = ResultsFolder(source).runs_path
        if ResultsFolder(source).sweep_path.is_file():
            _refuse_lost(runs)
        if not runs.is_file():
            logs = [command_line("llmscale", "fit", pattern) for pattern in logs_in(source)]
            raise InputError(
                f"{source} is a folder without runs.parquet", logs[0] if logs else _NAMES
            )
        return runs
    if not source.exists():
        if source.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                source.stat()  # says so if links lead in a circle
            raise InputError(
                f"{source} is a link to {source.readlink()}, which is not there", _NAMES
            )
        raise InputError(f"there is no file {source}", _NAMES)
    if not stat.S_ISREG(source.stat().st_mode):
        raise InputError(
            f"{source} is a pipe or a device, not a file",
            f"pipe it in: llmscale fit - < {command_line(source)}",
        )
    if source.stat().st_size == 0:
        raise _empty(source)
    return source


def _refuse_lost(runs: Path) -> None:
    """Raise InputError if a sweep's own table is not there, or holds nothing of a table."""
    try:
        with plain_file(runs).open("rb") as stream:
            begins = stream.read(4)
    except FileNotFoundError:
        raise InputError(f"there is no {runs}", REMAKE) from None
    if begins != b"PAR1":
        reason = "it does not begin as a parquet file" if begins else "it is empty"
        raise DamagedFile(runs, reason, REMAKE)


@contextlib.contextmanager
def _one_sentence(path: Path) -> Any:
    """What the file system, an archive or the memory says no to, as an InputError."""
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"{error.filename or path} may not be read", "check its permissions"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory", "keep fewer rows or columns"
        ) from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(
            f"{begun(path, 200)} cannot be unpacked or read: {_reason(error)}", _NAMES
        ) from error


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "nothing is piped into -", "pipe a table in: cat runs.csv | llmscale fit -"
        )
    buffer = getattr(sys.stdin, "buffer", None)
    with _one_sentence(STANDARD_INPUT):
        if buffer is None:
            content = sys.stdin.read().encode()
        else:
            content = read_within(buffer, STANDARD_INPUT)
        if any(re.match(magic, content) for magic in _OPEN):
            content = _unpacked(io.BytesIO(content), STANDARD_INPUT)
    return content


def _parsed(content: bytes, suffix: str, file: Path) -> Read:
    """The rows that the content holds, whatever the file is called."""
    if not content.strip():
        raise _empty(file)
    refuse_binary(content, file)
    if content[:4] == b"PAR1":
        return _checked(_from_parquet(content, file), file), _unlike("parquet", suffix, file)
    named = _KINDS.get(suffix, "")
    if named == "parquet":
        _refuse_unreadable(content, file)
        raise InputError(
            f"{file} cannot be read as a parquet file: it does not begin as one", _NEEDS
        )
    text, notes = decode(content, file)
    refuse_text(text, file)
    begins = text.lstrip("\ufeff \t\r\n")[:1]
    if begins in ("{", "[") or named == "JSON":
        try:
            frame, more = frame_from_json(text.lstrip("\ufeff"), file)
            return _checked(frame, file), (*notes, *_unlike("JSON", suffix, file), *more)
        except (ValueError, RecursionError, TypeError) as error:
            if named == "JSON" and (begins in ("{", "[") or not _is_table(text)):
                article = "a JSON file" if file != STANDARD_INPUT else "JSON"
                raise InputError(
                    f"{file} cannot be read as {article}: {_reason(error)}", _NEEDS
                ) from error
    if named != "CSV" and file != STANDARD_INPUT and not _is_table(text):
        saved = "save the sheet as CSV" if suffix in (".xlsx", ".xls", ".ods") else _NAMES
        raise InputError(f"{file} does not end in .csv, .tsv, .parquet, .jsonl or .json", saved)
    frame, more = read_csv(text, file, suffix)
    return _checked(frame, file), (*notes, *_unlike("CSV", suffix, file), *more)


def _refuse_unreadable(content: bytes, file: Path) -> None:
    """Raise InputError if a file named .parquet is some other known thing: a web page."""
    try:
        text, _ = decode(content, file)
    except InputError:
        return
    refuse_text(text, file)


def _is_table(text: str) -> bool:
    """Whether a text of unknown kind is a table: several columns, rows with numbers."""
    start = "\n".join(text[: 1 << 14].splitlines()[:200])
    try:
        frame, _ = read_csv(start, Path("table"))
    except InputError:
        return False
    numbers = any(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)
    return len(frame) > 0 and len(frame.columns) > 1 and numbers


def _unlike(kind: str, suffix: str, file: Path) -> tuple[Note, ...]:
    """A note if the content is of another kind than the name says."""
    if file == STANDARD_INPUT or _KINDS.get(suffix) == kind:
        return ()
    return (KIND_BY_CONTENT.note(f"{file} was read as {kind}, which its content is"),)


def _from_parquet(content: bytes, file: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.ParquetFile(io.BytesIO(content))
        metadata = there.metadata
        check_cells(metadata.num_rows, metadata.num_columns, file, text=False)
        return there.read().to_pandas()
    except MemoryError:
        raise
    except (ValueError, OSError, RecursionError, TypeError, KeyError, pa.ArrowException) as error:
        reason = _reason(error) if content.endswith(b"PAR1") else "its end is missing"
        if _of_a_sweep(file):
            raise DamagedFile(file, reason, REMAKE) from error
        raise InputError(
            f"{file} cannot be read as a parquet file: {reason}", "copy it again, or write it anew"
        ) from error


def _of_a_sweep(file: Path) -> bool:
    """Whether a file is the table of a results folder."""
    folder = ResultsFolder(file.parent)
    return file == folder.runs_path and folder.sweep_path.is_file()


def _checked(frame: pd.DataFrame, file: Path) -> pd.DataFrame:
    frame = with_index(frame)
    frame.columns = flat_names(frame)
    frame = plain(unfold(plain(frame, objects=True)))
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise InputError(
            f"{file} has more than one column named {listed(map(repr, repeated))}",
            "give each column its own name",
        )
    return frame


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]
