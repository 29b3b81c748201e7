"""Languages of known entropy: against brute force, enumeration, and what their texts say."""

import hashlib
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from languages import dense, every_language, rate, symbols_of
from scipy import stats
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.measure.text.automaton import Automaton
from llmscale.measure.text.chances import UNITS, Draws, exp, in_units, log, zipf
from llmscale.measure.text.languages import Language, language_of
from llmscale.measure.text.languages._phrases import END, automaton_of
from llmscale.measure.text.languages.grammar import Grammar
from llmscale.measure.text.languages.markov import Markov
from llmscale.measure.text.languages.quanta import Quanta
from llmscale.measure.text.sources import open_source
from llmscale.measure.text.true_loss import known_choices


def brute_rate(automaton: Automaton) -> float:
    """The entropy rate in nats a token: the stationary distribution by linear algebra."""
    table = dense(automaton)
    onward = table.sum(axis=1)
    states = len(onward)
    system = np.vstack([onward.T - np.eye(states), np.ones(states)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(states), 1.0), rcond=None)[0]
    chances = table.sum(axis=2)
    terms = np.where(chances > 0, chances * np.log(np.where(chances > 0, chances, 1.0)), 0.0)
    return float(-(stationary @ terms.sum(axis=1)))


def test_logarithms_powers_and_draws_are_those_of_the_textbook() -> None:
    x = np.geomspace(1e-300, 1e300, 5001)
    assert np.allclose(log(x), [math.log(one) for one in x], rtol=1e-15, atol=1e-15)
    powers = np.linspace(-700, 700, 5001)
    assert np.allclose(exp(powers), [math.exp(one) for one in powers], rtol=3e-13)
    assert zipf(5, 2.0) == pytest.approx(
        [r**-2 / sum(k**-2 for k in range(1, 6)) for r in range(1, 6)]
    )
    draws = Draws(3)
    for shape in (0.2, 1.0, 7.5):
        sample = draws.gammas(np.full(20_000, shape))
        assert stats.kstest(sample, stats.gamma(shape).cdf).pvalue > 1e-3
    assert stats.kstest(draws.uniforms(20_000), "uniform").pvalue > 1e-3
    assert stats.chisquare(np.bincount(draws.units(20_000) >> 28, minlength=16)).pvalue > 1e-3
    assert sorted(draws.permutation(50)) == list(range(50))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(any))
def test_chances_add_up_exactly_and_are_off_by_no_more_than_they_must(weights: list[float]) -> None:
    units = in_units(np.array(weights))
    assert units.sum() == UNITS
    assert (units >= 0).all()
    exact = np.array(weights) / sum(weights) * UNITS
    assert np.abs(units - exact).max() <= len(weights)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        Markov,
        seed=st.integers(0, 99),
        order=st.integers(1, 3),
        symbols=st.integers(2, 4),
        zipf=st.floats(0, 2),
        concentration=st.floats(0.01, 50),
        length=st.floats(1.5, 500),
        opening=st.integers(0, 3),
    )
    | st.builds(
        Quanta,
        seed=st.integers(0, 99),
        keys=st.sampled_from([4, 9, 16]),
        answers=st.integers(2, 5),
        exponent=st.floats(0.01, 3),
        noise=st.floats(0, 1),
        length=st.floats(1.5, 500),
        opening=st.integers(0, 3),
    )
    | st.builds(
        Grammar,
        words=st.integers(10, 20),
        zipf=st.floats(0, 2),
        depth=st.integers(0, 2),
        length=st.floats(1.5, 100),
        opening=st.integers(0, 2),
    )
)
def test_the_entropy_is_that_of_the_stationary_distribution(language: Language) -> None:
    automaton = language.automaton()
    assert rate(automaton) == pytest.approx(brute_rate(automaton), rel=1e-9)


def test_an_even_chain_has_the_entropy_of_a_die() -> None:
    # Without structure there are the die and the coin that ends the document.
    even = Markov(order=1, symbols=8, zipf=0.0, concentration=1e6, length=4.0, opening=0)
    coin = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    # Four symbols, each but the first after a coin, and the coin that ends it.
    assert even.automaton().nats_per_document == pytest.approx(4 * math.log(8) + 4 * coin, rel=1e-4)
    assert even.automaton().symbols_per_document == pytest.approx(4.0, rel=1e-6)


