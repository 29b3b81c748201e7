"""Tables of text: CSV in the dialects that people really have, tables of Markdown, and numbers
between blanks.

A row has as many fields as there are headings, or the file is refused with the line: pandas alone
would shift columns."""

import csv
import gc
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from llmscale.errors import InputError, Note, counted, listed
from llmscale.explain.table.files.bounds import check_cells
from llmscale.explain.table.files.headings import filled, with_headings, without
from llmscale.explain.table.files.numbers import is_number, series_of
from llmscale.notes.reading import BLANKS_SEPARATE, COMMENT_LINES, DRAWN_TABLE

_SEPARATORS = ",\t;|"
_SAMPLE = 1 << 16
_RULE = re.compile(r"\s*[|+]?[ :]*-{2,}[-+|: =]*")
_BOXES = str.maketrans(
    dict.fromkeys("│┃║", "|")
    | dict.fromkeys("─━═╌", "-")
    | dict.fromkeys("┼┬┴├┤╞╪╡┌┐└┘╭╮╰╯┏┓┗┛┳┻╇┡┩┠┢╈", "+")
)


@dataclass(frozen=True)
class _Rows:
    """Rows of cells, and the line of the file where each begins."""

    cells: list[list[str]]
    lines: Sequence[int]
    separator: str


def read_csv(text: str, file: Path, suffix: str = "") -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """The table that a text holds, its numbers read, and notes on what was skipped or told.
    Raises InputError, naming the line, for no table and for one that reads in two ways."""
    notes: list[Note] = []
    text = text.removeprefix("\ufeff")
    rows = _rows(text, suffix, file, notes)
    table = with_headings(rows.cells, rows.lines, rows.separator, file)
    columns = {place: [row[place] for row in table.body] for place in range(len(table.names))}
    rows.cells.clear()  # two thirds of the memory, in a large table
    table.body.clear()
    series, more = series_of(columns, table.names, table.lines, rows.separator, file)
    frame = pd.concat(series, axis=1) if series else pd.DataFrame()
    frame.columns = list(table.names)
    return frame, (*notes, *table.notes, *more)


def _rows(text: str, suffix: str, file: Path, notes: list[Note]) -> _Rows:
    """The rows of a text, whatever separates their cells. What was skipped becomes a note."""
    start, told, comments = _leading(text)
    body = text[start:]
    before = text.count("\n", 0, start)
    if not body.strip():
        raise InputError(
            f"{file} holds no table", "it needs a line of column names and one line a run"
        )
    separator = told or _separator(body, suffix)
    if told is None and (drawn := _drawn(body, before, file)) is not None:
        message = f"{file} is a table drawn with lines (Markdown): it was read as such"
        notes.append(DRAWN_TABLE.note(message))
        return drawn
    check_cells(body.count("\n"), body.count(separator, 0, body.find("\n")) + 1, file, text=True)
    if separator == " ":
        rows = _between_blanks(body, before)
        notes.append(BLANKS_SEPARATE.note(f"the columns of {file} are separated by blanks"))
    else:
        with _undisturbed():
            cells, lines = _parsed(body, separator, before, file)
        rows = _Rows(cells, lines, separator)
    if whole := _quoted_whole(rows):
        return _rows(whole, suffix, file, notes)
    return _without_comments(rows, comments, file, notes)


def _leading(text: str) -> tuple[int, str | None, list[str]]:
    """Where the table begins: after blank lines, Excel's `sep=;`, and lines that begin with #."""
    at, separator, comments = 0, None, []
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].strip()
        told = re.fullmatch(r'"?sep=(.|\\t)"?', text[at:end].strip("\r\n "), re.IGNORECASE)
        if told and separator is None:
            separator = "\t" if told[1] == "\\t" else told[1]
        elif line.startswith("#"):
            comments.append(line)
        elif line:
            break
        at = min(end + 1, len(text))
    if at == len(text) and comments:  # nothing but #: perhaps the headings are among it
        return 0, separator, []
    return at, separator, comments


def _separator(text: str, suffix: str) -> str:
    """What separates columns: what gives most rows of the first lines the same number of them."""
    sample = text[:_SAMPLE]
    if len(text) > _SAMPLE:
        sample = sample[: sample.rfind("\n") + 1]
    best, best_score = ",", (0.0, 0, 0)
    for separator in _SEPARATORS:
        rows = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
        counts = [count for count in map(filled, rows) if count][:500]
        if not counts or max(counts) < 2:
            continue
        if separator == "\t" and suffix == ".tsv":
            return "\t"
        usual, number = Counter(count for count in counts if count > 1).most_common(1)[0]
        score = (number / len(counts), int(counts[0] == usual), usual)
        if score > best_score:
            best, best_score = separator, score
    if best_score[0] < 0.5:
        written = [line for line in sample.splitlines() if not re.fullmatch(r"#.*|[-=\s]*", line)]
        lines = list(map(str.split, written))
        several = [len(line) > 1 and any(map(is_number, line)) for line in lines[1:100]]
        if lines and len(lines[0]) > 1 and 2 * sum(several) > len(several):
            return " "
    return best


def _parsed(
    text: str, separator: str, before: int, file: Path
) -> tuple[list[list[str]], Sequence[int]]:
    """Rows of cells and the line where each begins, below `before` lines. Raises InputError."""
    reader = _reader(text, separator)
    cells: list[list[str]] = []
    try:
        cells.extend(reader)
    except csv.Error as error:
        raise _broken(text, separator, len(cells), before, str(error), file) from error
    if reader.line_num == len(cells):
        return cells, range(before + 1, before + 1 + len(cells))
    lines, reader = [], _reader(text, separator)
    end = 0
    for row in reader:
        if reader.line_num > end + 1:
            _check_swallowed(row, separator, before + end + 1, before + reader.line_num, file)
        lines.append(before + end + 1)
        end = reader.line_num
    return cells, lines


