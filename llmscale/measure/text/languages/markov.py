"""A Markov chain over characters or words: the next symbol depends on the last `order` ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.automaton import Automaton
from llmscale.measure.text.chances import Array, Draws, in_units, total, zipf
from llmscale.measure.text.languages import Language, number, whole
from llmscale.measure.text.languages._symbols import characters, words
from llmscale.settings import Range, setting

MOST_CHOICES: Final = 1 << 22


def _units() -> Iterable[str]:
    return ("characters", "words")


@dataclass(frozen=True)
class Markov(Language):
    """The chances after a context are drawn from a Dirichlet distribution around those after the
    context one symbol shorter, down to Zipf's law (hierarchical Dirichlet: MacKay & Peto 1995)."""

    order: int = setting(
        2, help="Symbols that the next one depends on.", parse=whole, within=Range(1, 16)
    )
    symbols: int = setting(26, help="Different symbols.", parse=whole, within=Range(2, 1_000_000))
    unit: str = setting(
        "characters",
        help="What symbols look like: characters or words.",
        choices=_units,
    )
    zipf: float = setting(
        1.0,
        help="How unequal symbols are: the frequency of the r-th falls as r^-zipf before contexts "
        "change it; 0 for equal ones.",
        parse=number,
        within=Range(0, 5),
    )
    concentration: float = setting(
        10.0,
        help="How near the chances after a context are to those after the shorter one: the "
        "parameters of its Dirichlet distribution add up to this.",
        parse=number,
        within=Range(0, 1e6, above=True),
    )
    length: float = setting(
        200.0,
        help="Symbols of a document, on average; each may be the last with equal chance.",
        parse=number,
        within=Range(1, 10_000, above=True),
    )

    def body(self) -> Automaton:
        choices = self.symbols ** (self.order + 1)
        if choices > MOST_CHOICES:
            raise InputError(
                f"order {self.order} over {self.symbols:,} symbols has {choices:,} transitions, "
                f"more than the {MOST_CHOICES:,} that are kept",
                "take a lower order or fewer symbols",
            )
        written = words if self.unit == "words" else characters
        texts = written(self.symbols)
        draws, A = Draws(self.seed, 0), self.symbols
        rows = zipf(A, self.zipf)[None, :]
        levels = [rows]
        for _level in range(self.order):
            rows = _drawn(draws, np.tile(rows, (A, 1)), self.concentration)
            levels.append(rows)
        return self._joined(texts, levels)

    def _joined(self, texts: list[str], levels: list[Array]) -> Automaton:
        """States are contexts, the shorter ones first; context x1..xk is number x1 A^(k-1) + ...,
        so that the shorter context x2..xk is that number modulo A^(k-1)."""
        A = self.symbols
        starts = np.cumsum([0, *(len(rows) for rows in levels)])
        targets = []
        for level, rows in enumerate(levels):
            grown = min(level + 1, self.order)
            contexts = np.arange(len(rows))[:, None] * A + np.arange(A)[None, :]
            targets.append(starts[grown] + contexts % A**grown)
        chances = np.concatenate(levels)
        ends = np.full(len(chances), 1 / self.length)
        ends[0] = 0.0  # a document has a symbol at least
        weights = np.column_stack([chances * (1 - ends)[:, None], ends])
        target = np.column_stack([np.concatenate(targets), np.zeros(len(chances), np.int64)])
        origin, symbol = np.indices(weights.shape)
        parts = (origin, symbol, in_units(weights), target)
        return Automaton.of_choices(texts, *(part.ravel() for part in parts))


def _drawn(draws: Draws, around: Array, concentration: float) -> Array:
    """Rows of a Dirichlet distribution; where all its variates are 0, the row it is around."""
    variates = draws.gammas(np.maximum(concentration * around, 1e-9))
    sums = total(variates)
    return np.where(sums > 0, variates / np.where(sums > 0, sums, 1.0), around)
