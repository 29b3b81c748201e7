"""Drop what repeats itself: Gopher's repetition filter, on lines, paragraphs and n-grams of words.

Rae et al. 2021, section A.1.1 and table A1; each limit is theirs. What is counted as a duplicate is
what stands there for the second time or more. Shares of characters leave out white space, and a
character in several duplicate n-grams counts once. The most frequent n-gram counts from its second
time on: in a document without repetition there is none."""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import numpy as np

from llmscale.measure.text.clean import Judge, Reason
from llmscale.measure.text.words import (
    Counts,
    Flags,
    Hashes,
    Words,
    hash_groups,
    mixed,
    place_number,
    summed,
)

_LINES: Final = 0.30
_PARAGRAPHS: Final = 0.30
_LINE_CHARACTERS: Final = 0.20
_PARAGRAPH_CHARACTERS: Final = 0.20
_TOP: Final = {2: 0.20, 3: 0.18, 4: 0.16}
"""Share of characters in the most frequent n-gram, by n."""
_DUPLICATE: Final = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""Share of characters in duplicate n-grams, by n."""
_PLACE_BITS: Final = 22
"""Enough for the places of words in a batch; the other 42 bits are of the hash."""
_PLACE: Final = np.uint64((1 << _PLACE_BITS) - 1)
_Share: TypeAlias = tuple[str, np.ndarray, float]
"""A rule, the share of each document, and the most that it may be."""


class GopherRepetition(Judge):
    """Gopher's repetition filter."""

    def dropped(self, words: Words) -> Mapping[int, Reason]:
        """The documents that break a rule, with the first one they break."""
        reasons: dict[int, Reason] = {}
        for rule, share_T, limit in (*_of_lines(words), *_of_ngrams(words)):
            for number in np.flatnonzero(share_T > limit).tolist():
                reasons.setdefault(number, Reason(rule, f"{share_T[number]:.2f}"))
        return reasons


def _of_lines(words: Words) -> Iterator[_Share]:
    """Shares of lines and of paragraphs that stood there before, and of characters in them."""
    paragraph_L = np.cumsum(words.begins_paragraph_L) - 1
    words_P = np.bincount(paragraph_L, words.words_L).astype(np.int64)
    document_P = words.document_L[words.begins_paragraph_L]
    limits_L, limits_P = (_LINES, _LINE_CHARACTERS), (_PARAGRAPHS, _PARAGRAPH_CHARACTERS)
    yield from _duplicates("lines", words, words.words_L, words.document_L, limits_L)
    yield from _duplicates("paragraphs", words, words_P, document_P, limits_P)


def _duplicates(
    what: str, words: Words, sizes: Counts, document: Counts, limits: tuple[float, float]
) -> Iterator[_Share]:
    """The shares of groups of words of these `sizes` that are equal to one before."""
    documents = len(words.words_T)
    again = _again(hash_groups(words.exact_W, sizes), document)
    characters = summed(words.length_W, sizes)
    groups_T = np.maximum(np.bincount(document, minlength=documents), 1)
    again_T = np.bincount(document, again, minlength=documents)
    lost_T = np.bincount(document, again * characters, minlength=documents)
    yield f"duplicate {what}", again_T / groups_T, limits[0]
    yield f"characters in duplicate {what}", lost_T / _characters(words), limits[1]


def _again(values: Hashes, document: Counts) -> Flags:
    """Whether each value stood in its document before."""
    found = np.zeros(len(values), bool)
    order, repeats = _ordered(values, document, np.arange(len(values)))
    found[order[repeats]] = True
    return found


def _ordered(values: Hashes, document: Counts, places: Counts) -> tuple[Counts, Flags]:
    """The `places` of hashes, sorted so that equal ones of one document follow each other in their
    order, and whether each is equal to the one before it."""
    in_document = mixed(values + document.astype(np.uint64) * place_number(0))
    # One number to be sorted: sorting two takes ten times as long.
    keys = (in_document & ~_PLACE) | places.astype(np.uint64)
    keys.sort()
    known = keys & ~_PLACE
    repeats = np.zeros(len(keys), bool)
    repeats[1:] = known[1:] == known[:-1]
    return (keys & _PLACE).astype(np.int64), repeats


def _of_ngrams(words: Words) -> Iterator[_Share]:
    """Shares of characters in the most frequent n-gram, and in duplicate ones, for growing n: an
    n-gram that is a duplicate begins with a shorter one that is, so that fewer and fewer are left
    to look at."""
    document_W, characters_T = words.document_W, _characters(words)
    places = np.arange(len(document_W))
    values = words.exact_W.copy()  # of the n-grams that begin at `places`, not yet mixed
    for length in range(2, max(_DUPLICATE) + 1):
        inside = places + length <= len(document_W)
        places, values = places[inside], values[inside]
        inside = document_W[places] == document_W[places + length - 1]
        places, values = places[inside], values[inside]
        values = values + words.exact_W[places + length - 1] * place_number(length)
        order, repeats = _ordered(values, document_W[places], places)
        if length in _TOP:
            top_T = _most_frequent(words, order, repeats, length)
            yield f"most frequent {length}-gram", top_T / characters_T, _TOP[length]
        if length in _DUPLICATE:
            covered_T = _covered(words, order[repeats], length)
            yield f"duplicate {length}-grams", covered_T / characters_T, _DUPLICATE[length]
        is_member = repeats.copy()
        is_member[:-1] |= repeats[1:]
        kept = np.zeros(len(document_W), bool)
        kept[order[is_member]] = True
        still = kept[places]
        places, values = places[still], values[still]


def _most_frequent(words: Words, order: Counts, repeats: Flags, length: int) -> Counts:
    """Characters of each document in its most frequent n-gram; of equally frequent ones the
    longest."""
    begins = np.flatnonzero(~repeats)
    times = np.diff(np.append(begins, len(repeats)))
    first, times = order[begins][times > 1], times[times > 1]
    sizes = _characters_from(words, first, length)
    best = np.zeros(len(words.words_T), np.int64)
    np.maximum.at(best, words.document_W[first], (times << 32) + sizes)
    return np.asarray((best >> 32) * (best & 0xFFFFFFFF))


def _characters_from(words: Words, places: Counts, length: int) -> Counts:
    """Characters of the `length` words from each place on."""
    before = np.concatenate([[0], np.cumsum(words.length_W)])
    return np.asarray(before[places + length] - before[places])


def _covered(words: Words, places: Counts, length: int) -> Counts:
    """Characters of each document in one or more of the n-grams that begin at `places`."""
    open_W = np.zeros(len(words.length_W) + 1, np.int64)
    open_W[places] += 1
    open_W[places + length] -= 1
    is_covered = np.cumsum(open_W[:-1]) > 0
    return summed(words.length_W * is_covered, words.words_T)


def _characters(words: Words) -> Counts:
    return np.maximum(words.characters_T, 1)
