"""A small grammar of sentences with nested clauses and agreement, and words by Zipf's law:

    a dog that all cats chase sees a bird .

with made-up nouns, verbs and adjectives. Verbs agree in number with nouns across the clauses
between them, which end in the opposite order of their beginnings. Each word tells which rule was
taken, so that a text has one derivation, and its entropy is the sum of the choices' (Grenander
1976; Chi 1999)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmscale.measure.text.automaton import Automaton
from llmscale.measure.text.chances import Array, Draws, zipf
from llmscale.measure.text.languages import Language, number, whole
from llmscale.measure.text.languages._phrases import END, Ways, automaton_of
from llmscale.measure.text.languages._symbols import words
from llmscale.settings import Range, setting

_NUMBERS: Final = {"one": 0.6, "many": 0.4}
"""Of a noun, with its chance."""
_FIXED: Final = {"a one": " a", "a many": " all", "that": " that", "stop": " ."}
"""The words of grammar; no other word looks like them."""
_OPEN: Final = {
    "noun one": 0.4,
    "noun many": 0.4,
    "verb one": 0.3,
    "verb many": 0.3,
    "adjective": 0.3,
}
"""Kinds of other words, with the share of `words` that each has: two have two forms."""
_CLAUSE, _ADJECTIVE, _OBJECT = 0.3, 0.25, 0.6
"""Chances of a clause after a noun, of one more adjective before it, and of an object."""


@dataclass(frozen=True)
class Grammar(Language):
    """Sentences of a subject, a verb and perhaps an object; a noun may have a clause of its own."""

    words: int = setting(
        300,
        help="Nouns, verbs and adjectives; of nouns and verbs there are two forms each.",
        parse=whole,
        within=Range(10, 100_000),
    )
    zipf: float = setting(
        1.0,
        help="The chance of the r-th word of its kind falls as r^-zipf.",
        parse=number,
        within=Range(0, 5),
    )
    depth: int = setting(
        2, help="Clauses that may stand within each other.", parse=whole, within=Range(0, 6)
    )
    length: float = setting(
        20.0,
        help="Sentences of a document, on average; each may be the last with equal chance.",
        parse=number,
        within=Range(1, 1000, above=True),
    )

    def body(self) -> Automaton:
        texts, kinds = self.vocabulary()
        return automaton_of(texts, self.rules(), kinds, "text")

    def vocabulary(self) -> tuple[list[str], dict[str, tuple[list[int], Array]]]:
        """The words, and of each kind their numbers and chances."""
        sizes = {kind: round(share * self.words) for kind, share in _OPEN.items()}
        texts = [*_FIXED.values(), *words(sum(sizes.values()))]
        kinds = {kind: ([place], np.ones(1)) for place, kind in enumerate(_FIXED)}
        # Which words are frequent is drawn by the seed.
        free = iter(Draws(self.seed, 0).permutation(sum(sizes.values())) + len(_FIXED))
        for kind, size in sizes.items():
            kinds[kind] = ([int(next(free)) for _ in range(size)], zipf(size, self.zipf))
        return texts, kinds

    def rules(self) -> dict[str, Ways]:
        """The ways of each phrase to go on; `clause 1` may have one more clause within."""
        found: dict[str, Ways] = {
            "text": [(1.0, ("sentence", "rest"))],
            "rest": [(1 / self.length, (END,)), (1 - 1 / self.length, ("sentence", "rest"))],
            "sentence": _each(f"thing {self.depth} {{}}", "verb {}", "object", "stop"),
            "object": [(1 - _OBJECT, ()), (_OBJECT, ("any thing",))],
            "any thing": _each(f"thing {self.depth} {{}}"),
            "adjectives": [(1 - _ADJECTIVE, ()), (_ADJECTIVE, ("adjective", "adjectives"))],
            "clause 0": [(1.0, ())],
        }
        for depth in range(self.depth + 1):
            for one in _NUMBERS:
                thing = (f"a {one}", "adjectives", f"noun {one}", f"clause {depth}")
                found[f"thing {depth} {one}"] = [(1.0, thing)]
        for depth in range(1, self.depth + 1):
            found[f"clause {depth}"] = [(1 - _CLAUSE, ()), (_CLAUSE, ("that", f"said {depth}"))]
            found[f"said {depth}"] = _each(f"thing {depth - 1} {{}}", "verb {}")
        return found


def _each(*parts: str) -> Ways:
    """A way for each number, which `{}` stands for."""
    return [(chance, tuple(part.format(one) for part in parts)) for one, chance in _NUMBERS.items()]
