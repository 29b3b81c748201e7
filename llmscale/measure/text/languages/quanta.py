"""Facts of very unequal frequency: a key by Zipf's law, and an answer that depends on the key.

What is not yet known of the language is a sum over keys of Zipf's law, so that the loss falls as a
power of the data: the quanta of Michaud et al. 2023 (arXiv:2303.13506), and the model of Hutter
2021 (arXiv:2102.04074)."""

import math
from dataclasses import dataclass

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.automaton import Automaton
from llmscale.measure.text.chances import Draws, in_units, zipf
from llmscale.measure.text.languages import Language, number, whole
from llmscale.measure.text.languages._symbols import MOST_CHARACTERS, characters
from llmscale.settings import Range, setting


@dataclass(frozen=True)
class Quanta(Language):
    """A key is two symbols, the first digit and the second; an answer is one more. The key of rank
    k is asked for with a chance that falls as k^-(1 + exponent); its answer, drawn by the seed, is
    given in all but `noise` of the cases, and else any answer."""

    keys: int = setting(
        1024,
        help="Different keys; a square number, as a key is two symbols.",
        parse=whole,
        within=Range(4, 2500),
    )
    answers: int = setting(16, help="Different answers.", parse=whole, within=Range(2, 64))
    exponent: float = setting(
        0.5,
        help="The chance of the key of rank k falls as k^-(1 + exponent): a learner who counts "
        "comes nearer to the entropy as D^-(exponent / (1 + exponent)).",
        parse=number,
        within=Range(0, 4, above=True),
    )
    noise: float = setting(
        0.2,
        help="Share of answers that are drawn from all, whatever the key.",
        parse=number,
        within=Range(0, 1),
    )
    length: float = setting(
        50.0,
        help="Facts of a document, on average; each may be the last with equal chance.",
        parse=number,
        within=Range(1, 3000, above=True),
    )

    def body(self) -> Automaton:
        base = math.isqrt(self.keys)
        if base * base != self.keys or base + self.answers > MOST_CHARACTERS:
            raise InputError(
                f"{self.keys:,} keys and {self.answers} answers cannot be written: a key is two "
                f"symbols, and there are {MOST_CHARACTERS} of all kinds",
                f"take a square number of keys, as {min(base * base, 1024):,}, or fewer answers",
            )
        chance = zipf(self.keys, 1 + self.exponent).reshape(base, base)
        first = np.add.accumulate(chance, axis=1)[:, -1]
        answer = (Draws(self.seed, 0).uniforms(self.keys) * self.answers).astype(np.int64)
        given = np.full((self.keys, self.answers), self.noise / self.answers)
        given[np.arange(self.keys), answer] += 1 - self.noise
        return self._joined(base, first, chance, given)

    def _joined(
        self, base: int, first: np.ndarray, second: np.ndarray, given: np.ndarray
    ) -> Automaton:
        """States: 0 begins a document, 1 a later fact; then one a first digit, then one a key."""
        end = base + self.answers
        digits, keys = np.arange(base), np.arange(self.keys)
        begin = np.column_stack([np.zeros(base), digits, in_units(first), 2 + digits])
        ends = 1 / self.length
        later = in_units(np.append(first * (1 - ends), ends))
        again = np.column_stack([np.ones(base + 1), [*digits, end], later, [*(2 + digits), 0]])
        asked = np.column_stack(
            [
                2 + np.repeat(digits, base),
                np.tile(digits, base),
                in_units(second).ravel(),
                2 + base + keys,
            ]
        )
        answered = np.column_stack(
            [
                2 + base + np.repeat(keys, self.answers),
                base + np.tile(np.arange(self.answers), self.keys),
                in_units(given).ravel(),
                np.ones(given.size),
            ]
        )
        parts = np.concatenate([begin, again, asked, answered]).astype(np.int64)
        return Automaton.of_choices(characters(end), *parts.T)
