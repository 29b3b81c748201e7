"""What is done to a document before it is tokenized: little, and recorded with the tokens."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from llmscale.measure.text.spec import Cleaning

_RECENT: Final = 1 << 16
"""Hashes kept in a set, where each takes about 100 bytes."""


@dataclass(frozen=True, slots=True)
class Document:
    """Cleaned text, its length in UTF-8, and a 64-bit hash by which the text is split."""

    text: str
    bytes: int
    digest: int


def clean(text: str, cleaning: Cleaning) -> Document | None:
    """The cleaned document, lone surrogates replaced by U+FFFD; None if it is too short."""
    if cleaning.normalise_newlines and "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text.strip()) < cleaning.min_characters:
        return None
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        encoded = text.encode()
    digest = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")
    return Document(text, len(encoded), digest)


@dataclass
class Seen:
    """A growing set of 64-bit hashes: 8 bytes for each, and for a moment twice that to merge."""

    _sorted: list[np.ndarray] = field(default_factory=list)
    """Sorted arrays, each under half as long as the one before: hashes are merged seldom."""
    _recent: set[int] = field(default_factory=set)

    def add(self, digest: int) -> bool:
        """Add `digest`; whether it was new."""
        if digest in self._recent or any(_holds(part, digest) for part in self._sorted):
            return False
        self._recent.add(digest)
        if len(self._recent) >= _RECENT:
            self.add_all(np.fromiter(self._recent, np.uint64, len(self._recent)))
            self._recent.clear()
        return True

    def add_all(self, digests: np.ndarray) -> None:
        """Add many hashes at once."""
        part = np.sort(digests)
        while self._sorted and len(self._sorted[-1]) < 2 * len(part):
            part = np.concatenate([self._sorted.pop(), part])
            part.sort(kind="stable")  # for 64 bits a merge sort, which finds the two runs
        self._sorted.append(part)


def _holds(part: np.ndarray, digest: int) -> bool:
    place = int(np.searchsorted(part, np.uint64(digest)))
    return place < len(part) and int(part[place]) == digest
