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
    text = _with_line_ends(text, cleaning)
    if len(text.strip()) < cleaning.min_characters:
        return None
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        text = _without_surrogates(text)
        encoded = text.encode()
    return Document(text, len(encoded), digest_of(encoded))


def sound(text: str, cleaning: Cleaning) -> str:
    """The text with the line ends that `cleaning` wants, lone surrogates replaced by U+FFFD."""
    text = _with_line_ends(text, cleaning)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _without_surrogates(text)
    return text


def digest_of(encoded: bytes) -> int:
    """The 64-bit hash of a text in UTF-8."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def _with_line_ends(text: str, cleaning: Cleaning) -> str:
    if cleaning.normalise_newlines and "\r" in text:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def _without_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass
class Seen:
    """A growing set of 64-bit hashes: 8 bytes for each, and for a moment twice that to merge."""

    _sorted: list[np.ndarray] = field(default_factory=list)
    """Sorted arrays, each under half as long as the one before: hashes are merged seldom."""
    _recent: set[int] = field(default_factory=set)

    def __contains__(self, digest: int) -> bool:
        return digest in self._recent or any(_holds(part, digest) for part in self._sorted)

    def add(self, digest: int) -> bool:
        """Add `digest`; whether it was new."""
        if digest in self:
            return False
        self._recent.add(digest)
        if len(self._recent) >= _RECENT:
            self.add_all(np.fromiter(self._recent, np.uint64, len(self._recent)))
            self._recent.clear()
        return True

    def any_of(self, digests_TK: np.ndarray) -> np.ndarray:
        """Whether one of the K hashes of each row was added by `add_all`: (T,)."""
        found = np.zeros(digests_TK.shape, bool)
        for part in filter(len, self._sorted):
            place = np.minimum(np.searchsorted(part, digests_TK), len(part) - 1)
            found |= part[place] == digests_TK
        return np.asarray(found.any(axis=1))

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
