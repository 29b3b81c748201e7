"""Columns of text as numbers: decimal points or commas, and thousands set apart by commas, points,
blanks or marks.

1.234 may be 1.234 or 1234. What a file writes elsewhere tells which; if it does not, the file is
refused."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.explain.table.columns.names import names_things
from llmscale.notes.reading import DECIMAL_COMMA, THOUSANDS

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
     "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null", "NAN", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!",
     "#NAME?")
)  # fmt: skip
"""What stands for no value: the words that pandas knows, and the errors of spreadsheets."""

_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_POWER = r"(?:[eE][+-]?\d{1,4})?"
_SUFFIX = r"(?:[ ]?[kKmMbBgGtT])?"
_POINT = re.compile(
    rf"[+-]?(?:(?:\d+|[1-9]\d{{0,2}}(?:,\d{{3}})+|[1-9]\d?(?:,\d\d)+,\d{{3}})(?:\.\d*)?|\.\d+){_POWER}{_SUFFIX}"
)
_COMMA = re.compile(
    rf"[+-]?(?:(?:\d+|[1-9]\d{{0,2}}(?:\.\d{{3}})+)(?:,\d*)?|,\d+){_POWER}{_SUFFIX}"
)
_BLANKS = r"[ \u00a0\u2009\u202f'\u2019]"
"""What stands between thousands and nowhere else in a number: blanks, the Swiss apostrophe."""
_SPACED = re.compile(rf"[+-]?[1-9]\d{{0,2}}({_BLANKS})\d{{3}}(?:\1\d{{3}})*(?:[.,]\d+)?{_SUFFIX}")
_ONE_GROUP = re.compile(r"\d[.,]\d{3}(?!\d)")
_LOOKED_AT = 200


@dataclass(frozen=True)
class _Written:
    """How the numbers of a column are written: the row of an example of each kind, or -1."""

    point: int
    """A cell that only a decimal point explains: 5.67, 1,234.5."""
    comma: int
    """A cell that only a decimal comma explains: 5,67."""
    dots: int
    """A cell that only dots between thousands explain, without a decimal comma: 20.000.000."""
    groups: int
    """A cell that only commas between thousands explain: 20,000,000."""
    either_comma: int
    either_point: int
    plain: int
    """A whole number of four digits or more, written without marks."""


def series_of(
    columns: Mapping[int, list[str]],
    names: Sequence[str],
    lines: Sequence[int],
    separator: str,
    file: Path,
) -> tuple[list[pd.Series], list[Note]]:
    """Each column as numbers, or else as text, and notes. Raises InputError."""
    plain = {place: _plain(cells) for place, cells in columns.items()}
    names_only: dict[int, list[str]] = {}
    for place, cells in columns.items():
        values = plain[place]
        if values is None:
            cells[:] = [cell.strip() for cell in cells]
            plain[place] = _plain(cells)
        elif _must_stay_text(cells, values, names_things(names[place])):
            names_only[place] = [cell.strip() for cell in cells]
    columns = {place: cells for place, cells in columns.items() if place not in names_only}
    notes: list[Note] = []
    unread = {place: cells for place, cells in columns.items() if plain[place] is None}
    texts = {place: cells for place, cells in unread.items() if _looks_written(cells)}
    if texts or separator == ";":
        texts = {place: _without_blanks(cells) for place, cells in texts.items()}
        ways = {place: _written(cells) for place, cells in texts.items()}
        commas = any(max(way.comma, way.dots, way.either_comma) >= 0 for way in ways.values())
        if commas or separator == ";":
            # Numbers that look plain may be thousands, too: 100.000.
            for place, values in plain.items():
                if values is not None and values.dtype.kind in "fi":
                    texts[place], ways[place] = columns[place], _written(columns[place])
        for place, cells in texts.items():
            others = [way for other, way in ways.items() if other != place]
            comma = _decimal_comma(ways[place], others, separator)
            if comma is None:
                raise _either(cells, ways[place], lines, f"column {names[place]!r} of {file}")
            texts[place] = _read(cells, comma)
            if texts[place] != columns[place]:
                plain[place] = _plain(texts[place])
                notes += _note(names[place], columns[place], texts[place], ways[place], comma)
        columns = {**columns, **texts}
    plain |= dict.fromkeys(names_only)
    series = [
        _text(cells) if plain[place] is None else pd.Series(plain[place])
        for place, cells in sorted({**columns, **names_only}.items())
    ]
    return series, _joined(notes)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number in any way of writing one, or a word such as nan."""
    cell = cell.strip().lstrip("$€£").rstrip("%€ ").replace("\u2212", "-")
    if cell in MISSING:
        return cell != ""
    written = any(way.fullmatch(cell) for way in (_POINT, _COMMA, _SPACED))
    return written or _as(float, [cell]) is not None


