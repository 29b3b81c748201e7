"""Messages in the columns of a terminal: lines end at words, and a command can still be pasted."""

import re

from llmscale.commands import COMMANDS

_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\S)+""")
_COMMAND = re.compile(rf"(?<!\S)\(?(?:llmscale (?:{'|'.join(COMMANDS)})|pip install|rm -r)(?!\S)")
_UNITS = "s|min|h|days|years|B|KiB|MiB|GiB|TiB|GFLOP/s"
_TOGETHER = re.compile(
    r"\[[^\s\]]{1,9}, [^\s\]]{1,9}\]\S{0,2}(?!\S)|\S{1,8} = \S{1,8}(?!\S)"
    rf"|[\d.,]+ (?:{_UNITS})(?![\w/])\S*|\S+"
)
"""A word, a short `name = value`, an interval, or a number with its unit: each is read as one."""
_LEAST_ROOM = 20


def wrapped_lines(text: str, width: int, indent: int = 0) -> list[str]:
    """`text` in lines of at most `width` columns, all but the first indented; the first begins at
    column `indent`.

    A command that has no room goes on a line of its own; one longer than a line is continued, at a
    word, behind a backslash, as a shell reads it. A single word that is longer stays whole."""
    from rich.cells import cell_len

    room = max(_LEAST_ROOM, width - indent)
    lines = [""]
    for piece in _pieces(text):
        joined = f"{lines[-1]} {piece}" if lines[-1] else piece
        if cell_len(joined) <= room:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        if cell_len(piece) <= room:
            lines[-1] = piece
            continue
        for word in _words(piece):
            joined = f"{lines[-1]} {word}" if lines[-1] else word
            if lines[-1] and cell_len(joined) > room - len(" \\"):
                lines[-1] += " \\"
                lines.append(f"  {word}")
            else:
                lines[-1] = joined
    return [lines[0], *(" " * indent + line for line in lines[1:])]


def _pieces(text: str) -> list[str]:
    """The words of a sentence, and its commands as a whole."""
    pieces: list[str] = []
    place = 0
    for found in _COMMAND.finditer(text):
        if found.start() < place:
            continue
        pieces += _TOGETHER.findall(text[place : found.start()])
        place = _end_of_command(text, found.end())
        pieces.append(text[found.start() : place])
    return pieces + _TOGETHER.findall(text[place:])


def _end_of_command(text: str, place: int) -> int:
    """A command ends with its sentence, at a semicolon, comma or bracket, or before a bracket that
    opens."""
    while (word := _WORD.match(text, place + 1)) and not word.group().startswith("("):
        place = word.end()
        if word.group()[-1] in ";,:)":
            break
    return place


def _words(piece: str) -> list[str]:
    """The words of a command as they are written, an option together with its value."""
    joined: list[str] = []
    for word in _WORD.findall(piece):
        is_value = (
            bool(joined)
            and joined[-1].startswith("-")
            and " " not in joined[-1]
            and not word.startswith("-")
        )
        if is_value:
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined
