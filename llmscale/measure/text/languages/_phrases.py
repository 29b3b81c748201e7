"""From a grammar to an automaton: each state is what is still to be said.

A grammar gives each phrase its ways to go on, and each kind of word its words. It must tell at each
word which way was taken, and its phrases must nest to a limit; then texts have one derivation each,
and its entropy is the sum of that of the choices."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from llmscale.measure.text.automaton import Automaton
from llmscale.measure.text.chances import Array, in_units

Phrase = str
Ways = Sequence[tuple[float, tuple[Phrase, ...]]]
"""The ways a phrase can go on, each with its chance: phrases and kinds of words, in order."""
END = "end"
"""The kind of word that ends a document."""


def automaton_of(
    symbols: Sequence[str],
    phrases: Mapping[Phrase, Ways],
    words: Mapping[str, tuple[Sequence[int], Array]],
    begin: Phrase,
) -> Automaton:
    """The language that goes on as `begin` for ever, with documents that end with END. `words` are
    the symbols of each kind, and their chances."""
    states: dict[tuple[Phrase, ...], int] = {(begin,): 0}
    waiting: list[tuple[Phrase, ...]] = [(begin,)]
    parts: list[tuple[np.ndarray, ...]] = []
    while waiting:
        stack = waiting.pop()
        said: list[np.ndarray] = []
        chances: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for chance, kind, rest in _next_words(stack, phrases):
            rest = (begin,) if kind == END else rest
            if rest not in states:
                states[rest] = len(states)
                waiting.append(rest)
            numbers, shares = ([len(symbols)], np.ones(1)) if kind == END else words[kind]
            said.append(np.asarray(numbers))
            chances.append(chance * shares)
            targets.append(np.full(len(numbers), states[rest]))
        units = in_units(np.concatenate(chances))
        origin = np.full(len(units), states[stack])
        parts.append((origin, np.concatenate(said), units, np.concatenate(targets)))
    joined = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Automaton.of_choices(symbols, *joined)


def _next_words(
    stack: tuple[Phrase, ...], phrases: Mapping[Phrase, Ways]
) -> Iterator[tuple[float, str, tuple[Phrase, ...]]]:
    """The kinds of words that may come next, with their chances and what is then to be said."""
    top, rest = stack[0], stack[1:]
    if top not in phrases:
        yield 1.0, top, rest
        return
    for chance, parts in phrases[top]:
        for more, kind, after in _next_words((*parts, *rest), phrases):
            yield chance * more, kind, after
