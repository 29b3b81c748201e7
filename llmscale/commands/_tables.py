"""Tables of what comes from files, readable in a terminal of 80 columns.

Nothing is cut off. What has no room side by side is folded, and at last a row takes several lines:
in each column two values stand above each other, as their headings do."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from llmscale.errors.printable import masked, one_line, shortened

_LONGEST_CELL = 300
_FOLDED = 16
"""Columns that a long name is folded into, at least."""
_MOST_LINES = 3


class SafeTable(Table):
    """A table whose plain strings are data: one line each, and never markup.

    Cells of more lines come as Text.
    """

    def add_column(self, header: Any = "", *args: Any, **kwargs: Any) -> None:
        super().add_column(_as_data(header), *args, **kwargs)

    def add_row(self, *cells: Any, **kwargs: Any) -> None:
        super().add_row(*map(_as_data, cells), **kwargs)


class FittedTable(SafeTable):
    """A table without lines that fits the width it is shown in. Its first column names the row.

    Columns that belong together, as a value and its interval, are `together`: such a table goes on
    below itself."""

    def __init__(self, heading: Text, together: int = 1) -> None:
        super().__init__(box=None, pad_edge=False)
        self._heading, self._together = heading, together

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        if self._heading.plain:
            yield self._heading
        for number, table in enumerate(self._fitted(options.max_width)):
            if number:
                yield Text("")
            yield table

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        natural = max(_width(self._columns_of_cells(), _GAP), self._heading.cell_len)
        return Measurement(min(natural, options.max_width), min(natural, options.max_width))

    def _columns_of_cells(self) -> list[list[Any]]:
        return [[column.header, *column._cells] for column in self.columns]

    def _fitted(self, room: int) -> list[Table]:
        """The first way to set it that has room: as it is, closer, with names folded, or with
        stacked columns.
        """
        columns = self._columns_of_cells()
        folded = [[_folded_heading(cells[0]), *cells[1:]] for cells in columns]
        for way, gap in ((columns, _GAP), (folded, _GAP), (folded, 1)):
            if _width(way, gap) <= room:
                return [self._table(way, gap)]
        names = [number for number, column in enumerate(self.columns) if column.justify == "left"]
        spare = (
            room
            - _width([cells for place, cells in enumerate(folded) if place not in names], 1)
            - len(names)
        )
        if spare >= _FOLDED * len(names):
            return [self._table(folded, 1, dict.fromkeys(names, spare // len(names)))]
        if self._together > 1:
            return self._blocks(columns, room)
        for lines in range(2, _MOST_LINES + 1):
            stacked = _stacked(columns, lines)
            if _width(stacked, _GAP) <= room:
                return [self._table(stacked, _GAP)]
            if _width(stacked[1:], _GAP) + _GAP + _FOLDED <= room:
                return [self._table(stacked, _GAP, {0: room - _width(stacked[1:], _GAP) - _GAP})]
        return [
            self._table(_stacked(columns, _MOST_LINES), 1, dict.fromkeys(range(len(columns)), None))
        ]

    def _blocks(self, columns: list[list[Any]], room: int) -> list[Table]:
        """Tables below each other, each with the names and as many columns as have room."""
        blocks: list[list[int]] = [[0]]
        for start in range(1, len(columns), self._together):
            group = list(range(start, min(start + self._together, len(columns))))
            wanted = [columns[place] for place in (*blocks[-1], *group)]
            if len(blocks[-1]) > 1 and _width(wanted, _GAP) > room:
                blocks.append([0])
            blocks[-1] += group
        return [
            self._table([columns[place] for place in block], _GAP, places=block) for block in blocks
        ]

    def _table(
        self,
        columns: list[list[Any]],
        gap: int,
        widths: dict[int, int | None] | None = None,
        places: Sequence[int] | None = None,
    ) -> Table:
        """`columns` as a table of rich; those in `widths` are folded."""
        widths = widths or {}
        table = Table(
            box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=self.show_header
        )
        for number, cells in enumerate(columns):
            like = self.columns[places[number] if places else number]
            table.add_column(
                cells[0],
                justify=like.justify,
                header_style=like.header_style,
                no_wrap=number not in widths,
                overflow="fold",
                max_width=widths.get(number),
            )
        for number, row in enumerate(self.rows):
            cells_of_row = [cells[number + 1] for cells in columns]
            if places is None or any(_cell_width(cell) for cell in cells_of_row[1:]):
                table.add_row(*cells_of_row, style=row.style, end_section=row.end_section)
        return table


_GAP = 2


def _as_data(cell: Any) -> Any:
    return Text(masked(one_line(shortened(cell, _LONGEST_CELL)))) if isinstance(cell, str) else cell


def _cell_width(cell: Any) -> int:
    if isinstance(cell, Text):
        return max((cell_len(line) for line in cell.plain.split("\n")), default=0)
    return int(getattr(cell, "width", None) or 0)


def _width(columns: Sequence[Sequence[Any]], gap: int) -> int:
    return sum(max(map(_cell_width, cells)) for cells in columns) + gap * (len(columns) - 1)


def _folded_heading(heading: Text) -> Text:
    """A heading of several words in as many lines."""
    words = heading.split(" ")
    return Text("\n").join(words) if len(words) > 1 else heading


def _stacked(columns: list[list[Any]], lines: int) -> list[list[Any]]:
    """The first column, and the others in so many lines, each beginning a new line at its share of
    them.
    """
    others = columns[1:]
    across = -(-len(others) // lines)
    stacked = [columns[0]]
    for place in range(across):
        group = others[place::across]
        stacked.append([_above_each_other(cells) for cells in zip(*group, strict=True)])
    return stacked


def _above_each_other(cells: Sequence[Any]) -> Text:
    """Cells in lines of one cell, the lower ones dim.

    What is no text, as a bar, has no room here.
    """
    lines = [cell.copy() if isinstance(cell, Text) else Text("") for cell in cells]
    for line in lines[1:]:
        line.stylize("dim")
    return Text("\n").join(lines)
