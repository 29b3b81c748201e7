"""Each step of cleaning does what its source says, on documents made for it, and the same whether
it goes on after a stop or not."""

import json
import os
import random
import signal
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmscale.errors import InputError, WorkError
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text import build_store, cleaning_in_order, documents
from llmscale.measure.text.clean import Compare, Judge, Rewrite, open_steps, pin_steps
from llmscale.measure.text.cleaner import EXACT_DUPLICATES, TOO_SHORT, Cleaner
from llmscale.measure.text.cleaning_in_order import clean_in_order, cleaning_processes
from llmscale.measure.text.overlap import OverlapMeter
from llmscale.measure.text.prepare import TextSpec, prepare
from llmscale.measure.text.spec import Cleaning
from llmscale.measure.text.words import Words

WORDS = (Path(__file__).read_text(encoding="utf-8") + json.__doc__ + random.__doc__).split()
"""Some real words, to draw made documents from."""


def prose(seed: int, words: int = 120) -> str:
    """A document of random words and full stops that every filter keeps."""
    rng = random.Random(seed)
    made = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 8))) for _ in range(words)]
    made[::9] = ["that", *["with"] * (len(made[::9]) - 1)]
    return " ".join(made)


def dropped(step: str, *texts: str) -> dict[int, Any]:
    (judge,) = open_steps([step])
    assert isinstance(judge, Judge)
    return dict(judge.dropped(Words(texts)))


def rewritten(step: str, text: str) -> str | None:
    (rewrite,) = open_steps([step])
    assert isinstance(rewrite, Rewrite)
    return rewrite.rewritten(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (prose(1, 49), "words"),
        (prose(1, 50), None),
        (prose(1, 100_001), "words"),
        ("with that " + "ab " * 60, "mean word length"),
        ("with that " + "abcdefghijklmnop " * 60, "mean word length"),
        (prose(1) + " #" * 14, "hashes a word"),  # of 134 words: 10.4%
        (prose(1) + " #" * 13, None),  # of 133: 9.8%
        (prose(1) + "…" * 13, "ellipses a word"),  # of 120: 10.8%
        ("\n".join(f"- {prose(n, 6)}" for n in range(20)), "lines that begin with a bullet"),
        ("\n".join(f"• {prose(n, 9)}" for n in range(9)) + "\nwith that", None),  # 90% of lines
        (
            "\n".join([f"{prose(n, 20)}..." for n in range(4)] + [prose(9, 20)] * 9),
            "lines that end with an ellipsis",  # 4 of 13 lines: 30.8%
        ),
        (prose(1, 100) + " 123" * 26, "words with a letter"),  # 79.4%
        (prose(1, 100) + " 123" * 25, None),  # 80%
        (prose(1).replace("that", "thut").replace("with", "wuth"), "frequent words"),
        (prose(1).replace("that", "thut") + " The, end", None),  # `The,` is `the`
    ],
)
def test_gophers_quality_filter_has_the_limits_of_its_paper(text: str, rule: str | None) -> None:
    reasons = dropped("gopher-quality", prose(0), text)
    assert 0 not in reasons
    assert (reasons[1].rule if 1 in reasons else None) == rule


def test_gophers_repetition_filter_agrees_with_counting_by_hand() -> None:
    lines = [prose(number, 10) for number in range(10)]
    four_again = "\n".join([*lines, *lines[:5]])  # 5 of 15 lines: 33%
    two_again = "\n".join([*lines, lines[0][:4]])
    assert dropped("gopher-repetition", four_again)[0].rule == "duplicate lines"
    assert not dropped("gopher-repetition", two_again, prose(3))
    paragraph = f"{prose(1, 30)}\n{prose(2, 30)}"
    others = [f"{prose(n, 40)}" for n in range(3, 6)]
    again = "\n\n".join([paragraph, *others, paragraph])
    # 2 of 7 lines; 60 of 240 words: more than 20% of characters.
    assert dropped("gopher-repetition", again)[0].rule == "characters in duplicate lines"
    # `aaaa bbbb` 11 times, once after the other: 88 of 88 + 240 characters, and no two in a row.
    filler = [f"w{n:03}" for n in range(60)]
    pairs = " ".join(f"aaaa bbbb {filler[n]}" for n in range(11))
    rest = " ".join(filler[11:])
    reason = dropped("gopher-repetition", f"{pairs} {rest}")[0]
    assert (reason.rule, reason.found) == ("most frequent 2-gram", f"{88 / (88 + 240):.2f}")


