"""The loss of the language itself: what no model can come below, on the very tokens that losses are
measured on."""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import WorkError
from llmscale.measure.text.automaton import Automaton, Ints
from llmscale.measure.text.sources import open_source
from llmscale.measure.text.sources.synthetic import Synthetic
from llmscale.measure.text.store import TokenStore
from llmscale.measure.text.tokenizer import decode, own_tokenizer

_MOST_PAIRS: Final = 2_000_000
"""Windows times states that they may have begun in, held at a time."""
_MERGED_FIRST, _MERGED_EACH = 8, 16
"""Steps after which each window's equal states are added up, and between two such steps later."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TrueLoss:
    """Of a language on the validation tokens of a store, in nats per token."""

    rate: float
    """The entropy of a document of the language over its tokens, which include its end."""
    text: float
    """What these tokens tell to one who has read their document from its beginning: `rate`, but
    for chance."""
    loss: float | None = None
    """What they tell to one who sees only the window, of `context` tokens, in which a model sees
    them, and knows the language: the best loss there is. None if tokens are not symbols."""
    context: int | None = None
    dropped: int = 0
    """Documents that were left out as repeats, which the language does not know of."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def best(self) -> float:
        """The floor to compare a fitted one with."""
        return self.text if self.loss is None else self.loss


def true_loss(store: TokenStore, context: int | None = None) -> TrueLoss | None:
    """The loss of the language that the text of `store` is drawn from, over windows of `context`
    tokens; None if its language is not known, or if steps of cleaning have made another of it."""
    if store.meta["source"].get("source") != "synthetic" or store.meta["dropped"].get("steps"):
        return None
    return _measured(str(store.path), context)


@cache
def _measured(path: str, context: int | None) -> TrueLoss | None:
    """By the path of the store, whose validation text stays what it is."""
    store = TokenStore.open(path)
    source = _source_of(store)
    if source.fingerprint() != store.meta["source"]["fingerprint"]:
        return None  # made by another version, of what may be another language
    automaton = source.automaton
    tokens = np.asarray(store.validation(), np.int64)
    ends = int(np.count_nonzero(tokens == store.end_of_text))
    own = own_tokenizer(source.tokenizer(), None)
    of_symbols = store.meta["tokenizer"]["fingerprint"] == own.fingerprint
    symbols = tokens
    if not of_symbols:
        symbols = _symbols(store, source)
    nats = float(automaton.nats[known_choices(automaton, symbols)].sum())
    per_document = automaton.symbols_per_document + 1
    if not of_symbols:
        per_document = len(tokens) / ends
    loss = None
    if of_symbols and context is not None:
        loss = float(window_losses(automaton, tokens, context).mean())
    return TrueLoss(
        automaton.nats_per_document / per_document,
        nats / len(tokens),
        loss,
        context,
        int(store.meta["dropped"]["duplicates"]),
    )


def _source_of(store: TokenStore) -> Synthetic:
    """The language that the text of a store is drawn from, made again from what the store says."""
    source = open_source(store.meta["spec"]["source"])
    assert isinstance(source, Synthetic)
    return source


def _symbols(store: TokenStore, source: Synthetic) -> Ints:
    """The validation text in symbols, read back from tokens of another kind."""
    tokens = np.asarray(store.validation(), np.int64)
    documents = np.split(tokens, np.flatnonzero(tokens == store.end_of_text) + 1)[:-1]
    tokenizer, own = store.tokenizer(), source.tokenizer()
    texts = (decode(tokenizer, document.tolist()) for document in documents)
    end = [source.automaton.end]
    return np.concatenate([own.encode(text).ids + end for text in texts]).astype(np.int64)


def known_choices(automaton: Automaton, symbols: Ints) -> Ints:
    """The choices that whole documents made, of which each ends with the end. Raises WorkError for
    what the language cannot say."""
    said = automaton.end + 1
    keys = (automaton.origin * said + automaton.symbol).tolist()
    numbers = {key: number for number, key in enumerate(keys)}
    targets = automaton.target.tolist()
    state, made = 0, []
    for symbol in symbols.tolist():
        choice = numbers.get(state * said + symbol)
        if choice is None:
            raise WorkError("the tokens are no text of the language", "prepare them again")
        made.append(choice)
        state = targets[choice]
    return np.array(made, np.int64)


def window_losses(automaton: Automaton, symbols: Ints, context: int) -> Floats:
    """The best loss of each window of `context` tokens, as measure/train/batches.py cuts them: of
    its targets, given the inputs before each.

    Where a window begins in its document, and after what, is not known: its chances are those of
    the long run, and each token read tells more (forward algorithm: Rabiner 1989)."""
    count = (len(symbols) - 1) // context
    rows = np.lib.stride_tricks.sliding_window_view(symbols, context + 1)[
        : count * context : context
    ]
    table = _Table(automaton)
    begun = table.begun()
    most = max(len(states) for states, _ in begun)
    at_a_time = max(1, _MOST_PAIRS // most)
    parts = [
        _forward(table, rows[first : first + at_a_time], begun)
        for first in range(0, count, at_a_time)
    ]
    return np.concatenate(parts) / context


class _Table:
    """Chances and next states by state and symbol."""

    def __init__(self, automaton: Automaton) -> None:
        self.automaton = automaton
        self._said = automaton.end + 1
        order = np.lexsort((automaton.symbol, automaton.origin))
        self._order = order
        self._keys = (automaton.origin * self._said + automaton.symbol)[order]

    def begun(self) -> list[tuple[Ints, Floats]]:
        """For each symbol the states after it, and their chances, if nothing else is known."""
        automaton = self.automaton
        shares = automaton.counts / automaton.counts.sum()
        return [
            _added_up(automaton.target[chosen], shares[chosen])
            for chosen in (automaton.symbol == symbol for symbol in range(self._said))
        ]

    def step(self, states: Ints, symbols: Ints) -> tuple[Floats, Ints]:
        """The chance of each symbol in each state, 0 if it cannot be said, and the next state."""
        wanted = states * self._said + symbols
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        choices = self._order[places]
        chances = np.where(self._keys[places] == wanted, self.automaton.chances[choices], 0.0)
        return chances, self.automaton.target[choices]


def _forward(table: _Table, rows: Ints, begun: list[tuple[Ints, Floats]]) -> Floats:
    """The nats of the targets of each row."""
    starts = [begun[symbol] for symbol in rows[:, 0].tolist()]
    window = np.repeat(np.arange(len(rows)), [len(states) for states, _ in starts])
    states = np.concatenate([states for states, _ in starts])
    weights = np.concatenate([chances / chances.sum() for _, chances in starts])
    nats = np.zeros(len(rows))
    for step in range(1, rows.shape[1]):
        chances, after = table.step(states, rows[window, step])
        weights = weights * chances
        likely = np.bincount(window, weights, len(rows))
        nats -= np.log(likely)
        weights /= likely[window]
        possible = weights > 0
        window, states, weights = window[possible], after[possible], weights[possible]
        if step <= _MERGED_FIRST or step % _MERGED_EACH == 0:
            keys = window * table.automaton.states + states
            keys, weights = _added_up(keys, weights)
            window, states = np.divmod(keys, table.automaton.states)
    return nats


def _added_up(keys: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Each key once, with the sum of its weights."""
    distinct, places = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(places, weights, len(distinct)).astype(np.float64)