def _reader(text: str, separator: str) -> Any:
    single = '"' not in text[:_SAMPLE] and re.match(
        rf"'[^'\n]*'\s*{re.escape(separator)}\s*'", text
    )
    return csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quotechar="'" if single else '"',
        skipinitialspace=separator != "\t",
        strict=True,
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Long cells are no error, and a million rows no reason to look for garbage 1400 times."""
    limit, collected = csv.field_size_limit(sys.maxsize), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        csv.field_size_limit(limit)
        if collected:
            gc.enable()


def _broken(
    text: str, separator: str, whole: int, before: int, reason: str, file: Path
) -> InputError:
    """The error for a row that cannot be read: the line where a quote opens that does not close."""
    reader = _reader(text, separator)
    for _ in range(whole):
        next(reader)
    lines = text.splitlines()
    number = reader.line_num
    if "NUL" not in reason:
        for number in range(reader.line_num, min(len(lines), reader.line_num + 1000)):
            if lines[number].count('"') % 2:
                break
        else:
            number = reader.line_num
    return InputError(
        f"a quote in line {before + number + 1} of {file} does not close where its value ends",
        'close it, or write a quote inside a value twice: "5"" wide"',
    )


def _check_swallowed(row: list[str], separator: str, first: int, last: int, file: Path) -> None:
    """Raise InputError for a value of several lines that holds what look like rows."""
    for cell in row:
        for line in cell.splitlines()[1:-1] if "\n" in cell or "\r" in cell else ():
            values = line.split(separator)
            if len(values) >= len(row) > 1 and 2 * sum(map(is_number, values)) >= len(values):
                raise InputError(
                    f"a quote that opens in line {first} of {file} closes only in line {last}, "
                    "and rows are between",
                    "close it where its value ends",
                )


def _between_blanks(text: str, before: int) -> _Rows:
    cells, lines = [], []
    for number, line in enumerate(text.splitlines(), start=before + 1):
        if line.strip() and not re.fullmatch(r"[-=\s]{3,}", line):
            cells.append(line.split())
            lines.append(number)
    if len(cells) > 1 and len(cells[0]) == len(cells[1]) - 1 and text[:1].isspace():
        cells[0].insert(0, "")  # the index of a frame that pandas has printed
    return _Rows(cells, lines, " ")


def _drawn(text: str, before: int, file: Path) -> _Rows | None:
    """The rows of a table that is drawn with | and -, as in Markdown; None for any other text."""
    start = text[:4000].translate(_BOXES).splitlines()[:4]
    if not (any("|" in line for line in start) and any(_RULE.fullmatch(line) for line in start)):
        return None
    cells, lines = [], []
    for number, line in enumerate(text.translate(_BOXES).splitlines(), start=before + 1):
        line = line.strip()
        if not line or _RULE.fullmatch(line) or re.fullmatch(r"\(\d+ rows?\)", line):
            continue
        if "|" not in line:
            raise InputError(
                f"line {number} of {file} does not belong to the table drawn above or below it: "
                f"{line[:40]!r}",
                "keep only the table",
            )
        line = line.removeprefix("|")
        line = line[:-1] if line.endswith("|") and not line.endswith("\\|") else line
        row = [_unmarked(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", line)]
        cells.append(row)
        lines.append(number)
    return _Rows(cells, lines, "|")


def _unmarked(cell: str) -> str:
    """A cell of Markdown without the marks for bold, italic or code around it."""
    cell = cell.strip()
    marked = re.fullmatch(r"(\*{1,3}|_{1,3}|`)(.+?)\1", cell)
    return marked[2].strip() if marked else cell


def _quoted_whole(rows: _Rows) -> str | None:
    """The text inside, if every line of a table is one quoted value: "params,tokens,loss"."""
    if len(rows.cells) < 2 or any(len(row) > 1 for row in rows.cells):
        return None
    inside = [row[0] for row in rows.cells if row]
    for separator in ",\t;":
        counts = {line.count(separator) for line in inside[:500]}
        if len(counts) == 1 and min(counts) > 0:
            return "\n".join(inside)
    return None


def _without_comments(rows: _Rows, comments: list[str], file: Path, notes: list[Note]) -> _Rows:
    """The rows without lines that begin with #, of which the last on top may be headings."""
    cells, lines = rows.cells, list(rows.lines)
    if comments and cells:
        heading = comments[-1]
        found = None
        for line in (heading.lstrip("# "), heading):
            split: list[str] = next(_reader(line, rows.separator), [])
            if rows.separator == " ":
                split = line.split()
            if len(split) == filled(cells[0]) > 1 and not any(map(is_number, split)):
                found = split if found is None or not found[0] else found
        if found is not None and any(map(is_number, cells[0])):
            cells.insert(0, found)
            lines.insert(0, max(1, lines[0] - 1))
            comments = comments[:-1]
    width = Counter(map(len, cells[:500])).most_common(1)[0][0] if cells else 0
    first = [row[0] for row in cells[1:200] if row and not row[0].startswith("#")]
    numbers = 2 * sum(map(is_number, first)) > len(first)
    marked = [place for place, row in enumerate(cells) if place and row and row[0][:1] == "#"]
    inner = [place for place in marked if numbers or len(cells[place]) != width]
    if comments or inner:
        were = counted(len(comments) + len(inner), "line")
        skipped = listed(lines[place] for place in inner)
        at = f" (line {skipped} among them)" if inner else ""
        notes.append(COMMENT_LINES.note(f"{were} of {file} that begin with #{at} were skipped"))
    return _Rows(*without(set(inner), cells, lines), rows.separator)
