"""The catalogue of notes: every warning that a result can carry, once, with what to do about it.

One file for each thing that can go on: `reading` a table, `fitting` a law, `predicting` beyond the
runs, `comparing` recipes, `measuring` runs. To add a note, add an entry there and raise it with
`ENTRY.note("...")`."""

import difflib
from collections.abc import Iterable

from llmscale.errors import InputError, Note
from llmscale.errors.keywords import as_keywords
from llmscale.notes import comparing, fitting, measuring, predicting, reading
from llmscale.notes.kind import Kind
from llmscale.notes.kind import Weight as Weight

_FILES = {
    "Fitting a law": fitting,
    "Predicting beyond the runs": predicting,
    "Comparing recipes": comparing,
    "Reading a table": reading,
    "Measuring runs": measuring,
}


def by_topic() -> dict[str, tuple[Kind, ...]]:
    """Every kind of note, in the order of its file."""
    return {
        topic: tuple(one for one in vars(file).values() if isinstance(one, Kind))
        for topic, file in _FILES.items()
    }


CATALOGUE: dict[str, Kind] = {one.code: one for kinds in by_topic().values() for one in kinds}
"""Every kind of note, by its code."""


def find(code: str) -> Kind:
    """The entry of a code. Raises InputError naming the nearest code."""
    if code in CATALOGUE:
        return CATALOGUE[code]
    near = difflib.get_close_matches(code.lower().replace("_", "-"), CATALOGUE, n=1, cutoff=0.5)
    fix = "see them all: llmscale explain"
    if near:
        fix = f"did you mean this one? llmscale explain {near[0]}"
    raise InputError(f"there is no note {code!r}", fix)


_FOLLOWS = {fitting.REFITS_NOT_SETTLED.code}
"""Notes on what comes of faults that others name, and that stand after those."""


def heaviest_first(notes: Iterable[Note]) -> list[Note]:
    """Notes by weight; those of one weight stay in their order, causes before what follows."""
    return sorted(notes, key=lambda note: (-weight_of(note), note.code in _FOLLOWS))


def weight_of(note: Note) -> Weight:
    """Of a note, which may be of another version's catalogue: fits are kept with theirs."""
    if note.weight is not None:
        return Weight(note.weight)
    return CATALOGUE[note.code].weight if note.code in CATALOGUE else Weight.DOUBT


MOST_SHOWN = 3
"""Notes that are shown before anybody asks for all."""


def weightiest(notes: Iterable[Note]) -> tuple[list[Note], int]:
    """The notes to show first, and how many more there are; each note once."""
    ordered = heaviest_first(dict.fromkeys(notes))
    return ordered[:MOST_SHOWN], max(len(ordered) - MOST_SHOWN, 0)


def with_codes(notes: Iterable[Note]) -> list[str]:
    """Each note once with its code, the heaviest first: as a result prints them in Python, where
    options are keywords."""
    ordered = heaviest_first(dict.fromkeys(notes))
    return [f"{note.code}: {as_keywords(note.message)}" for note in ordered]


def as_markdown() -> str:
    """The page of the documentation that lists every note."""
    lines = [
        "# Warnings",
        "",
        "<!-- Made from llmscale/notes by `llmscale explain --markdown`: edit there. -->",
        "",
        "A warning is part of a result. Commands show the three that matter most, and all of "
        "them with `--notes`; `--json` always has all. `llmscale explain CODE` prints one entry "
        "of this page.",
    ]
    for topic, kinds in by_topic().items():
        lines += ["", f"## {topic}"]
        for kind in sorted(kinds, key=lambda one: -one.weight):
            lines += ["", f"### {kind.code}", "", *_entry(kind)]
    return "\n".join(lines) + "\n"


def _entry(kind: Kind) -> list[str]:
    lines = [
        f"*{kind.weight.meaning.capitalize()}.* Raised when {kind.raised_when()}.",
        "",
        f"{kind.means} **What to do:** {kind.remedy}",
    ]
    if kind.source:
        lines += ["", f"Source: {kind.source}."]
    return lines
