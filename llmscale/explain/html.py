"""What a notebook shows of a result: tables, sentences and notes, with text from files escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from llmscale.errors import Note
from llmscale.errors.keywords import as_keywords
from llmscale.errors.printable import masked, one_line, shortened
from llmscale.explain import digits
from llmscale.notes import heaviest_first

MOST_ROWS = 20
"""Rows of a table that are shown; of more, how many there are is said."""
_LONGEST = 400
_NUMBERS = "text-align: right; font-variant-numeric: tabular-nums"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column names the row."""
    every = list(rows)
    head = "".join(f"<th>{_text(heading)}</th>" for heading in headings)
    body = "".join(map(_row, every[:MOST_ROWS]))
    more = len(every) - MOST_ROWS
    below = sentence(f"and {more} more") if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def sentence(text: str) -> str:
    """A paragraph."""
    return f"<p>{_text(text)}</p>"


def title(name: str, text: str = "") -> str:
    """A paragraph that begins with a name in bold."""
    return f"<p><b>{_text(name)}</b> {_text(text)}</p>"


def notes(found: Iterable[Note], *, keywords: bool = True) -> str:
    """Every note with its code, the heaviest first, and options as `keywords` of Python; nothing
    if there is none."""
    said = as_keywords if keywords else str
    items = [
        f"<li><code>{_text(note.code)}</code> {_text(said(note.message))}</li>"
        for note in heaviest_first(found)
    ]
    if not items:
        return ""
    word = "note" if len(items) == 1 else "notes"
    return f"<details><summary>{len(items)} {word}</summary><ul>{''.join(items)}</ul></details>"


def ends(interval: Sequence[float] | None) -> str:
    """`[1.75, 1.87]`, or nothing if there is no interval."""
    if interval is None:
        return ""
    low, high = interval
    significant = digits.telling_apart(low, high, 4)
    return f"[{low:.{significant}g}, {high:.{significant}g}]"


def _row(cells: Sequence[object]) -> str:
    first, *others = cells
    shown = "".join(f'<td style="{_NUMBERS}">{_text(cell)}</td>' for cell in others)
    return f"<tr><td>{_text(first)}</td>{shown}</tr>"


def _text(value: object) -> str:
    """On one line, without keys of URLs, and never markup."""
    return escape(masked(one_line(shortened(str(value), _LONGEST))))
