"""The letters of a text file: UTF-8, UTF-16, UTF-32 with or without a mark, or a code page."""

import codecs
import re
from pathlib import Path

from llmscale.errors import InputError, Note
from llmscale.notes.reading import ENCODING

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is how this one begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT = 1 << 14
_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f]")


def decode(content: bytes, file: Path) -> tuple[str, tuple[Note, ...]]:
    """The text of a file, and a note if its encoding was guessed. Raises InputError."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _strict(content[len(mark) :], encoding, file), ()
    wide = _wide(content[:_LOOKED_AT])
    if wide is not None:
        note = ENCODING.note(f"{file} was read as {wide.upper()}, though no mark says so")
        return _strict(content, wide, file), (note,)
    at = content.find(b"\0")
    if at >= 0:
        line = content.count(b"\n", 0, at) + 1
        raise InputError(
            f"line {line} of {file} holds a NUL byte: the file is damaged, or not text",
            "write or download it again",
        )
    content = content.removesuffix(b"\x1a")  # where DOS ended a file
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        first = error.start
    text = _code_page(content)
    if len(_CONTROL.findall(text[:_LOOKED_AT])) > len(text[:_LOOKED_AT]) // 100:
        raise InputError(
            f"{file} is not text: byte {first:,} belongs to no letter",
            "save the table as CSV in UTF-8",
        )
    line = content.count(b"\n", 0, first) + 1
    start = text.rfind("\n", 0, first) + 1
    word = (
        re.split(r"[\s,;|\"]", text[start:first])[-1]
        + re.split(r"[\s,;|\"]", text[first : first + 40])[0]
    )
    shown = (
        f" ({word[:30]!r} in line {line})" if word.isprintable() and text[first].isalpha() else ""
    )
    message = f"{file} is not UTF-8: its letters were read as Windows-1252{shown}"
    return text, (ENCODING.note(message),)


def _strict(content: bytes, encoding: str, file: Path) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} begins as {encoding.upper()}, but byte {error.start:,} belongs to no letter",
            "write or download it again",
        ) from error


def _wide(start: bytes) -> str | None:
    """The encoding of letters of two or four bytes without a mark, by where its zeros are."""
    if len(start) < 8:
        return None
    zeros = [start[place::4].count(0) / len(start[place::4]) for place in range(4)]
    patterns = {"utf-32-le": "0111", "utf-32-be": "1110", "utf-16-le": "0101", "utf-16-be": "1010"}
    for encoding, pattern in patterns.items():
        as_said = [
            zero > 0.7 if mark == "1" else zero < 0.3
            for zero, mark in zip(zeros, pattern, strict=True)
        ]
        if all(as_said):
            return encoding
    return None


def _code_page(content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # five bytes have no letter in Windows-1252
