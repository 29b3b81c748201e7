"""Words in figures that come from files or a command line: shown as they are."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from llmscale.errors import Note
from llmscale.errors.printable import clean, one_line
from llmscale.notes.predicting import CROWDED_FIGURE, MISSING_SIGNS

_GLYPH = re.compile(r"Glyph (\d+) .*missing from font")
_MATH_GLYPH = re.compile(r"does not have a glyph for .*\[U\+([0-9a-f]+)\]")
_CROWDED = (
    "the figure is too small for its text, and some of it overlaps: give a larger --width, or "
    "fewer words"
)
_TOO_SMALL = re.compile(r"(constrained|tight)_?layout not applied", re.IGNORECASE)


def literal(text: object) -> str:
    """`text` in one line, its dollar signs as such and not as the ends of mathematics."""
    return one_line(text).replace("$", r"\$")


def with_mathematics(text: str) -> str:
    """`text`, in which $...$ is mathematics if matplotlib can set it, and text if it cannot."""
    return "\n".join(
        line if _can_be_set(line) else line.replace("$", r"\$") for line in clean(text).split("\n")
    )


@contextmanager
def drawing_notes() -> Iterator[list[Note]]:
    """What matplotlib warns of while it draws, as notes for people; other warnings go on."""
    notes: list[Note] = []
    missing: list[str] = []
    with warnings.catch_warnings(record=True) as caught, _mathematics_without_sign(missing):
        warnings.simplefilter("always")
        yield notes
    others = []
    for warning in caught:
        message = str(warning.message)
        if glyph := _GLYPH.search(message):
            missing.append(chr(int(glyph.group(1))))
        elif _TOO_SMALL.search(message):
            others.append(CROWDED_FIGURE.note(_CROWDED))
        else:
            place = warning.filename, warning.lineno
            warnings.warn_explicit(warning.message, warning.category, *place)
    if missing:
        signs = " ".join(dict.fromkeys(missing))
        message = f"the font of figures has no {signs}: boxes stand in their place"
        notes.append(MISSING_SIGNS.note(message))
    notes += dict.fromkeys(others)


def _can_be_set(line: str) -> bool:
    from matplotlib.mathtext import MathTextParser

    if "$" not in line:
        return True
    try:
        with _mathematics_without_sign([]):
            MathTextParser("path").parse(line)
    except (ValueError, RuntimeError):  # a formula without end, an unknown command
        return False
    return True


@contextmanager
def _mathematics_without_sign(missing: list[str]) -> Iterator[None]:
    """Collects the signs that mathematics lacks, which matplotlib logs and does not warn of."""
    log = logging.getLogger("matplotlib.mathtext")

    def note(record: logging.LogRecord) -> bool:
        if found := _MATH_GLYPH.search(record.getMessage()):
            missing.append(chr(int(found.group(1), 16)))
        return False

    log.addFilter(note)
    try:
        yield
    finally:
        log.removeFilter(note)
