"""Tables of what comes from files, readable in a terminal of 80 columns.

A row is one line (or two, if its cells have two): it never wraps. A table that is too wide is set
closer, then its names are shortened in the middle, then its least important columns are left out,
and a line below says which."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from llmscale.errors.printable import masked, one_line, shortened

_LONGEST_CELL = 300
_GAP = 2
_SHORT_NAMES = (40, 24, 17)
"""Columns that names are shortened to, while other columns are still there; and in the end."""
_AT_LAST = 10


class SafeTable(Table):
    """A table whose plain strings are data: one line each, and never markup. Cells of more lines
    come as Text."""

    def add_column(self, header: Any = "", *args: Any, **kwargs: Any) -> None:
        super().add_column(_as_data(header), *args, **kwargs)

    def add_row(self, *cells: Any, **kwargs: Any) -> None:
        super().add_row(*map(_as_data, cells), **kwargs)


class FittedTable(SafeTable):
    """A table without lines that fits the width it is shown in. Its first column names the row.

    Columns that belong together, as a value and its interval, are `together`: such a table goes on
    below itself. Of any other, columns that hold nothing are left out first, without a word, then
    those headed `least`, in that order, and then those on the right."""

    def __init__(self, heading: Text, together: int = 1, least: Sequence[str] = ()) -> None:
        super().__init__(box=None, pad_edge=False)
        self._heading, self._together, self._least = heading, together, tuple(least)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        if self._heading.plain:
            yield self._heading
        blocks, left_out = self._fitted(options.max_width)
        for number, table in enumerate(blocks):
            if number:
                yield Text("")
            yield table
        if left_out:
            names = ", ".join(left_out)
            yield Text(f"no room for: {names} (see --json, or a wider terminal)", style="dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        natural = max(_width(self._columns_of_cells(), _GAP), self._heading.cell_len)
        return Measurement(min(natural, options.max_width), min(natural, options.max_width))

    def _columns_of_cells(self) -> list[list[Any]]:
        return [[column.header, *column._cells] for column in self.columns]

    def _fitted(self, room: int) -> tuple[list[Table], list[str]]:
        """The tables below each other that have room, and the headings that are left out."""
        columns = self._columns_of_cells()
        kept = list(range(len(columns)))
        if self._together == 1 and _width(columns, _GAP) > room:
            kept = [place for place in kept if not place or any(map(_says, columns[place][1:]))]
        left_out: list[str] = []
        while True:
            chosen = [columns[place] for place in kept]
            for cells, gap in self._ways(chosen, kept):
                if _width(cells, gap) <= room:
                    return [self._table(cells, gap, kept)], left_out
            if self._together > 1:
                return self._blocks(columns, room), left_out
            if len(kept) <= 2:
                names = [_shorter(cells, max(_AT_LAST, room // 2 - 1)) for cells in chosen]
                return [self._table(names, 1, kept)], left_out
            place = self._least_important(kept)
            kept.remove(place)
            left_out.append(" ".join(columns[place][0].plain.split()))

    def _ways(
        self, columns: list[list[Any]], places: Sequence[int]
    ) -> Iterator[tuple[list[list[Any]], int]]:
        """Ways to set columns, each narrower than the one before, with the gap between them."""
        folded = [[_folded_heading(cells[0]), *cells[1:]] for cells in columns]
        yield columns, _GAP
        yield folded, _GAP
        yield folded, 1
        for most in _SHORT_NAMES if self._together == 1 else ():
            yield self._with_short_names(folded, places, most), 1

    def _with_short_names(
        self, columns: list[list[Any]], places: Sequence[int], most: int
    ) -> list[list[Any]]:
        names = [self.columns[place].justify == "left" for place in places]
        return [
            _shorter(cells, most) if is_name else cells
            for cells, is_name in zip(columns, names, strict=True)
        ]

    def _least_important(self, kept: Sequence[int]) -> int:
        headings = {" ".join(_plain(self.columns[place].header).split()): place for place in kept}
        named = [headings[name] for name in self._least if name in headings]
        return [*named, kept[-1]][0]

    def _blocks(self, columns: list[list[Any]], room: int) -> list[Table]:
        """Tables below each other, each with the names and as many columns as have room."""
        blocks: list[list[int]] = [[0]]
        for start in range(1, len(columns), self._together):
            group = list(range(start, min(start + self._together, len(columns))))
            wanted = [columns[place] for place in (*blocks[-1], *group)]
            if len(blocks[-1]) > 1 and _width(wanted, _GAP) > room:
                blocks.append([0])
            blocks[-1] += group
        return [self._table([columns[place] for place in block], _GAP, block) for block in blocks]

    def _table(self, columns: list[list[Any]], gap: int, places: Sequence[int]) -> Table:
        """`columns`, which stand at `places` in this table, as a table of rich."""
        table = Table(
            box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=self.show_header
        )
        for cells, place in zip(columns, places, strict=True):
            like = self.columns[place]
            table.add_column(
                cells[0], justify=like.justify, header_style=like.header_style, no_wrap=True
            )
        is_part = len(places) < len(self.columns)
        for number, row in enumerate(self.rows):
            cells_of_row = [cells[number + 1] for cells in columns]
            if not is_part or any(_cell_width(cell) for cell in cells_of_row):
                table.add_row(*cells_of_row, style=row.style, end_section=row.end_section)
        return table


def shortened_name(name: str, most: int) -> str:
    """`name` in at most `most` columns: its beginning and its end, which tell names apart."""
    if cell_len(name) <= most:
        return name
    head = (most - 1) * 2 // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def _shorter(cells: list[Any], most: int) -> list[Any]:
    return [cells[0], *(_short_cell(cell, most) for cell in cells[1:])]


def _short_cell(cell: Any, most: int) -> Any:
    if not isinstance(cell, Text) or _cell_width(cell) <= most:
        return cell
    lines = [shortened_name(line, most) for line in cell.plain.split("\n")]
    return Text("\n".join(lines), style=cell.spans[0].style if cell.spans else cell.style)


def _as_data(cell: Any) -> Any:
    return Text(masked(one_line(shortened(cell, _LONGEST_CELL)))) if isinstance(cell, str) else cell


def _plain(header: Any) -> str:
    return header.plain if isinstance(header, Text) else str(header)


def _says(cell: Any) -> bool:
    """Whether a cell holds anything."""
    return not isinstance(cell, Text) or cell.plain.strip(" -\n") != ""


def _cell_width(cell: Any) -> int:
    if isinstance(cell, Text):
        return max((cell_len(line) for line in cell.plain.split("\n")), default=0)
    return int(getattr(cell, "width", None) or 0)


def _width(columns: Sequence[Sequence[Any]], gap: int) -> int:
    return sum(max(map(_cell_width, cells)) for cells in columns) + gap * (len(columns) - 1)


def _folded_heading(heading: Text) -> Text:
    """A heading of several words in lines as long as its longest word, each with what fits."""
    words = heading.split(" ")
    if len(words) < 2:
        return heading
    longest = max(word.cell_len for word in words)
    lines = [words[0]]
    for word in words[1:]:
        together = Text(" ").join([lines[-1], word])
        if together.cell_len <= longest:
            lines[-1] = together
        else:
            lines.append(word)
    return Text("\n").join(lines)
