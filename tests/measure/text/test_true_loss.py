"""The loss of a language itself: in windows by brute force, in stores, before and after sweeps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from languages import dense, every_language, rate, symbols_of
from scipy import stats
from sweeps import llmscale, options, tables
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.sweep.known_floor import said_of
from llmscale.measure.text.languages import Language
from llmscale.measure.text.languages.grammar import Grammar
from llmscale.measure.text.languages.markov import Markov
from llmscale.measure.text.languages.quanta import Quanta
from llmscale.measure.text.prepare import TextSpec, prepare
from llmscale.measure.text.sources import open_source
from llmscale.measure.text.true_loss import known_choices, true_loss, window_losses

SMALL: dict[str, Language] = {
    "markov": Markov(order=2, symbols=4, concentration=3.0, length=12.0, opening=2),
    "grammar": Grammar(words=10, depth=1, length=3.0, opening=2),
    "quanta": Quanta(keys=9, answers=3, length=4.0, opening=2),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic")


@every_language
def test_the_best_loss_in_a_window_is_that_of_brute_force(name: str) -> None:
    automaton = SMALL[name].automaton()
    symbols = symbols_of(automaton, 40)
    context = 9
    table = dense(automaton)
    stationary = automaton.visits / automaton.visits.sum()
    expected = []
    for start in range(0, len(symbols) - context, context):
        belief, nats = stationary, []
        for symbol in symbols[start : start + context + 1]:
            belief = belief @ table[:, symbol, :]
            nats.append(-math.log(belief.sum()))
            belief = belief / belief.sum()
        expected.append(sum(nats[1:]) / context)
    assert window_losses(automaton, symbols, context) == pytest.approx(expected)


def test_a_chain_of_order_one_loses_nothing_at_the_start_of_a_window() -> None:
    automaton = Markov(order=1, symbols=5, length=20.0, opening=0).automaton()
    symbols = symbols_of(automaton, 300)[: 16 * 300 + 1]
    known = automaton.nats[known_choices(automaton, symbols)][1:]
    by_window = known.reshape(-1, 16).mean(axis=1)
    windows = window_losses(automaton, symbols, 16)
    # But for windows that begin in the first symbol after an end, which they cannot tell from it.
    assert windows == pytest.approx(by_window)


def test_a_window_of_a_longer_memory_costs_what_the_missing_symbols_tell() -> None:
    automaton = Markov(order=2, symbols=4, concentration=2.0, length=1000.0, opening=0).automaton()
    symbols = symbols_of(automaton, 100)
    known = automaton.nats[known_choices(automaton, symbols)]
    # H(next | last symbol) - H(next | state), from the joint chances of two symbols.
    table = dense(automaton)
    into = (automaton.visits / automaton.visits.sum()) @ table.reshape(automaton.states, -1)
    pairs = into.reshape(-1, automaton.states) @ table.sum(axis=2)
    seen = stats.entropy(pairs.ravel()) - stats.entropy(pairs.sum(axis=1))
    # Only the first target of a window lacks a symbol, however long the window is.
    for context in (8, 16, 32):
        best = window_losses(automaton, symbols, context)
        found = best.mean() - known[1 : len(best) * context + 1].mean()
        assert found * context == pytest.approx(seen - rate(automaton), rel=0.15)


@pytest.mark.parametrize("name", ["markov,order=2,symbols=8", "grammar,words=20"])
def test_a_store_of_symbols_and_one_of_bpe_tell_the_same_entropy(name: str, cache: Path) -> None:
    found = {}
    for tokenizer in (None, "bpe:300"):
        spec = TextSpec(f"synthetic:{name},tokens=60k", tokenizer=tokenizer, validation_tokens=5000)
        store = prepare(spec, cache=cache)
        known = true_loss(store, 32)
        assert known is not None
        assert known.dropped == 0
        validation = np.asarray(store.validation())
        documents = np.count_nonzero(validation == store.end_of_text)
        found[tokenizer] = known.text * len(validation) / store.validation_bytes, known, documents
        assert known.best >= known.text - 1e-3
    (own, symbols, _), (bpe, pieces, _) = found[None], found["bpe:300"]
    assert symbols.loss is not None
    assert symbols.loss > symbols.text
    (said,) = said_of({32: symbols})
    assert f"one loses {symbols.loss:.4f} on the validation text in windows of 32 tokens" in said
    assert "more in windows" in said_of({32: pieces})[0]
    assert pieces.loss is None
    automaton = open_source(f"synthetic:{name}").automaton  # type: ignore[attr-defined]
    each = automaton.nats_per_document / automaton.bytes_per_document()
    assert (own, bpe) == pytest.approx((each, each), rel=0.05)


def test_inspect_shows_the_entropy_by_symbol_byte_and_token(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCALE_CACHE", str(cache))
    words = ["synthetic:markov,order=2,symbols=8,tokens=60k", "--validation-tokens", "5000"]
    prepared = CliRunner().invoke(app, ["data", "prepare", *words])
    assert prepared.exit_code == 0, prepared.output
    shown = CliRunner().invoke(app, ["data", "inspect", *words, "--json"])
    known = json.loads(shown.stdout)["entropy"]
    automaton = Markov(order=2, symbols=8).automaton()
    assert known["nats_per_document"] == pytest.approx(automaton.nats_per_document)
    assert known["nats_per_token"] == pytest.approx(rate(automaton))
    assert known["nats_per_byte"] == pytest.approx(known["nats_per_symbol"])
    text = CliRunner().invoke(app, ["data", "inspect", *words]).stdout
    assert f"{rate(automaton):.4f} a token" in " ".join(text.split())


@pytest.mark.slow
def test_a_sweep_tells_the_true_loss_and_keeps_it_with_its_runs(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCALE_CACHE", str(cache))
    command = options("synthetic:markov,order=2,symbols=8,tokens=60k", tmp_path / "out", "1x16x1")
    place = command.index("--tokenizer")
    del command[place : place + 2]
    swept = llmscale(*command, "--validation-tokens", "5000")
    assert swept.exit_code == 0, swept.output
    known = json.loads((tmp_path / "out" / "sweep.json").read_text())["data"]
    (stated,) = known["true_losses"]
    assert stated["rate"] == pytest.approx(rate(Markov(order=2, symbols=8).automaton()))
    assert f"one loses {stated['loss']:.4f} on the validation text" in swept.stderr
    runs, _ = tables(tmp_path / "out")
    assert runs["true_loss"].tolist() == [stated["loss"]]
    assert runs["vocab_size"].tolist() == [9]
    # An untrained model knows nothing, a trained one cannot know more than the language.
    assert stated["loss"] < runs["loss"].item() < math.log(9)