def _plain(cells: list[str]) -> np.ndarray | None:
    """The column as int64, float64 or bool if every cell is one as Python writes it, None else."""
    for kind in (int, float):
        numbers = _as(kind, cells)
        if numbers is not None:
            return numbers
    if all(cell in _TRUTHS for cell in cells):
        return np.array([_TRUTHS[cell] for cell in cells], dtype=bool)
    return _as(float, ["nan" if cell in MISSING else cell for cell in cells])


def _must_stay_text(cells: list[str], values: np.ndarray, named: bool) -> bool:
    """Whether cells like numbers are names, which numbers would change or confuse."""
    if values.dtype.kind == "b" or not cells:
        return False
    if not named:
        # A fingerprint of digits only: as floats, two of them may be one.
        if values.dtype.kind != "f" or not all(len(cell) > 16 and cell.isdigit() for cell in cells):
            return False
        return len(set(cells)) > len(np.unique(values))
    there = [cell.strip() for cell in cells if cell not in MISSING]
    if any(re.match(r"[+-]?0\d", cell) for cell in there):
        return True
    if values.dtype.kind != "f":
        return False
    large = np.abs(values[~np.isnan(values)]) >= 2**53
    return bool(large.any()) or any("e" in cell.lower() for cell in there)


def _as(kind: type[int] | type[float], cells: list[str]) -> np.ndarray | None:
    """The cells as int64 or float64, None if one is no such number or has Python's 1_000."""
    try:
        values = np.array(list(map(kind, cells)), dtype=kind)
    except (ValueError, OverflowError):
        return None
    return None if any("_" in cell for cell in cells) else values


def _text(cells: list[str]) -> pd.Series:
    """Text, True and False, with NaN for no value."""
    if all(cell in _TRUTHS or cell in MISSING for cell in cells):
        return pd.Series([_TRUTHS.get(cell, np.nan) for cell in cells], dtype=object)
    return pd.Series([np.nan if cell in MISSING else cell for cell in cells])


def _looks_written(cells: list[str]) -> bool:
    """Whether a column of text holds numbers in some other way of writing them."""
    looked = [cell for cell in cells[:_LOOKED_AT] if cell not in MISSING]
    return 2 * sum(map(is_number, looked)) >= len(looked) > 0


def _without_blanks(cells: list[str]) -> list[str]:
    """The cells without blanks and apostrophes between thousands, as in 1 234 567."""
    plain = [cell.replace("\u2212", "-") for cell in cells]
    for row, cell in enumerate(plain):
        if _SPACED.fullmatch(cell):
            plain[row] = re.sub(rf"{_BLANKS}(?=\d)", "", cell)
    return plain


def _written(cells: Iterable[str]) -> _Written:
    seen = dict.fromkeys(
        ("point", "comma", "dots", "groups", "either_comma", "either_point", "plain"), -1
    )
    for row, cell in enumerate(cells):
        by_point, by_comma = bool(_POINT.fullmatch(cell)), bool(_COMMA.fullmatch(cell))
        if cell in MISSING or not (by_point or by_comma):
            continue
        if by_point and by_comma:
            if "," in cell:
                kind = "either_comma" if _ONE_GROUP.search(cell) else "point"
            elif "." in cell:
                kind = "either_point"
            elif len(cell) >= 4 and cell.isdigit():
                kind = "plain"
            else:
                continue
        elif by_point:
            kind = "groups" if "," in cell and "." not in cell else "point"
        else:
            kind = "dots" if "." in cell and "," not in cell else "comma"
        if seen[kind] < 0:
            seen[kind] = row
    return _Written(**seen)


