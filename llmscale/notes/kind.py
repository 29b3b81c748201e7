"""What is known of a note before it is raised: one entry of the catalogue."""

import math
from dataclasses import dataclass
from enum import IntEnum

from llmscale.errors import Note


class Weight(IntEnum):
    """How much a note matters to whoever believes the result; the heaviest are shown first."""

    NEWS = 1
    """How a file was read or a number made: nothing is wrong."""
    DOUBT = 2
    """The result is less certain, or holds in fewer places, than it seems to."""
    WRONG = 3
    """The result, or a part of it, is likely to be wrong."""

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Weight.WRONG: "likely wrong",
    Weight.DOUBT: "less certain than it seems",
    Weight.NEWS: "for your information",
}


@dataclass(frozen=True)
class Kind:
    """One kind of note: `KIND.note("3 runs had ...")` raises it with the numbers at hand."""

    code: str
    weight: Weight
    when: str
    """When it is raised, with `{limit}` for the limit."""
    means: str
    remedy: str
    limit: float = math.nan
    """The number that decides, if there is one: whoever raises the note reads it from here."""
    source: str = ""
    """Where the limit or the claim was published."""

    def note(self, message: str, weight: Weight | None = None) -> Note:
        """The note, with a sentence that holds the actual numbers, and a weight if they give it
        another than usual."""
        return Note(self.code, message, None if weight is self.weight else weight)

    def raised_when(self) -> str:
        """`when`, with the limit in its place."""
        return self.when.format(limit=self.limit)
