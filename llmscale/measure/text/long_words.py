"""Words too long to train a tokenizer on: its time grows with the square of the longest word."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 16_384
"""Characters of a word that the trainer is given; longer ones are cut. It is the length of a
document of plain text."""
LONG: Final = 1024
"""Characters from which on a word counts as long: a page of prose has none."""
ROOM: Final = 1 << 20
"""Characters of long words that the trainer is given in all: their pairs are known by then."""
_WORDS: Final = re.compile(r"[^\W\d_]++|\d++|\s++|(?:[^\w\s]|_)++")
"""Runs of letters, digits, white space or other characters: GPT-2's words lie within one."""


@dataclass
class LongWords:
    """The texts for a trainer of tokenizers without the words that would hold it up, and what was
    done to them."""

    cut: int = 0
    """Words cut into pieces."""
    left_out: int = 0
    """Long words left out, for there were enough of them."""
    _room: int = ROOM

    def shortened(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts: as they are if no word is longer than 16,384 characters and there is room."""
        for text in texts:
            if len(text) <= LONG or not _may_hold_long(text):
                yield text
            else:
                yield from self._pieces(text)

    def __str__(self) -> str:
        done = []
        if self.cut:
            done.append(f"cut {_words(self.cut)} into pieces of {LONGEST:,} characters")
        if self.left_out:
            done.append(f"left out {_words(self.left_out)} of more than {LONG:,} characters")
        if not done:
            return ""
        return f"to train the tokenizer, {' and '.join(done)}; the tokens are of the whole text"

    def _pieces(self, text: str) -> Iterator[str]:
        long = [word for word in _WORDS.finditer(text) if word.end() - word.start() > LONG]
        lengths = [word.end() - word.start() for word in long]
        if max(lengths, default=0) <= LONGEST and sum(lengths) <= self._room:
            self._room -= sum(lengths)
            yield text
            return
        place = 0
        for word in long:
            yield text[place : word.start()]
            place = word.end()
            yield from self._of_word(word.group())
        yield text[place:]

    def _of_word(self, word: str) -> Iterator[str]:
        given = word[: self._room]
        if not given:
            self.left_out += 1
            return
        self.cut += len(word) > LONGEST or len(given) < len(word)
        self._room -= len(given)
        yield from (given[start : start + LONGEST] for start in range(0, len(given), LONGEST))


def _words(count: int) -> str:
    return f"{count:,} word{'s' * (count != 1)}"


def _may_hold_long(text: str) -> bool:
    if max(map(len, text.split()), default=0) > LONG:
        return True
    return re.search(rf"\s{{{LONG + 1}}}", text) is not None