@every_language
def test_a_long_text_tells_as_much_as_the_entropy_says(name: str) -> None:
    automaton = language_of(name)().automaton()
    source = open_source(f"synthetic:{name},documents=1500")
    tokenizer = source.tokenizer()
    assert tokenizer is not None
    texts = [text for shard in range(len(source.shards)) for text in source.documents(shard)]
    assert len(texts) == len(set(texts)) == 1500
    numbers = [np.array([*tokenizer.encode(text).ids, automaton.end]) for text in texts]
    symbols_of_each = np.array([len(found) for found in numbers])
    begins = np.append(0, symbols_of_each.cumsum()[:-1])
    nats = automaton.nats[known_choices(automaton, np.concatenate(numbers))]
    for seen, expected in (
        (np.add.reduceat(nats, begins), automaton.nats_per_document),
        (symbols_of_each - 1, automaton.symbols_per_document),
        (np.array([len(text.encode()) for text in texts]), automaton.bytes_per_document()),
    ):
        error = seen.std() / math.sqrt(len(seen))
        assert abs(seen.mean() - expected) < 4 * error
        assert error < 0.03 * expected
    assert source.estimated_bytes() == pytest.approx(sum(map(len, texts)), rel=0.1)


SENTENCES: dict[str, Any] = {
    "text": [(1.0, ("sentence", END))],
    "sentence": [(0.7, ("name", "says", "clause")), (0.3, ("name", "sleeps"))],
    "clause": [(0.4, ("that", "short")), (0.6, ())],
    "short": [(1.0, ("name", "sleeps"))],
}
KINDS: dict[str, Any] = {
    "name": ([0, 1, 2], zipf(3, 1.0)),
    "says": ([3], np.ones(1)),
    "sleeps": ([4, 5], np.array([0.9, 0.1])),
    "that": ([6], np.ones(1)),
}


def sentences(parts: tuple[str, ...]) -> list[tuple[float, tuple[int, ...]]]:
    """Every text of the grammar with its chance, derivation by derivation."""
    if not parts:
        return [(1.0, ())]
    top, rest = parts[0], parts[1:]
    if top in SENTENCES:
        ways = [(chance, sentences((*way, *rest))) for chance, way in SENTENCES[top]]
        return [(chance * more, text) for chance, found in ways for more, text in found]
    numbers, chances = ([7], np.ones(1)) if top == END else KINDS[top]
    return [
        (chance * more, (number, *text))
        for number, chance in zip(numbers, chances.tolist(), strict=True)
        for more, text in sentences(rest)
    ]


def test_the_entropy_of_a_grammar_is_that_of_all_its_sentences() -> None:
    found = sentences(("text",))
    chances = np.array([chance for chance, _ in found])
    assert chances.sum() == pytest.approx(1.0)
    assert len({text for _, text in found}) == len(found), "each text has one derivation"
    # `says` is followed by `clause`, which says itself what it begins with, so that `sentence` has
    # two ways that begin with a name: told apart only by the next word.
    grammar = {**SENTENCES, "sentence": [(1.0, ("name", "rest"))]}
    grammar["rest"] = [(0.7, ("says", "clause")), (0.3, ("sleeps",))]
    automaton = automaton_of([*"abcdefg"], grammar, KINDS, "text")
    assert automaton.nats_per_document == pytest.approx(
        -(chances * np.log(chances)).sum(), rel=1e-6
    )
    with pytest.raises(AssertionError, match="a symbol stands twice in a state"):
        automaton_of([*"abcdefg"], SENTENCES, KINDS, "text")


def test_the_entropy_of_the_grammar_is_the_sum_over_its_rules() -> None:
    language = Grammar(words=20, depth=2, length=5.0, opening=0)
    rules, (_, kinds) = language.rules(), language.vocabulary()

    def own(chances: Any) -> float:
        return float(-sum(chance * math.log(chance) for chance in chances))

    # H(phrase) = H(choice) + sum over ways of their chance times the entropy of their parts; the
    # phrases that go on for ever do so with a chance below 1, so that this settles.
    entropy = {kind: own(chances) for kind, (_, chances) in kinds.items()} | {END: 0.0}
    entropy |= dict.fromkeys(rules, 0.0)
    for _round in range(400):
        for phrase, ways in rules.items():
            parts = sum(chance * sum(entropy[part] for part in way) for chance, way in ways)
            entropy[phrase] = own(chance for chance, _ in ways if chance) + parts
    assert language.automaton().nats_per_document == pytest.approx(entropy["text"], rel=1e-6)


