"""`llmscale data report` says what cleaning removes and how a text is spread, the same of a source
and of the store that is made of it."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmscale.commands import app
from llmscale.measure.text import stored_documents
from llmscale.measure.text.skew import Lengths, Origins, gini, origin_of
from llmscale.measure.text.store import TokenStore

CLEAN = ("--clean", "personal-data,near-duplicates,gopher-quality")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "cache"))


def llmscale(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A hundred documents of one site, 20 of another, each one's near duplicate, and dirt."""
    rng = random.Random(0)
    rows = []
    for number in range(120):
        words = rng.choices(["one", "two", "three", "the", "of", "and", "alpha", "beta"], k=40)
        text = " ".join([*words, *(f"word{rng.randrange(999)}" for _ in range(120))])
        site = "https://www.a.org/x" if number < 100 else "https://b.net/y?z"
        rows += [(f"{text} me{number}@b.net", site), (f"{text} end", site)]
    rows += [("\x1b[31m" + "# " * 80, "c/d/e/f"), ("", "c/d/e/f")]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": a, "url": b}) + "\n" for a, b in rows))
    return path


def test_report_says_what_each_step_did_and_where_documents_come_from(corpus: Path) -> None:
    done = llmscale("report", corpus, *CLEAN, "--origin-column", "url", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["documents_read"] == 242
    assert found["documents"] == 120
    assert found["complete"]
    counts = {name: effect["dropped"] for name, effect in found["effects"].items()}
    assert list(counts) == [
        "personal-data",
        "too-short",
        "gopher-quality",
        "exact-duplicates",
        "near-duplicates",
    ]
    assert counts["too-short"] == counts["gopher-quality"] == 1
    assert counts["near-duplicates"] == found["effects"]["personal-data"]["changed"] == 120
    assert found["effects"]["gopher-quality"]["rules"] == {"mean word length": 1}
    assert found["origins"]["documents"] == {"a.org": 100, "b.net": 20}
    assert found["origins"]["effective_number"] == pytest.approx(1.569, abs=0.02)
    assert found["lengths"]["documents"] == 120
    assert found["overlap"]["share"] < 0.01
    shown = llmscale("report", corpus, *CLEAN, "--origin-column", "url", "--samples", 2)
    assert shown.exit_code == 0, shown.output
    assert "\x1b[31m" not in shown.stdout  # what a document says is no order to the terminal
    assert "<EMAIL>" in shown.stdout
    assert "a.org (100 documents)" in shown.stdout
    for line in (
        "gopher-quality: drop what does not look like prose",
        "  documents dropped for: mean word length (1)",
        "  an example, before and after:",
    ):
        assert line in shown.stdout.splitlines()
    assert "an example of what was dropped (mean word length: " in shown.stdout
    assert "runs of 13 words of the validation text" in shown.stdout


def test_a_store_is_reported_on_as_its_source_is(corpus: Path) -> None:
    prepared = llmscale("prepare", corpus, *CLEAN, "--tokenizer", "bpe:300", "--json")
    assert prepared.exit_code == 0, prepared.output
    store = json.loads(llmscale("report", json.loads(prepared.stdout)["path"], "--json").stdout)
    source = json.loads(llmscale("report", corpus, *CLEAN, "--json").stdout)
    assert store["overlap"] == source["overlap"]
    assert store["documents"] == source["documents"]
    for name in ("personal-data", "gopher-quality", "near-duplicates"):
        assert store["effects"][name] == source["effects"][name]
    assert store["tokens"] > store["documents"]
    assert "near-duplicates dropped 120 documents and changed 0" in llmscale(
        "prepare", corpus, *CLEAN, "--tokenizer", "bpe:300"
    ).stdout.replace("\n", " ")


def test_of_a_large_store_a_sample_is_read_and_said(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = llmscale("prepare", corpus, *CLEAN, "--tokenizer", "bpe:300", "--json")
    store = TokenStore.open(json.loads(prepared.stdout)["path"])
    whole = json.loads(llmscale("report", store.path, "--json").stdout)
    assert whole["sample"] is None
    monkeypatch.setattr(stored_documents, "_BLOCK", 4000)
    blocks = json.loads(llmscale("report", store.path, "--json").stdout)
    assert blocks == whole
    done = llmscale("report", store.path, "--json", "--bytes", store.bytes_per_token * 20_000)
    found = json.loads(done.stdout)
    sample = found["sample"]
    assert sample["of_tokens"] == store.train_tokens + store.validation_tokens
    assert 10_000 < sample["tokens"] < 40_000 < sample["of_tokens"]
    assert sample["documents"] == found["lengths"]["documents"] < whole["lengths"]["documents"]
    assert found["lengths"]["mean"] == pytest.approx(whole["lengths"]["mean"], rel=0.1)
    for name in ("documents", "documents_read", "bytes", "tokens", "effects"):
        assert found[name] == whole[name]
    assert f"drawn by lot (seed 0), {sample['tokens']:,} of" in done.stderr.replace("\n", " ")
    for options in (("--origin-column", "url"), CLEAN):
        refused = llmscale("report", store.path, *options)
        assert refused.exit_code == 2
        assert "is a token store" in refused.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{corpus}", "--clean", "gopher"], "there is no cleaning step 'gopher'"),
        (["{corpus}", "--origin-column", "site"], "no column 'site'"),
        (["{corpus}", "--bytes", "0"], "not above zero"),
        (["{latin}"], "is not UTF-8 at byte 3"),
        (["synthetic:markov"], "has no end"),
    ],
)
def test_wrong_input_is_one_sentence(arguments: list[str], message: str, corpus: Path) -> None:
    latin = corpus.with_name("latin.txt")
    latin.write_bytes(b"caf\xe9")
    named = [word.format(corpus=corpus, latin=latin) for word in arguments]
    done = llmscale("report", *named)
    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")
    assert done.stdout == ""


def test_little_text_is_reported_on_without_an_overlap(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a few words")
    done = llmscale("report", tmp_path / "few.txt", "--json")
    assert json.loads(done.stdout)["overlap"] is None
    assert "too little to hold some out" in done.stderr.replace("\n", " ")


def test_skew_agrees_with_its_definitions() -> None:
    import numpy as np

    assert gini(np.array([5.0, 5.0, 5.0])) == pytest.approx(0)
    assert gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)
    values = np.random.default_rng(0).lognormal(5, 1, 400)
    pairs = np.abs(values[:, None] - values[None]).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(pairs)
    lengths = Lengths("bytes")
    lengths.add(values.round().astype(np.int64))
    spread = lengths.spread()
    assert spread.gini == pytest.approx(pairs, abs=0.01)
    assert spread.quantiles["0.5"] == pytest.approx(np.median(values), rel=0.03)
    assert sum(one.documents for one in spread.histogram) == 400
    origins = Origins()
    for name in "abcd":
        origins.add(name, 10)
    assert origins.shares().effective_number == pytest.approx(4)
    places = ("https://www.a.org/b?c", "a/b/c/d.txt", "a/b.txt", "b.txt", "http://[x")
    assert [origin_of(place) for place in places] == ["a.org", "a/b", "a", "b.txt", "http://[x"]
