"""The words of many documents at once, as arrays: what filters, near duplicates and the overlap of
two texts are computed from, in one pass over the text.

A word is what stands between white space, as in Rae et al. 2021. It has two hashes, the same ones
on every machine: an exact one of how it is written, and a plain one of its letters and digits in
lower case, so that `The,` is `the`; of a word without any the plain hash is 0."""

import itertools
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

LONGEST: Final = 2_000_000
"""Characters of a document that are looked at: its first ones stand for the rest."""
_MOST_KNOWN: Final = 400_000
"""Words that are remembered, each with some 200 bytes."""
_NOT_PLAIN: Final = re.compile(r"[^\w\n]+|_+")


def mixed(values: Hashes) -> Hashes:
    """Well-spread hashes of 64-bit numbers: the end of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _numbers(count: int) -> Hashes:
    """`count` odd numbers that look random, always the same ones."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed(steps) | np.uint64(1)


_OF_PLACE: Final = _numbers(1024)


class _Known(dict[str, int]):
    """Words by number, in the order in which they were met, and what is known of each."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.words: list[str] = []
        self.exact, self.plain = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self.length, self.alphabetic = np.zeros(0, np.int64), np.zeros(0, bool)

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number

    def learn(self) -> None:
        """Find out about the words that were new. Together, as lines of one text, for to do
        something to each word by itself takes five times as long."""
        new = list(itertools.islice(reversed(self), len(self) - len(self.words)))[::-1]
        if not new:
            return
        self.words += new
        joined = "\n".join(new)
        plain = _NOT_PLAIN.sub("", joined.lower()).split("\n")
        numeric = np.fromiter(map(str.isnumeric, plain), bool, len(plain))
        length = np.fromiter(map(len, new), np.int64, len(new))
        # Of no letters or digits 0, which is what the mixing of 0 is.
        self.plain = np.concatenate([self.plain, mixed(_checksums("\n".join(plain)))])
        self.exact = np.concatenate([self.exact, mixed(_checksums(joined) + np.uint64(1))])
        self.length = np.concatenate([self.length, length])
        has_letters = np.fromiter(map(bool, plain), bool, len(plain)) & ~numeric
        self.alphabetic = np.concatenate([self.alphabetic, has_letters])

    def forget(self) -> None:
        """Begin anew, if they have become too many."""
        if len(self) > _MOST_KNOWN:
            self.clear()
            self._begin()


def _checksums(lines: str) -> Hashes:
    """A checksum of each line. Its 32 bits will do: what is hashed of several words has 64."""
    found = lines.encode("utf-8", "replace").split(b"\n")
    return np.fromiter(map(zlib.crc32, found), np.uint64, len(found))


_KNOWN: Final = _Known()


_LINE, _DOCUMENT = "\0", "\1"
"""Words that stand for the ends of lines and documents while these are split into words."""
_NO_MARKS: Final = str.maketrans({_LINE: " ", _DOCUMENT: " "})


def hash_of(word: str) -> int:
    """The plain hash of a word, as `Words.plain_W` has it."""
    return int(Words([word]).plain_W[0])


class Words:
    """The words W of documents T, and the lines L that have words, all in order."""

    def __init__(self, texts: Sequence[str]) -> None:
        _KNOWN.forget()
        self.texts = [text[:LONGEST] for text in texts]
        found = _split(self.texts)
        numbers = np.fromiter(map(_KNOWN.__getitem__, found), np.int32, len(found))
        _KNOWN.learn()
        ends_line = numbers == _KNOWN[_LINE]
        ends_document = numbers == _KNOWN[_DOCUMENT]
        is_word = ~(ends_line | ends_document)
        self._number_W = numbers[is_word]
        self._known = _KNOWN.words  # as they are now: they may be forgotten
        self.document_W: Counts = np.cumsum(ends_document)[is_word]
        """The document that each word is in."""
        self.words_T: Counts = np.bincount(self.document_W, minlength=len(texts))
        """How many words each document has."""
        line_W = np.cumsum(~is_word)[is_word]
        first_L = np.flatnonzero(np.diff(line_W, prepend=-1))
        self.words_L: Counts = np.diff(np.append(first_L, len(line_W)))
        """How many words each line has."""
        self.document_L: Counts = self.document_W[first_L]
        """The document that each line is in."""
        self.lines_T: Counts = np.bincount(self.document_L, minlength=len(texts))
        """How many lines with words each document has."""
        after_blank = np.diff(line_W[first_L], prepend=-2) > 1
        begins_document = np.diff(self.document_L, prepend=-1) > 0
        self.begins_paragraph_L: Flags = after_blank | begins_document
        """Whether each line follows a blank one or begins its document."""
        self.length_W: Counts = _KNOWN.length[self._number_W]
        """Characters of each word."""
        self.alphabetic_W: Flags = _KNOWN.alphabetic[self._number_W]
        """Whether each word has at least one letter."""
        self.exact_W: Hashes = _KNOWN.exact[self._number_W]
        self.plain_W: Hashes = _KNOWN.plain[self._number_W]
        self.characters_T: Counts = summed(self.length_W, self.words_T)
        """Characters of the words of each document; white space is none."""

    def passing(self, places: Counts, test: Callable[[str], bool]) -> Flags:
        """Whether the words at these places pass a test, which is made once of each."""
        numbers, which = np.unique(self._number_W[places], return_inverse=True)
        passes = [test(self._known[number]) for number in numbers.tolist()]
        return np.array(passes, bool)[which]


def _split(texts: Sequence[str]) -> list[str]:
    """The words of all texts, with marks where lines and documents end."""
    joined = f" {_DOCUMENT} ".join(
        text.translate(_NO_MARKS) if _LINE in text or _DOCUMENT in text else text for text in texts
    )
    return joined.replace("\n", f" {_LINE} ").split()


def summed(values: NDArray, sizes: Counts) -> NDArray:
    """The sums of `values` over groups that follow each other, of these `sizes`; of none, 0."""
    before = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values, dtype=values.dtype)])
    ends = np.cumsum(sizes)
    return np.asarray(before[ends] - before[ends - sizes])


def place_number(place: int) -> np.uint64:
    """The number by which a hash is multiplied at a place of a group."""
    return np.uint64(_OF_PLACE[place])


def hash_groups(values: Hashes, sizes: Counts) -> Hashes:
    """A hash of each group of hashes that follow each other, by their order."""
    begins = np.cumsum(sizes) - sizes
    place = np.arange(len(values)) - np.repeat(begins, sizes)
    return mixed(summed(values * _OF_PLACE[place % len(_OF_PLACE)], sizes))


def ngrams(length: int, values: Hashes, sizes: Counts) -> tuple[Hashes, Counts]:
    """The hash of each n-gram of `length` within groups of these `sizes`, and where it begins."""
    begins = len(values) - length + 1
    if begins <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    total = np.zeros(begins, np.uint64)
    for place in range(length):
        total += values[place : place + begins] * _OF_PLACE[place]
    group = np.repeat(np.arange(len(sizes)), sizes)
    inside = np.flatnonzero(group[:begins] == group[length - 1 :])
    return mixed(total[inside]), inside
