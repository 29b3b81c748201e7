"""The words of many documents at once, as arrays: what filters, near duplicates and the overlap of
two texts are computed from, in one pass over the text.

A word is what stands between white space, as in Rae et al. 2021. It has two hashes, the same ones
on every machine: an exact one of how it is written, and a plain one of its letters and digits in
lower case, so that `The,` is `the`; of a word without any the plain hash is 0."""

import re
import zlib
from array import array
from collections.abc import Sequence
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
_NOT_PLAIN: Final = re.compile(r"[\W_]+")


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
    """Words by number, in the order in which they were met, and what is known of each. A hash of 32
    bits will do: what is hashed of several words has 64."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.exact, self.plain, self.length = array("I"), array("I"), array("I")
        self.alphabetic = array("b")

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        lowered = word.lower()
        letters = lowered if lowered.isalnum() else _NOT_PLAIN.sub("", lowered)
        self.exact.append(zlib.crc32(word.encode("utf-8", "replace")))
        self.plain.append(zlib.crc32(letters.encode("utf-8", "replace")))
        self.length.append(len(word))
        self.alphabetic.append(letters != "" and not letters.isnumeric())
        return number

    def forget(self) -> None:
        """Begin anew, if they have become too many."""
        if len(self) > _MOST_KNOWN:
            self.clear()
            self._begin()


_KNOWN: Final = _Known()


def hash_of(word: str) -> int:
    """The plain hash of a word, as `Words.plain_W` has it."""
    return int(Words([word]).plain_W[0])


class Words:
    """The words W of documents T, and the lines L that have words, all in order."""

    def __init__(self, texts: Sequence[str]) -> None:
        _KNOWN.forget()
        self.texts = [text[:LONGEST] for text in texts]
        words: list[str] = []
        in_line, blank_before, lines, counts = array("I"), array("b"), array("I"), array("I")
        for text in self.texts:
            before, begun, blank = len(in_line), len(words), True
            for line in text.split("\n"):
                found = line.split()
                if found:
                    words += found
                    in_line.append(len(found))
                    blank_before.append(blank)
                blank = not found
            lines.append(len(in_line) - before)
            counts.append(len(words) - begun)
        numbers = np.fromiter(map(_KNOWN.__getitem__, words), np.int32, len(words))
        self.words = words
        self.words_T: Counts = np.array(counts, np.int64)
        """How many words each document has."""
        self.lines_T: Counts = np.array(lines, np.int64)
        """How many lines with words each document has."""
        self.words_L: Counts = np.array(in_line, np.int64)
        """How many words each line has."""
        self.begins_paragraph_L: Flags = np.array(blank_before, bool)
        """Whether each line follows a blank one or begins its document."""
        self.length_W: Counts = np.array(_KNOWN.length, np.int64)[numbers]
        """Characters of each word."""
        self.alphabetic_W: Flags = np.array(_KNOWN.alphabetic, bool)[numbers]
        """Whether each word has at least one letter."""
        self.exact_W: Hashes = mixed(np.array(_KNOWN.exact, np.uint64) + np.uint64(1))[numbers]
        plain = np.array(_KNOWN.plain, np.uint64)
        self.plain_W: Hashes = mixed(plain)[numbers]  # of 0, which is that of no letters, 0
        self.document_W: Counts = np.repeat(np.arange(len(counts)), self.words_T)
        """The document that each word is in."""
        self.document_L: Counts = np.repeat(np.arange(len(lines)), self.lines_T)
        """The document that each line is in."""
        self.characters_T: Counts = summed(self.length_W, self.words_T)
        """Characters of the words of each document; white space is none."""


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
