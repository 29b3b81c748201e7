"""A language as a random walk: what it says next depends on a state, and what is said gives the
next state. So its entropy is known exactly, for a text tells all choices that were made.

(Sources of this kind are called unifilar: Cover & Thomas, Elements of Information Theory, 2nd ed.
2006, section 4.5 and problem 4.16.)"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from llmscale.measure.text.chances import BITS, UNITS, Draws, in_units

_BLOCK_STEPS: Final = 64
"""Steps between two looks at which lanes are done."""
_MOST_STEPS: Final = 100_000
_SETTLED: Final = 1e-15
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Entropy:
    """Of a language, exactly. The end of a document is a choice like any other, and counts as a
    token but neither as a symbol nor as a byte."""

    nats_per_document: float
    nats_per_symbol: float
    nats_per_byte: float
    nats_per_token: float | None = None
    """None as long as there is no tokenizer."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """States and what may be said in each. Documents begin in state 0, and end with the symbol
    `end`, after which another document begins.

    The choices of all states lie one after the other: those of state s are number `first[s]` to
    `first[s + 1]`. No symbol is there twice in one state."""

    symbols: tuple[str, ...]
    """The text of every symbol but the end."""
    first: Ints
    symbol: Ints
    units: Ints
    """The chance of each choice, in 2^-32."""
    target: Ints
    """The state that each choice leads to."""

    @classmethod
    def of_choices(
        cls, symbols: Sequence[str], origin: Ints, symbol: Ints, units: Ints, target: Ints
    ) -> "Automaton":
        """Of choices in any order; those without a chance are left out."""
        order = np.argsort(origin, kind="stable")
        order = order[units[order] > 0]
        first = np.searchsorted(origin[order], np.arange(origin.max() + 2))
        return cls(tuple(symbols), first, symbol[order], units[order], target[order])

    def opened(self, count: int) -> "Automaton":
        """The same after an opening of `count` symbols, each of them with equal chance."""
        each = len(self.symbols)
        origin = np.repeat(np.arange(count), each)
        symbol = np.tile(np.arange(each), count)
        units = np.tile(in_units(np.ones(each)), count)
        return Automaton.of_choices(
            self.symbols,
            np.concatenate([origin, self.origin + count]),
            np.concatenate([symbol, self.symbol]),
            np.concatenate([units, self.units]),
            np.concatenate([origin + 1, np.where(self.symbol == self.end, 0, self.target + count)]),
        )

    def __post_init__(self) -> None:
        assert (np.add.reduceat(self.units, self.first[:-1]) == UNITS).all()
        assert len(np.unique(self._keys)) == len(self._keys), "a symbol stands twice in a state"

    @property
    def end(self) -> int:
        """The number of the symbol that ends a document."""
        return len(self.symbols)

    @property
    def states(self) -> int:
        return len(self.first) - 1

    @cached_property
    def origin(self) -> Ints:
        """The state of each choice."""
        return np.repeat(np.arange(self.states), np.diff(self.first))

    @cached_property
    def chances(self) -> Floats:
        return self.units / UNITS

    @cached_property
    def nats(self) -> Floats:
        """What each choice tells: -ln of its chance; infinite for those that are never made."""
        with np.errstate(divide="ignore"):
            return -np.log(self.chances)

    @cached_property
    def visits(self) -> Floats:
        """How often a document comes to each state, on average: the stationary distribution of the
        text, of which each document has one end."""
        places = (self.target, self.origin)
        onward = csr_matrix((self.chances, places), shape=(self.states, self.states))
        share = np.zeros(self.states)
        share[0] = 1.0
        for _step in range(_MOST_STEPS):
            # Half of the way each time: a text whose states come in turns would not settle.
            after = 0.5 * (share + onward @ share)
            changed = np.abs(after - share).sum()
            share = after / after.sum()
            if changed < _SETTLED:
                break
        ends = self.symbol == self.end
        return np.asarray(share / (share[self.origin[ends]] * self.chances[ends]).sum())

    @cached_property
    def counts(self) -> Floats:
        """How often a document makes each choice, on average."""
        return self.visits[self.origin] * self.chances

    @property
    def nats_per_document(self) -> float:
        """The entropy of a document, the place of its end included."""
        made = self.units > 0
        return float((self.counts[made] * self.nats[made]).sum())

    @property
    def symbols_per_document(self) -> float:
        """Without the end."""
        return float(self.visits.sum()) - 1.0

    def bytes_per_document(self) -> float:
        """Of its text in UTF-8."""
        sizes = np.array([*(len(text.encode()) for text in self.symbols), 0])
        return float((self.counts * sizes[self.symbol]).sum())

    @cached_property
    def entropy(self) -> Entropy:
        """By symbol and by byte, where documents of any length count as much as they are long."""
        nats = self.nats_per_document
        return Entropy(nats, nats / self.symbols_per_document, nats / self.bytes_per_document())

    def sample(self, draws: Draws, lanes: int, each: int) -> Iterator[Ints]:
        """The symbols of `lanes` times `each` documents, each `lane` of them in one row with its
        ends; what follows the last end is filled up with more of them."""
        # The chances of every state add up to 2^32, so that those of state s reach from s * 2^32.
        reach = np.add.accumulate(self.units)
        state = np.zeros(lanes, np.int64)
        left = np.full(lanes, each)
        running = np.arange(lanes)
        blocks = []
        while len(running):
            units = draws.units(_BLOCK_STEPS, lanes)[:, running]
            said = np.full((_BLOCK_STEPS, lanes), self.end, np.int64)
            now = state[running]
            for step in range(_BLOCK_STEPS):
                choice = np.searchsorted(reach, (now << BITS) | units[step], side="right")
                said[step, running] = self.symbol[choice]
                now = self.target[choice]
            state[running] = now
            left[running] -= (said[:, running] == self.end).sum(axis=0)
            running = running[left[running] > 0]
            blocks.append(said)
        return iter(np.concatenate(blocks).T)

    @cached_property
    def _keys(self) -> Ints:
        return self.origin * (self.end + 1) + self.symbol
