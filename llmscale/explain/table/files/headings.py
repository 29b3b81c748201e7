"""From rows of cells to columns under headings: titles, headings, totals, rows of other length."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmscale.errors import InputError, Note, counted, listed
from llmscale.explain.table.files.numbers import MISSING, is_number
from llmscale.notes.reading import HEADING_ROWS, HEADINGS_AGAIN, SAME_COLUMN, TITLE_LINES, TOTALS

_SAMPLE = 500
_MOST_TITLES = 10
_TOTALS = frozenset(
    ("total", "totals", "grand total", "sum", "mean", "average", "avg", "median", "std", "min",
     "max", "count",
     "summe", "gesamt", "mittelwert", "durchschnitt", "somme", "moyenne", "total général", "suma",
     "promedio", "media",
     "合计", "总计", "平均", "平均值")
)  # fmt: skip
_MEANS = ("mean", "avg", "average", "value")
_UNITS = re.compile(
    r"\[.*\]|\(.*\)|%|#|[kmbtgpez]|thousands?|millions?|billions?|trillions?|nats?|bits?|ppl|perplexity|tokens?"
    r"|[kmgtpez]?flops?([/-]s)?|p(eta)?f(lops?)?([/-]s)?[-/ "
    r"]?days?|nats?/tok(en)?|bits?/\w+|s|sec|seconds?|h|hours?"
    r"|m tokens|b tokens|[kmgt]i?b",
    re.IGNORECASE,
)
_QUOTES = {"'": "'", '"': '"', "`": "`", "“": "”", "‘": "’", "«": "»"}


@dataclass(frozen=True)
class Headed:
    """Names of columns, rows of as many cells, and the line of the file where each row begins."""

    names: tuple[str, ...]
    body: list[list[str]]
    lines: Sequence[int]
    notes: tuple[Note, ...]


def with_headings(
    cells: list[list[str]], lines: Sequence[int], separator: str, file: Path
) -> Headed:
    """The rows below their headings, of the same length, and notes on rows that were left out.
    Raises InputError naming a line of another length, and columns of one name that differ."""
    notes: list[Note] = []
    blank = {place for place, row in enumerate(cells) if _is_blank(row)}
    cells, lines = without(blank, cells, lines)
    if not cells:
        raise InputError(
            f"{file} holds no table", "it needs a line of column names and one line a run"
        )
    skip = _titles(cells)
    if skip:
        title = " ".join(" ".join(row).strip() for row in cells[:skip])
        message = f"{file} has a title above its headings, which was skipped: {title[:60]!r}"
        notes.append(TITLE_LINES.note(message))
        cells, lines = cells[skip:], lines[skip:]
    number = _heading_rows(cells)
    if number == 0:
        raise InputError(
            f"{file} has no line of headings: line {lines[0]} holds only numbers",
            "write the names of the columns on top, as in params,tokens,loss",
        )
    if number > 1:
        names = _stacked(cells[:number])
        pairs = zip(names, cells[0], strict=False)
        joined = listed(name for name, first in pairs if name != first.strip())
        message = f"{file} has {number} lines of headings, which were joined: {joined}"
        notes.append(HEADING_ROWS.note(message))
    else:
        names = [_bare(name) for name in cells[0]]
    top, cells, lines = cells[0], cells[number:], lines[number:]
    names, cells = _same_length(names, cells, lines, separator, file)
    cells, lines = _without_headings_again(names, top, cells, lines, file, notes)
    cells, lines = _without_totals(names, cells, lines, file, notes)
    _refuse_sideways(names, cells, file)
    names, cells = _each_once(names, cells, lines, file, notes)
    return Headed(tuple(names), cells, lines, tuple(notes))


def _is_blank(row: list[str]) -> bool:
    if row and row[0] and not row[0].isspace():  # most rows, without a look at the other cells
        return False
    return not any(map(str.strip, row))


def without(
    places: Collection[int], cells: list[list[str]], lines: Sequence[int]
) -> tuple[list[list[str]], Sequence[int]]:
    """The rows but for those at some places, and their lines."""
    if not places:
        return cells, lines
    kept = [place for place in range(len(cells)) if place not in places]
    return [cells[place] for place in kept], [lines[place] for place in kept]


def filled(row: list[str]) -> int:
    """How many cells a row has without empty ones at its end."""
    count = len(row)
    while count and not row[count - 1].strip():
        count -= 1
    return count


def _is_text(row: list[str]) -> bool:
    """Whether a row could be headings: it holds something, and no number."""
    there = [cell for cell in row if cell.strip()]
    return bool(there) and not any(map(is_number, there))


def _titles(cells: list[list[str]]) -> int:
    """How many rows of one cell stand above headings and numbers of full width."""
    usual = Counter(filled(row) for row in cells[:_SAMPLE]).most_common(1)[0][0]
    for place, row in enumerate(cells[:_MOST_TITLES]):
        if filled(row) >= usual > 1:
            follows = any(any(map(is_number, below)) for below in cells[place + 1 : place + 3])
            return place if _is_text(row) and follows else 0
        if sum(bool(cell.strip()) for cell in row) > 1:
            return 0
    return 0


def _heading_rows(cells: list[list[str]]) -> int:
    """How many rows of headings there are; 0 if the first row holds only numbers."""
    first = [_bare(cell) for cell in cells[0][: max(1, filled(cells[0]))]]
    if all(is_number(cell) for cell in first if cell) and len(cells) > 1:
        return 0
    # Names that are there once need no second row, unless it gives their units.
    complete = all(first) and len(set(first)) == len(first)
    for number in (3, 2):
        below = cells[number : number + _SAMPLE]
        if below and all(_is_heading(row, below, complete) for row in cells[1:number]):
            return number
    return 1


def _is_heading(row: list[str], below: list[list[str]], complete: bool) -> bool:
    """Whether a row below the first belongs to the headings: it is text above numbers."""
    if not _is_text(row):
        return False
    there = [(place, cell.strip()) for place, cell in enumerate(row) if cell.strip()]
    above_numbers = [cell for place, cell in there if _numeric(below, place)]
    units = not complete or all(map(_UNITS.fullmatch, above_numbers))
    return bool(above_numbers) and units


def _numeric(rows: list[list[str]], place: int) -> bool:
    values = [row[place].strip() for row in rows if place < len(row) and row[place].strip()]
    return bool(values) and all(map(is_number, values))


def _stacked(rows: list[list[str]]) -> list[str]:
    """One name a column: `loss` over `std` is loss_std, `params` over `M` is params (M)."""
    width = max(map(len, rows))
    padded = [[*map(str.strip, row)] + [""] * (width - len(row)) for row in rows]
    top = padded[0]
    once = len({name for name in top if name}) == sum(map(bool, top))
    index = not (top[0] or padded[1][0])  # the names of an index stand below, as pandas writes them
    merged = once and not index and not all(top)
    if merged:  # cells of a spreadsheet: Loss stands above train and val
        for place in range(1, width):
            top[place] = top[place] or top[place - 1]
    names = []
    for place in range(width):
        parts = [row[place] for row in padded if row[place]]
        name = _bare("".join(parts[:1]))
        for part in parts[1:]:
            if part.lower() in _MEANS:
                continue
            if _UNITS.fullmatch(part) and not merged:
                name = f"{name} ({part.strip('[]()')})"
            else:
                between = "/" if merged else "_"
                name = f"{name}{between}{part}" if name else part
        names.append(name)
    return names


def _bare(name: str) -> str:
    """A heading without quotes, blanks and marks around it."""
    name = name.strip().strip("\ufeff\u200b").strip()
    while len(name) > 2 and _QUOTES.get(name[0]) == name[-1]:
        name = name[1:-1].strip()
    return name


def _same_length(
    names: list[str], cells: list[list[str]], lines: Sequence[int], separator: str, file: Path
) -> tuple[list[str], list[list[str]]]:
    """Rows of as many cells as there are headings. Raises InputError naming the line."""
    width = len(names)
    named = filled(names)
    if named < width and not any(filled(row) > named for row in cells):
        names, width = names[:named], named
    if all(len(row) == width for row in cells):
        return names, cells
    wrong = [place for place, row in enumerate(cells) if len(row) < width or filled(row) > width]
    wrong = [place for place in wrong if not (place == len(cells) - 1 and _total_of(cells[place]))]
    if not wrong:
        padded = [row if len(row) == width else (row + [""] * width)[:width] for row in cells]
        return names, padded
    place = wrong[0]
    found = max(filled(cells[place]), len(cells[place]) if len(cells[place]) < width else 0)
    fields, headings = counted(found, "field"), counted(width, "heading")
    which = f"line {lines[place]} of {file} has {fields} under {headings}"
    if len(wrong) > 1:
        which += f" ({len(wrong)} lines like this)"
    if found < width:
        raise InputError(
            which, "write a value, or nothing, for every heading, or leave the line out"
        )
    fix = "name every column on top"
    comma = next((cell for cell in cells[place] if "," in cell), None)
    if separator == "," and comma is None:
        fix += ', and put a value with a comma in quotes: "5,67"'
    raise InputError(which, fix)


def _without_headings_again(
    names: list[str],
    top: list[str],
    cells: list[list[str]],
    lines: Sequence[int],
    file: Path,
    notes: list[Note],
) -> tuple[list[list[str]], Sequence[int]]:
    """The rows without repeated headings; other headings further down are refused."""
    known = {name.lower() for name in names if name}
    first = names[0]
    again = set()
    for place, row in enumerate(cells):
        cell = row[0]
        is_text = cell and not (cell[0].isdigit() or cell in MISSING)
        if cell == first or (is_text and _bare(cell).lower() in known):
            bare = [_bare(cell) for cell in row]
            if bare == list(names) or row == top:
                again.add(place)
                continue
            others = sum(name.lower() in known for name in bare if name)
            if len(names) > 1 and others >= max(2, len(names) // 2 + 1):
                raise InputError(
                    f"line {lines[place]} of {file} has headings again, in another order than the "
                    "first",
                    "keep one table in the file",
                )
    if again:
        named = listed([lines[place] for place in sorted(again)])
        message = f"the headings of {file} stand again in line {named}, which was skipped"
        notes.append(HEADINGS_AGAIN.note(message))
    return without(again, cells, lines)


def _total_of(row: list[str]) -> bool:
    there = [cell.strip() for cell in row if cell.strip()]
    return bool(there) and there[0].split(":")[0].strip().lower() in _TOTALS


def _without_totals(
    names: list[str], cells: list[list[str]], lines: Sequence[int], file: Path, notes: list[Note]
) -> tuple[list[list[str]], Sequence[int]]:
    """The rows without totals and means at the end, as a spreadsheet has them."""
    last = len(cells)
    while last > 1 and _total_of(cells[last - 1]):
        last -= 1
    if last == len(cells) or last < 2:
        return cells, lines
    words = [next(filter(None, map(str.strip, row))) for row in cells[last:]]
    named = [f"{line} ({word})" for line, word in zip(lines[last:], words, strict=True)]
    notes.append(TOTALS.note(f"line {listed(named)} of {file} is no run, and was left out"))
    return cells[:last], lines[:last]


def _refuse_sideways(names: list[str], cells: list[list[str]], file: Path) -> None:
    """Raise InputError for a table whose quantities are rows: params, tokens and loss."""
    if not 2 <= len(cells) <= 50:
        return
    first = {row[0].strip().lower() for row in [names, *cells]}
    sizes = first & {"params", "n_params", "parameters", "n", "tokens", "d", "flops", "c"}
    losses = {name for name in first if re.fullmatch(r"l|(.*[_ /.])?loss", name)}
    if sizes and losses and len(names) > 2:
        raise InputError(
            f"{file} lies on its side: {listed(sorted(sizes | losses))} are names of rows",
            f"turn it: pandas.read_csv({str(file)!r}, index_col=0).T.to_csv('runs.csv', "
            "index=False)",
        )


def _each_once(
    names: list[str], cells: list[list[str]], lines: Sequence[int], file: Path, notes: list[Note]
) -> tuple[list[str], list[list[str]]]:
    """Every name once, unnamed columns by their place, no index and no empty columns."""
    keep, final = [], []
    seen: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        column = [row[place].strip() for row in cells] if not name or names.count(name) > 1 else []
        if not name:
            counted = place == 0 and column == [str(number) for number in range(len(column))]
            if counted or not any(column):
                continue  # the index that pandas writes, or nothing
            name = f"Unnamed: {place}"
        elif name in seen:
            differ = [row for row, cell in enumerate(column) if seen[name][row] != cell]
            if differ:
                row = differ[0]
                raise InputError(
                    f"{file} has more than one column named {name!r}, and they differ: "
                    f"{seen[name][row]!r} and {column[row]!r} in line {lines[row]}",
                    "give each column its own name",
                )
            message = f"{file} has the column {name!r} more than once, and they are equal"
            notes.append(SAME_COLUMN.note(message))
            continue
        elif names.count(name) > 1:
            seen[name] = column
        keep.append(place)
        final.append(name)
    if len(keep) < len(names):
        cells = [[row[place] for place in keep] for row in cells]
    return final, cells
