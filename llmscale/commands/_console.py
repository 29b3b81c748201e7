"""A console for text from files: no markup is read, and nothing can steer a terminal."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from llmscale.commands._streams import answers
from llmscale.commands._wrapping import wrapped_lines
from llmscale.errors.printable import clean, masked, one_line

_WIDTH_OF_FILES = 120
_NATURAL_WIDTH = 10_000
"""Columns that a table may take if nobody looks at it in a terminal."""

_HANG = 2
"""How far in a line goes on below itself."""

_PLAIN = str.maketrans(
    {
        "│": "|",
        "┤": "|",
        "─": "-",
        "━": "-",
        "└": "+",
        "┬": "+",
        "–": "-",
        "…": "~",
        "∝": "~",
        "Δ": "d",
        "ⁿ": "n",
    }
)
"""What stands for signs that the encoding of a terminal may lack."""


def in_encoding(text: str, encoding: str) -> str:
    """`text` as far as `encoding` has its signs; drawn dots become a star."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "".join(_in_encoding(letter, encoding) for letter in text)
    return text


def _in_encoding(letter: str, encoding: str) -> str:
    with suppress(UnicodeEncodeError, LookupError):
        letter.encode(encoding)
        return letter
    if "\u2800" <= letter <= "\u28ff":  # braille, of which curves are drawn
        return "*"
    plain = letter.translate(_PLAIN)
    return plain if plain.isascii() else "?"


class SafeConsole(Console):
    """Like rich's, but plain strings are data: cleaned, with keys in URLs masked, in one line,
    never markup.

    In a terminal they are wrapped at words; elsewhere no line is wrapped. Styles come as
    `rich.text.Text`."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        in_terminal = self.file.isatty()
        self._limited = in_terminal or "COLUMNS" in os.environ
        self.wraps = in_terminal
        """Whether lines are wrapped at words."""
        if not self._limited:
            self.width = _WIDTH_OF_FILES

    @property  # type: ignore[misc]  # rich's can be set, which nobody does here
    def file(self) -> IO[str]:
        """Standard error, or where answers go."""
        stream: IO[str] = super().file if self.stderr else answers()
        return stream

    def say(self, label: str, style: str, text: str, text_style: str = "") -> None:
        """A message behind its `label`, its further lines under the first."""
        text = masked(one_line(text))
        first, *others = wrapped_lines(text, self.width, len(label) + 1) if self.wraps else [text]
        self.print(Text.assemble((label, style), " ", (first, text_style)), soft_wrap=True)
        for line in others:
            self.print(Text(line, text_style), soft_wrap=True)

    def print(self, *objects: Any, soft_wrap: bool | None = None, **kwargs: Any) -> None:
        """As rich's; strings as the class says."""
        for thing in objects or ("",):
            if isinstance(thing, str):
                for line in self._lines(masked(one_line(thing))):
                    super().print(Text(line), soft_wrap=True, **kwargs)
            elif isinstance(thing, Text):
                soft = not self.wraps if soft_wrap is None else soft_wrap
                super().print(thing if soft else self.hanging(thing), soft_wrap=soft, **kwargs)
            else:
                super().print(thing, width=self._width_of(thing), **kwargs)

    def print_lines(self, text: str) -> None:
        """Text of several lines, in its own lines, or in a terminal in as many as it takes."""
        for line in masked(clean(text)).splitlines():
            super().print(Text(line), soft_wrap=not self.wraps)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich's, without what a terminal would obey, by whatever way it came here."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(in_encoding(clean(segment.text), self.encoding), segment.style)

    def hanging(self, text: Text) -> Text:
        """What fits stays as it is; else lines that end at words, all but the first further in."""
        if text.cell_len <= self.width or "\n" in text.plain:
            return text
        indent = len(text.plain) - len(text.plain.lstrip()) + _HANG
        first, *others = text.wrap(self, self.width - indent)
        first.rstrip()
        for line in others:
            line.rstrip()
            line.pad_left(indent)
        return Text("\n").join([first, *others])

    def _lines(self, text: str) -> list[str]:
        """As `hanging`, with commands that can be pasted."""
        if not self.wraps or cell_len(text) <= self.width:
            return [text]
        indent = len(text) - len(text.lstrip())
        first, *others = wrapped_lines(text, self.width, indent + _HANG)
        return [" " * indent + first, *others]

    def _width_of(self, thing: RenderableType) -> int | None:
        """Off a terminal, the width that nothing has to be cut for."""
        if self._limited:
            return None
        natural = self.measure(thing, options=self.options.update(width=_NATURAL_WIDTH)).maximum
        return max(self.width, natural)
