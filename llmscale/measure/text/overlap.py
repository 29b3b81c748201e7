"""How much of the validation text stands in the training text, too: what a model may know by heart.

Measured by 13-grams of words, letters and digits in lower case (Brown et al. 2020, appendix C)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmscale.measure.text.words import Hashes, Words, ngrams, summed

NGRAM: Final = 13
MOSTLY: Final = 0.5
"""Share of its 13-grams from which on a document counts as one that training has seen."""
_TABLE_BITS: Final = 22
_SHIFT: Final = np.uint64(64 - _TABLE_BITS)


@dataclass(frozen=True)
class Overlap:
    """What of the validation text was found in the training text."""

    ngrams: int
    """13-grams of words in the validation text."""
    share: float
    """Of these, the share that stands in the training text."""
    documents: int
    """Validation documents that are long enough to have one."""
    documents_mostly_seen: int
    """Of these, those of which at least half of the 13-grams stand in the training text."""


class OverlapMeter:
    """Looks for the 13-grams of validation documents in training documents."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []
        self._sizes: list[np.ndarray] = []
        self._held: Hashes | None = None

    def hold(self, texts: Sequence[str]) -> None:
        """Add validation documents; all come before the first training document."""
        found, sizes = _ngrams(texts)
        self._parts.append(found)
        self._sizes.append(sizes)

    def read(self, texts: Sequence[str]) -> None:
        """Look through training documents."""
        if self._held is None:
            self._held = np.unique(np.concatenate([np.zeros(0, np.uint64), *self._parts]))
            self._seen = np.zeros(len(self._held), bool)
            # Most n-grams are ruled out by one look into a table, before the search.
            self._table = np.zeros(1 << _TABLE_BITS, bool)
            self._table[self._held >> _SHIFT] = True
        if not len(self._held):
            return
        found, _ = _ngrams(texts)
        found = found[self._table[found >> _SHIFT]]
        place = np.minimum(np.searchsorted(self._held, found), len(self._held) - 1)
        self._seen[place[self._held[place] == found]] = True

    def overlap(self) -> Overlap | None:
        """What was found; None if no validation document has 13 words."""
        self.read([])
        assert self._held is not None
        if not len(self._held):
            return None
        every, sizes = np.concatenate(self._parts), np.concatenate(self._sizes)
        seen = self._seen[np.searchsorted(self._held, every)].astype(np.int64)
        seen_T = summed(seen, sizes)
        has_any = sizes > 0
        mostly = has_any & (seen_T >= MOSTLY * sizes)
        return Overlap(len(every), float(seen.mean()), int(has_any.sum()), int(mostly.sum()))


def _ngrams(texts: Sequence[str]) -> tuple[Hashes, np.ndarray]:
    """The 13-grams of documents, and how many each has."""
    words = Words(texts)
    has_letters = words.plain_W != 0
    sizes = summed(has_letters.astype(np.int64), words.words_T)
    found, _ = ngrams(NGRAM, words.plain_W[has_letters], sizes)
    return found, np.maximum(sizes - NGRAM + 1, 0)
