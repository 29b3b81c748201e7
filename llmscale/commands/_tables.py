"""Tables of what comes from files."""

from typing import Any

from rich.table import Table
from rich.text import Text

from llmscale.printable import masked, one_line


class SafeTable(Table):
    """A table whose plain strings are data: one line each, and never markup. Cells of more lines come as Text."""

    def add_column(self, header: Any = "", *args: Any, **kwargs: Any) -> None:
        super().add_column(_as_data(header), *args, **kwargs)

    def add_row(self, *cells: Any, **kwargs: Any) -> None:
        super().add_row(*map(_as_data, cells), **kwargs)


def _as_data(cell: Any) -> Any:
    return Text(masked(one_line(cell))) if isinstance(cell, str) else cell