def test_characters_in_several_duplicate_ngrams_count_once() -> None:
    # 20 of 100 words stand there twice in a row of words that differ: their second time is 20% of
    # all characters, in sixteen 5-grams that overlap.
    words = [f"w{n:03}" for n in range(80)]
    reason = dropped("gopher-repetition", " ".join([*words, *words[:20]]))[0]
    assert (reason.rule, reason.found) == ("duplicate 5-grams", "0.20")
    assert not dropped("gopher-repetition", " ".join([*words, *words[:8]]))  # 8 of 88: 9%


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to jane.doe+x@mail.example.co.uk.", "Write to <EMAIL>."),
        ("call 555-123-4567 or (212) 555-0199", "call <PHONE> or <PHONE>"),
        ("+44 20 7946 0958, Tel. 030 1234567", "<PHONE>, Tel. <PHONE>"),
        ("at 93.184.216.34:80", "at <IP_ADDRESS>:80"),
        ("at 2606:2800:220:1:248:1893:25c8:1946", "at <IP_ADDRESS>"),
        ("4111 1111 1111 1111 and 378282246310005", "<CARD> and <CARD>"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN <IBAN>."),
        ("to GB29NWBK60161331926819, now", "to <IBAN>, now"),
        ("key gh" + "p_" + "a1B2" * 9, "key <SECRET>"),
        ("id AK" + "IA" + "ABCDEFGHIJKLMNOP", "id <SECRET>"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert rewritten("personal-data", text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png, react@17.0.2, @app.route and x @ y",
        "4111-1111-1111-1112 fails Luhn's check; DE89 3704 0044 0532 0130 01 fails its own",
        "1.2.3.4, version 93.184.216.34, v8.100.2.40, 192.168.0.1, 127.0.0.1, OID 2.5.29.37",
        "pi is 3.14159265358979, on 2014-05-06 at 12:30, ISBN 978-3-16-148410-0, 1,000,000,000",
        "550e8400-e29b-41d4-a716-446655440000 and doi 10.1145/3292500.3330701, 2001:db8::1",
        "std::vector<int> a[100000]; x += 1234567890; C++11 2014, +1 000 000",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert rewritten("personal-data", text) == text


def test_boilerplate_lines_go_and_sentences_on_them_stay() -> None:
    sentence = "A study of how a site that uses cookies " + "keeps its visitors " * 10
    text = f"Title\nThis site uses cookies.\nhttps://example.com/a?b=1\n{sentence}\nsee https://x.y"
    assert rewritten("boilerplate", text) == f"Title\n{sentence}\nsee https://x.y"
    assert rewritten("boilerplate", "All rights reserved.\n\n") is None
    assert rewritten("boilerplate", "plain") == "plain"


def test_only_the_languages_that_are_named_are_kept() -> None:
    texts = (
        "The quick brown fox jumps over the lazy dog, and nobody knows why it does so.",
        "Der schnelle braune Fuchs springt über den faulen Hund, und niemand weiß warum.",
        "Le renard brun saute par-dessus le chien paresseux, et personne ne sait pourquoi.",
        "0x00 \x00 ffff 1234 {} [] 99",
    )
    found = dropped("language:en+de", *texts)
    assert {number: reason.found for number, reason in found.items()} == {2: "fr", 3: "unknown"}


def test_a_word_is_the_same_whatever_case_and_punctuation_it_has() -> None:
    words = Words(["The, “naïve” ÉCOLE -- 12.5", "the naïve école 125"])
    first, second = words.plain_W[:5], words.plain_W[5:]
    assert first[3] == 0
    assert np.array_equal(np.delete(first, 3), second)
    assert not set(words.exact_W[:5]) & set(words.exact_W[5:])


def near(text: str, share: float, seed: int) -> str:
    """`text` with a share of its words changed."""
    rng = random.Random(seed)
    words = text.split()
    for place in rng.sample(range(len(words)), round(share * len(words))):
        words[place] = f"x{rng.randrange(10**6)}"
    return " ".join(words)


def jaccard(one: str, other: str) -> float:
    """The share of 5-grams that two texts have in common."""
    sets = [
        {tuple(words[place : place + 5]) for place in range(len(words) - 4)}
        for words in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_near_duplicates_are_found_as_often_as_the_theory_says() -> None:
    originals = [prose(seed, 300) for seed in range(100)]
    for share in (0.005, 0.02, 0.06, 0.2):
        copies = [near(text, share, seed) for seed, text in enumerate(originals)]
        cleaner = Cleaner(Cleaning(steps=("near-duplicates",)))
        cleaned = cleaner.clean([*originals, *copies])
        assert set(range(100)) <= set(cleaned.numbers)  # none of what differs is dropped
        found = cleaned.effects.get("near-duplicates")
        rate = (found.dropped if found else 0) / 100
        likeness = [jaccard(*pair) for pair in zip(originals, copies, strict=True)]
        expected = float(np.mean([1 - (1 - s**8) ** 14 for s in likeness]))
        assert rate == pytest.approx(expected, abs=4 * (0.25 / 100) ** 0.5 / 2)


def test_what_was_dropped_hides_nothing_and_texts_without_words_are_not_alike() -> None:
    cleaner = Cleaner(Cleaning(steps=("gopher-quality", "near-duplicates"), min_characters=3))
    noise = "#### " * 100
    cleaned = cleaner.clean([prose(1), noise, prose(1), prose(1) + " end", "--", "a"])
    assert cleaned.numbers == (0,)
    counts = {name: effect.dropped for name, effect in cleaned.effects.items()}
    assert counts == {TOO_SHORT: 2, "gopher-quality": 1, EXACT_DUPLICATES: 1, "near-duplicates": 1}
    alone = Cleaner(Cleaning(steps=("near-duplicates",)))
    assert len(alone.clean(["-- !!", "== ??", "模型", "规模"]).documents) == 4


def test_steps_are_taken_in_one_order_however_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def shout(text):\n    return None if 'no' in text else text.upper()\n", encoding="utf-8"
    )
    asked = ["near-duplicates", "language:en", f"{tmp_path}/mine.py:shout", "boilerplate"]
    pinned = pin_steps(",".join(asked))
    assert pinned == pin_steps(",".join(reversed(asked)))
    kinds = [type(step).__mro__[1] for step in open_steps(pinned)]
    assert kinds[-2:] == [Judge, Compare]
    assert rewritten(pin_steps(asked[2])[0], "yes") == "YES"
    assert rewritten(pin_steps(asked[2])[0], "no") is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("gopher-qualty", "there is no cleaning step 'gopher-qualty'"),
        ("language", "the cleaning step language has no language ''"),
        ("language:klingon", "has no language 'klingon'"),
        ("near-duplicates,near-duplicates", "near-duplicates is asked for twice"),
        ("near-duplicates:0.9", "near-duplicates takes no argument, and got '0.9'"),
        ("language:en,language:de", "asked for twice"),
        ("./none.py:step", "there is no file"),
    ],
)
def test_a_step_that_is_none_is_refused_before_any_work(asked: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_steps(TextSpec(cleaning=Cleaning(steps=(asked,))).cleaning.steps)


def test_a_mistake_in_a_step_of_ones_own_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def step(text):\n    return 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="returns int, and not text"):
        open_steps(pin_steps(f"{tmp_path}/mine.py:step"))
    (tmp_path / "mine.py").write_text("def step(text):\n    return 1 / 0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.py, line 2 fails on a document"):
        open_steps(pin_steps(f"{tmp_path}/mine.py:step"))
    seen = "seen = []\ndef step(text):\n    seen.append(text)\n    return text * len(seen)\n"
    (tmp_path / "mine.py").write_text(seen, encoding="utf-8")
    with pytest.raises(InputError, match="makes different texts of the same document"):
        open_steps(pin_steps(f"{tmp_path}/mine.py:step"))


def corpus(folder: Path) -> Path:
    """Documents, each with a near duplicate of one before, dirt, or an e-mail address."""
    path, rng = folder / "corpus.jsonl", random.Random(0)
    texts: list[str] = []
    for number in range(240):
        kind = number % 4
        text = prose(number)
        if kind == 1:
            text = near(prose(4 * rng.randrange(number // 4 + 1)), 0.01, number)
        elif kind == 2:
            text = "ab " * 60
        elif kind == 3:
            text += f" a{number}@example.com"
        texts.append(text)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


STEPS = ("gopher-quality", "near-duplicates", "personal-data")


def test_a_store_that_is_extended_is_the_one_that_is_built_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 20_000)
    monkeypatch.setattr(build_store, "_JOURNAL_BATCHES", 2)
    source = str(corpus(tmp_path))
    plain = TextSpec(source, tokenizer="bpe:300", validation_tokens=2_000)
    spec = replace(plain, cleaning=Cleaning(steps=STEPS))
    at_once = prepare(spec, cache=tmp_path / "one")
    for wanted in (3_000, 9_000, None):
        extended = prepare(spec, min_train_tokens=wanted, cache=tmp_path / "two")
        assert wanted is None or not extended.complete
    for name in ("train.bin", "validation.bin", "digests.bin", "marks-near-duplicates.bin"):
        assert (at_once.path / name).read_bytes() == (extended.path / name).read_bytes()
    assert at_once.meta["dropped"] == extended.meta["dropped"]
    steps = at_once.meta["dropped"]["steps"]
    assert steps["gopher-quality"]["dropped"] == 60
    assert steps["near-duplicates"]["dropped"] == 60
    assert steps["personal-data"]["changed"] >= 60
    without = prepare(plain, cache=tmp_path / "one")
    assert without.fingerprint != at_once.fingerprint
    assert "steps" not in without.meta["dropped"]
    extended.check()
    (extended.path / "marks-near-duplicates.bin").write_bytes(b"x" * 8)
    with pytest.raises(InputError, match=r"marks-near-duplicates\.bin"):
        extended.check()


def test_without_steps_nothing_is_said_of_them_so_that_stores_keep_their_names() -> None:
    before = {"min_characters": 1, "normalise_newlines": True, "drop_duplicates": True}
    assert TextSpec().stated()["cleaning"] == before  # as written before there were steps
    basis = SweepSpec(sizes=("1M",), data=TextSpec()).basis()
    assert basis["data"]["cleaning"] == before


def test_cleaning_streams_and_its_memory_does_not_grow_with_the_text() -> None:
    steps = ("boilerplate", "gopher-quality", "gopher-repetition", *STEPS[1:], "language:en")

    def peak(batches: int) -> int:
        cleaner = Cleaner(Cleaning(steps=steps))
        tracemalloc.start()
        for batch in range(batches):
            cleaner.clean(list(made(batch)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    def made(batch: int) -> Iterator[str]:
        rng = random.Random(batch)
        for _ in range(20):
            yield " ".join(rng.choices(WORDS, k=200))

    few, many = peak(2), peak(8)
    assert many < few + 1_000_000


def test_on_several_cores_the_same_is_kept_and_the_death_of_a_process_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = ("boilerplate", "personal-data", "gopher-quality", "near-duplicates")
    texts = [prose(number % 40, 40 + number % 7) for number in range(120)]
    texts += ["ab " * 60, "write to a@b.org\n" + prose(99), ""] * 10
    random.Random(0).shuffle(texts)
    parts = [(texts[first : first + 10], first) for first in range(0, len(texts), 10)]

    def cleaned(workers: int) -> list[Any]:
        cleaner = Cleaner(Cleaning(steps=steps))
        found = list(clean_in_order(iter(parts), cleaner, workers))
        return [
            (one.documents, one.numbers, list(one.effects.items()), one.marks["near-duplicates"])
            for one, _ in found
        ]

    alone = cleaned(1)
    monkeypatch.setattr(cleaning_in_order, "_ALONE_CHARACTERS", 2000)
    assert repr(cleaned(2)) == repr(alone)
    assert sum(len(one[0]) for one in alone) not in (0, len(texts))
    with cleaning_processes(Cleaning(steps=steps), 1) as processes:
        assert processes.submit(texts[:3]).result().read == 3
        process = processes._idle.get()
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(WorkError, match="a process that cleans text ended with exit code -9"):
            process.ask(texts)
    assert process._process.returncode is not None


def test_a_huge_document_is_judged_by_its_beginning() -> None:
    huge = prose(1, 200) + " " + "x" * 10_000_000
    tracemalloc.start()
    Cleaner(Cleaning(steps=("gopher-quality", "near-duplicates"))).clean([huge])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000


def test_overlap_is_the_share_of_validation_ngrams_that_training_has() -> None:
    shared, own = prose(1, 40), prose(2, 40)
    meter = OverlapMeter()
    meter.hold([f"{shared} {own}", own, "too short"])
    meter.read([prose(3, 500), f"{prose(4)} {shared.upper()}, zzz {prose(5)}"])
    found = meter.overlap()
    assert found is not None
    # 68 13-grams of the first document, of which 28 are within `shared`; 28 of the second.
    assert found.ngrams == 68 + 28
    assert found.share == pytest.approx(28 / 96)
    assert (found.documents, found.documents_mostly_seen) == (2, 0)
    assert OverlapMeter().overlap() is None
