"""Drop what does not look like prose: Gopher's quality filter, for languages with spaces.

Rae et al. 2021, section A.1.1: 50 to 100,000 words of 3 to 10 characters on average; at most one
hash or ellipsis for ten words; at most 90% of lines begin with a bullet and 30% end with an
ellipsis; 80% of words have a letter; two of eight frequent words of English occur. Each number is
theirs."""

from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np

from llmscale.measure.text.clean import Judge, Reason
from llmscale.measure.text.words import Counts, Flags, Words, hash_of, summed

_WORDS: Final = (50, 100_000)
_MEAN_LENGTH: Final = (3.0, 10.0)
_SYMBOLS: Final = 0.1
_BULLETS: Final = 0.9
_ELLIPSES: Final = 0.3
_ALPHABETIC: Final = 0.8
_STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")
_FEWEST_STOP_WORDS: Final = 2
_BULLET_WORDS: Final = ("-", "*", "+")
_BULLET_SIGNS: Final = ("•", "‣", "▪", "●", "◦", "■", "►")
_ELLIPSIS: Final = ("...", "…")


class GopherQuality(Judge):
    """Gopher's quality filter."""

    def dropped(self, words: Words) -> Mapping[int, Reason]:
        """The documents that break a rule, with the first one they break."""
        count = words.words_T
        least = np.maximum(count, 1)
        lines = np.maximum(words.lines_T, 1)
        bullets, ellipses = _line_signs(words)
        alphabetic = summed(words.alphabetic_W.astype(np.int64), count)
        mean_length = words.characters_T / least
        rules = (
            ("words", count, (count < _WORDS[0]) | (count > _WORDS[1])),
            ("mean word length", mean_length, _outside(mean_length, _MEAN_LENGTH)),
            ("hashes a word", *_above(_counts(words, ("#",)) / least, _SYMBOLS)),
            ("ellipses a word", *_above(_counts(words, _ELLIPSIS) / least, _SYMBOLS)),
            ("lines that begin with a bullet", *_above(bullets / lines, _BULLETS)),
            ("lines that end with an ellipsis", *_above(ellipses / lines, _ELLIPSES)),
            ("words with a letter", alphabetic / least, alphabetic < _ALPHABETIC * count),
            ("frequent words", *_stop_words(words)),
        )
        reasons: dict[int, Reason] = {}
        for rule, value, breaks in rules:
            for number in np.flatnonzero(breaks).tolist():
                reasons.setdefault(number, Reason(rule, f"{value[number]:.3g}"))
        return reasons


def _above(share: np.ndarray, limit: float) -> tuple[np.ndarray, Flags]:
    return share, share > limit


def _outside(value: np.ndarray, limits: tuple[float, float]) -> Flags:
    return np.asarray((value < limits[0]) | (value > limits[1]))


def _counts(words: Words, signs: tuple[str, ...]) -> Counts:
    """How often one of `signs` stands in each document."""
    return np.array([sum(map(text.count, signs)) for text in words.texts], np.int64)


def _line_signs(words: Words) -> tuple[Counts, Counts]:
    """How many lines of each document begin with a bullet and end with an ellipsis."""
    ends = np.cumsum(words.words_L)
    bullets = words.passing(ends - words.words_L, _is_bullet)
    ellipses = words.passing(ends - 1, lambda word: word.endswith(_ELLIPSIS))
    begin, end = (summed(found.astype(np.int64), words.lines_T) for found in (bullets, ellipses))
    return begin, end


def _is_bullet(word: str) -> bool:
    return word in _BULLET_WORDS or word.startswith(_BULLET_SIGNS)


def _stop_words(words: Words) -> tuple[Counts, Flags]:
    """How many of the frequent words each document has, and whether these are too few."""
    found = np.zeros(len(words.words_T), np.int64)
    for known in _stop_hashes():
        is_word = words.plain_W == known
        found += summed(is_word.astype(np.int64), words.words_T) > 0
    return found, found < _FEWEST_STOP_WORDS


@cache
def _stop_hashes() -> tuple[np.uint64, ...]:
    return tuple(np.uint64(hash_of(word)) for word in _STOP_WORDS)
