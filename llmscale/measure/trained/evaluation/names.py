"""What is measured has a name: that of its columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmscale.errors import InputError

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.\-]*)=(.+)", re.DOTALL)
_HALF = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.\-]*)=|=(?P<place>.*)", re.DOTALL)
"""`NAME=PLACE` that lacks one of the two."""
_LONGEST = 40
_OTHER_COLUMNS = re.compile(r"(stderr|norm)(_.*)?", re.IGNORECASE | re.DOTALL)
"""Names by which `loss_NAME` and `accuracy_NAME` are the columns of another measure."""


@dataclass(frozen=True)
class Asked:
    """`NAME=PLACE`: what was asked for, and by which name its columns are to be called."""

    name: str
    place: str


def named(texts: Sequence[str], option: str) -> tuple[Asked, ...]:
    """What each of `texts`, `NAME=PLACE` or PLACE, asks for. A place gives its name if none is
    given. Raises InputError for two of one name, in whatever case, and for what has none."""
    found: dict[str, Asked] = {}
    for text in texts:
        asked = _asked(text.strip(), option)
        known = found.setdefault(asked.name.lower(), asked)
        if known is not asked:
            named = asked.name if known.name == asked.name else f"{known.name} and {asked.name}"
            raise InputError(
                f"{option} names two by {named}: {known.place} and {asked.place}",
                "give each a name of its own, which differs in more than case: "
                f"{option} NAME={asked.place}",
            )
    return tuple(found.values())


def _asked(text: str, option: str) -> Asked:
    match = _NAMED.fullmatch(text)
    name, place = match.groups() if match else ("", text)
    if not place.strip():
        raise InputError(f"{option} is empty", f"write it like {option} books=books.jsonl")
    if lacking := _HALF.fullmatch(text):
        missing = "text or task after" if lacking["name"] else "name before"
        raise InputError(
            f"{option} {text} has no {missing} the =",
            f"write it like {option} {lacking['name'] or 'books'}={lacking['place'] or 'FILE'}",
        )
    plain = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(place).name.partition(".")[0]).strip("-")
    if not plain or len(plain) > _LONGEST:
        raise InputError(
            f"{option} {place!r} gives no name for a column",
            f"name it: {option} NAME={place}, of at most {_LONGEST} letters",
        )
    check_name(plain, f"{option} NAME={place}")
    return Asked(plain, place)


def check_name(name: str, example: str) -> None:
    """Raise InputError if the columns of `name` could be those of something else."""
    if match := _OTHER_COLUMNS.fullmatch(name):
        raise InputError(
            f"{name} cannot be the name of what is measured: its columns would be taken for the "
            f"{match[1]} of something else",
            f"give it a name that does not begin with {match[1]}: {example}",
        )
