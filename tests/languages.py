"""What tests of synthetic languages share."""

import numpy as np
import pytest

from llmscale.measure.text.automaton import Automaton
from llmscale.measure.text.chances import UNITS, Draws
from llmscale.measure.text.languages import language_names

every_language = pytest.mark.parametrize("name", language_names())


def symbols_of(automaton: Automaton, documents: int) -> np.ndarray:
    """The symbols of some documents of a language, ends included."""
    rows = list(automaton.sample(Draws(7), documents, 1))
    ends = [int(np.flatnonzero(row == automaton.end)[0]) for row in rows]
    return np.concatenate([row[: end + 1] for row, end in zip(rows, ends, strict=True)])


def dense(automaton: Automaton) -> np.ndarray:
    """Chances by state, symbol and next state, (S, A + 1, S)."""
    table = np.zeros((automaton.states, automaton.end + 1, automaton.states))
    table[automaton.origin, automaton.symbol, automaton.target] = automaton.units / UNITS
    return table


def rate(automaton: Automaton) -> float:
    return automaton.nats_per_document / (automaton.symbols_per_document + 1)