def test_whoever_counts_comes_nearer_with_the_exponent_of_the_law() -> None:
    exponent, answers = 1.0, 8
    language = Quanta(
        keys=2500, answers=answers, exponent=exponent, noise=0.0, length=100.0, opening=0
    )
    automaton = language.automaton()
    symbols = symbols_of(automaton, 4000)
    facts = symbols[symbols != automaton.end].reshape(-1, 3)
    keys = facts[:, 0] * 50 + facts[:, 1]
    chances = zipf(2500, 1 + exponent)
    budgets = np.geomspace(300, 30_000, 9).astype(int)
    # Without noise one who has seen a key knows its answer, and else loses ln(answers).
    excess = []
    for budget in budgets:
        parts = keys[: len(keys) // budget * budget].reshape(-1, budget)[:40]
        unseen = [1 - chances[np.unique(part)].sum() for part in parts]
        excess.append(np.mean(unseen) * math.log(answers))
    slope = np.polyfit(np.log(budgets), np.log(excess), 1)[0]
    assert -slope == pytest.approx(exponent / (1 + exponent), abs=0.05)


DIGESTS = {
    "markov": "c52bfc2db7e71201",
    "grammar": "adbc3ea6e5bbe631",
    "quanta": "7884ffd081085f20",
}
"""Of the first documents: they are to be the same on every machine and for ever."""


@every_language
def test_a_language_is_the_same_on_every_machine(name: str) -> None:
    source = open_source(f"synthetic:{name},seed=5")
    digest = hashlib.sha256()
    for shard in (0, 3):
        for text in itertools.islice(source.documents(shard), 500):
            digest.update(text.encode() + b"\0")
    assert digest.hexdigest()[:16] == DIGESTS[name]
    assert source.fingerprint() != open_source(f"synthetic:{name},seed=6").fingerprint()


@every_language
def test_a_text_can_be_begun_anywhere_and_a_longer_one_begins_with_a_shorter(name: str) -> None:
    endless = open_source(f"synthetic:{name}")
    per_shard = len(list(endless.documents(1)))
    short = open_source(f"synthetic:{name},documents={per_shard + 100}")
    assert len(short.shards) == 2
    assert endless.is_endless
    assert not short.is_endless
    first, second = (list(short.documents(shard)) for shard in range(2))
    assert len(first) == per_shard
    assert len(second) == 100
    assert first == list(endless.documents(0))
    assert second == list(endless.documents(1))[:100]
    for start in (1, 63, 99, 100):
        assert list(short.documents(1, start)) == second[start:]
    assert list(endless.documents(0, 777)) == first[777:]
    assert set(first).isdisjoint(second)
    described = endless.describe()
    assert json.loads(json.dumps(described)) == described


BAD = {
    "": "synthetic: names no language",
    "mrkov": "there is no synthetic language 'mrkov'",
    "markov,ordr=2": "has no setting 'ordr'",
    "markov,order": "'order' in --data synthetic:markov is no setting",
    "markov,order=two": "'two' is not a number",
    "markov,order=1.5": "'1.5' is no whole number",
    "markov,order=0": "order is 0, which is out of range",
    "markov,order=1,order=2": "order is given twice",
    "markov,unit=letters": "unit 'letters' is not known",
    "markov,symbols=100": "there are 88 characters to write symbols with",
    "markov,order=9": "more than the 4,194,304 that are kept",
    "markov,concentration=nan": "concentration is nan",
    "markov,tokens=1M,bytes=1M": "tokens and bytes, which say the same",
    "markov,tokens=-5": "-5",
    "markov,tokens=1e14": "tokens=1e+14, more than the 2.74e+10 that",
    "markov": "has no end, and all of it was asked for",
    "quanta,keys=5": "5 keys and 16 answers cannot be written",
    "quanta,noise=2": "noise is 2.0, which is out of range",
    "grammar,depth=9": "depth is 9, which is out of range",
    "grammar,words=many": "'many' is not a number",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_one_sentence_and_nothing_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path))
    found = CliRunner().invoke(app, ["data", "prepare", f"synthetic:{name}"])
    assert found.exit_code == 2
    assert BAD[name] in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.iterdir())


def test_the_options_of_datasets_are_refused() -> None:
    with pytest.raises(InputError, match="split= names a part of a dataset"):
        open_source("synthetic:markov", split="test")