def _decimal_comma(way: _Written, others: list[_Written], separator: str) -> bool | None:
    """Whether commas stand for decimals in this column, or None if they may do either."""
    for_comma, for_point = way.comma >= 0 or way.dots >= 0, way.point >= 0 or way.groups >= 0
    if for_comma and for_point:
        return None
    if for_comma or for_point:
        if for_comma and way.either_comma >= 0 and way.comma < 0:
            return None  # 20.000.000 above 1,234
        return for_comma
    if way.either_comma < 0 and way.either_point < 0:
        return False
    if way.either_comma >= 0 and way.either_point >= 0:
        return None
    commas = any(other.comma >= 0 for other in others)
    dots = any(other.dots >= 0 for other in others)
    points = any(other.point >= 0 or other.groups >= 0 for other in others)
    ungrouped = way.plain >= 0 or any(other.plain >= 0 for other in others)
    if way.either_comma >= 0:
        if points and not (commas or dots):
            # English files separate by commas; semicolons come with decimal commas.
            return False if separator == "," and way.plain < 0 else None
        if (commas or dots) and not points:
            return True
        # A file that writes 20000000 sets no thousands apart: its 5,679 is a decimal, if it is no
        # file of commas.
        return True if ungrouped and not points and separator != "," else None
    if commas and not points:
        return None if ungrouped else True
    if dots or commas:
        return None
    return None if separator == ";" and not (points or ungrouped) else False


def _read(cells: list[str], comma: bool) -> list[str]:
    """The cells with numbers as Python writes them."""
    read = []
    for cell in cells:
        if comma and _COMMA.fullmatch(cell):
            cell = cell.replace(".", "").replace(",", ".")
        elif not comma and "," in cell and _POINT.fullmatch(cell):
            cell = cell.replace(",", "")
        read.append(cell)
    return read


def _note(name: str, cells: list[str], read: list[str], way: _Written, comma: bool) -> list[Note]:
    """What was read as what, unless commas can only be between thousands: 1,000,000."""
    changed = [row for row, cell in enumerate(cells) if cell.replace("\u2212", "-") != read[row]]
    if not changed:
        return []
    decimals = [row for row in (way.comma, way.either_comma) if comma and row >= 0]
    row = (decimals or changed)[0]
    if not comma and way.either_comma < 0 and "," in cells[row]:
        return []
    kind = DECIMAL_COMMA if decimals else THOUSANDS
    return [kind.note(f"{cells[row]} in {name} was read as {read[row]}")]


def _joined(notes: list[Note]) -> list[Note]:
    """One note for every code."""
    messages: dict[str, list[str]] = {}
    for note in notes:
        messages.setdefault(note.code, []).append(note.message)
    return [
        Note(code, listed(several, most=3, separator="; ")) for code, several in messages.items()
    ]


def _either(cells: list[str], way: _Written, lines: Sequence[int], where: str) -> InputError:
    for_comma, for_point = max(way.comma, way.dots), max(way.point, way.groups)
    if for_comma >= 0 and for_point >= 0:
        return InputError(
            f"{where} has decimal points and decimal commas: {cells[for_point]!r} in line "
            f"{lines[for_point]}, {cells[for_comma]!r} in line {lines[for_comma]}",
            "write all numbers with a point for decimals, and nothing between thousands",
        )
    row = max(way.either_comma, way.either_point)
    cell = cells[row]
    small, large = cell.replace(",", "."), re.sub("[.,]", "", cell)
    return InputError(
        f"{where} may be read in two ways: {cell!r} in line {lines[row]} is {small} or {large}",
        f"write {small} with a point for decimals, or {large} with nothing between thousands",
    )
