"""The token store holds what the source says, on the right side of the split, whatever happens
while it is built.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from llmscale.errors import InputError, WorkError
from llmscale.machine.cache import cache_folder
from llmscale.measure.text import build_store as token_files
from llmscale.measure.text import checksums, cleaning, documents
from llmscale.measure.text import prepare as tokens
from llmscale.measure.text.checksums import RunningChecksum, check_file
from llmscale.measure.text.cleaning import Document, Seen, clean
from llmscale.measure.text.documents import FEWEST_DOCUMENTS, LARGEST_SHARE, Survey, choose_split
from llmscale.measure.text.prepare import Progress, TextSpec, TokenStore, prepare
from llmscale.measure.text.spec import Cleaning

WORDS = [
    "scaling",
    "law",
    "loss",
    "token",
    "model",
    "data",
    "compute",
    "sweep",
    "fit",
    "floor",
    "width",
    "depth",
]

BUILD = """
import sys, time
from pathlib import Path
from llmscale.measure.text import build_store, documents
from llmscale.measure.text.prepare import TextSpec, prepare
documents.BATCH_CHARACTERS, build_store._JOURNAL_BATCHES = 5_000, 3
def show(progress):
    print(progress.stage, flush=True)
    time.sleep(0.01)
store = prepare(TextSpec(sys.argv[1], tokenizer="bpe:300"), cache=Path(sys.argv[2]), progress=show)
print("done", store.path, flush=True)
"""


def write_corpus(path: Path, count: int = 300, seed: int = 0) -> list[str]:
    """Documents of random words, one a line of JSON; none equal."""
    rng = random.Random(seed)
    texts = [
        f"{number}: {' '.join(rng.choices(WORDS, k=rng.randint(5, 120)))}\n"
        for number in range(count)
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def stored_documents(store: TokenStore, part: np.ndarray) -> list[str]:
    ends = np.flatnonzero(part == store.end_of_text)
    assert ends[-1] == len(part) - 1, "a document ends at the end"
    tokenizer = store.tokenizer()
    return [
        tokenizer.decode(piece[:-1].tolist()) for piece in np.split(part, ends + 1) if len(piece)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and journal entries as often as in BUILD, so that small corpora have many."""
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 5_000)
    monkeypatch.setattr(token_files, "_JOURNAL_BATCHES", 3)


def test_every_document_is_stored_once_and_on_one_side(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "a.jsonl")
    store = prepare(
        TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300"), cache=tmp_path / "cache"
    )
    train, held_out = (
        stored_documents(store, store.train()),
        stored_documents(store, store.validation()),
    )
    assert sorted(train + held_out) == sorted(texts)
    assert 1 <= len(held_out) <= LARGEST_SHARE * 1.5 * len(texts)
    assert (
        store.validation_bytes
        == sum(len(text.encode()) for text in held_out)
        <= LARGEST_SHARE * len("".join(texts))
    )
    assert store.meta["train"]["documents"] == len(train)
    assert store.bytes_per_token == sum(map(len, train)) / store.train_tokens
    assert store.train().dtype == np.uint16
    assert isinstance(store.train(), np.memmap)
    assert store.vocab_size == 300
    assert store.complete
    assert TokenStore.open(store.path) == store


def test_equal_documents_are_kept_once_and_never_cross_the_split(tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "a.jsonl")
    copies = [text.replace("\n", "\r\n") for text in texts] + ["", " \n", "\t"]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in copies))
    spec = TextSpec(f"{tmp_path}/*.jsonl", tokenizer="bpe:300")
    once = prepare(spec, cache=tmp_path / "cache")
    assert once.meta["dropped"]["duplicates"] == len(texts)
    assert once.meta["dropped"]["too_short"] == 3
    kept = TextSpec(spec.source, tokenizer="bpe:300", cleaning=Cleaning(drop_duplicates=False))
    twice = prepare(kept, cache=tmp_path / "cache")
    assert twice.fingerprint != once.fingerprint
    train, held_out = (
        stored_documents(twice, twice.train()),
        stored_documents(twice, twice.validation()),
    )
    assert len(train) + len(held_out) == 2 * len(texts)
    assert not set(train) & set(held_out)


def test_a_tokenizer_that_was_given_is_not_said_to_be_trained(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    stages: list[str] = []

    def prepared(tokenizer: str) -> TokenStore:
        stages.clear()
        spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer=tokenizer)
        return prepare(spec, cache=tmp_path, progress=lambda done: stages.append(done.stage))

    trained = prepared("bpe:300")
    assert "tokenizer" in stages
    prepared(str(trained.path / "tokenizer.json"))
    assert "tokens" in stages
    assert "tokenizer" not in stages


def test_the_second_call_reads_nothing_again(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"))
    first = prepare(spec, cache=tmp_path / "cache")
    reports: list[Progress] = []
    assert prepare(spec, cache=tmp_path / "cache", progress=reports.append) == first
    (tmp_path / "other").mkdir()
    copied = str(shutil.copy2(tmp_path / "a.jsonl", tmp_path / "other"))
    again = prepare(TextSpec(copied), cache=tmp_path / "cache")
    assert (again.path, again.name) == (first.path, copied), "equal text under its own name"
    assert reports == []


@pytest.mark.parametrize(
    "other",
    [
        {"tokenizer": "bpe:301"},
        {"validation_tokens": 500},
        {"cleaning": Cleaning(min_characters=50)},
        {"cleaning": Cleaning(normalise_newlines=False)},
    ],
)
def test_whatever_decides_the_tokens_changes_the_fingerprint(
    other: dict[str, Any], tmp_path: Path
) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")
    first, second = (
        prepare(asked, cache=tmp_path / "cache") for asked in (spec, replace(spec, **other))
    )
    assert first.fingerprint != second.fingerprint
    assert first.meta["source"]["fingerprint"] == second.meta["source"]["fingerprint"]


@pytest.mark.usefixtures("small_batches")
def test_the_number_of_workers_does_not_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "_ALONE_BYTES", 20_000)
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")
    one, three = (
        prepare(spec, cache=tmp_path / f"cache{workers}", workers=workers) for workers in (1, 3)
    )
    assert contents(one.path) == contents(three.path)


@pytest.mark.usefixtures("small_batches")
def test_killed_at_any_moment_the_next_call_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    corpus = tmp_path / "a.jsonl"
    write_corpus(corpus)
    reference = prepare(TextSpec(str(corpus), tokenizer="bpe:300"), cache=tmp_path / "unbroken")
    cache = tmp_path / "killed"
    for stage, lines in (
        ("survey", 1),
        ("tokenizer", 1),
        ("tokens", 1),
        ("tokens", 5),
        ("tokens", 7),
    ):
        with _build(corpus, cache) as process:
            assert process.stdout is not None
            while lines:
                line = process.stdout.readline().strip()
                assert line in ("survey", "tokenizer", "tokens"), (
                    "it ended before it could be killed"
                )
                lines -= line == stage
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        with pytest.raises(InputError, match=r"is not (finished|a token store)"):
            TokenStore.open(cache / "tokens" / reference.fingerprint)
    journal = json.loads((cache / "tokens" / reference.fingerprint / "journal.json").read_text())
    assert journal["train"]["tokens"] > 0, "the kills came after work that was saved"
    store = prepare(TextSpec(str(corpus), tokenizer="bpe:300"), cache=cache)
    assert contents(store.path) == contents(reference.path)
    assert os.listdir(cache / "tokens") == [reference.fingerprint], (
        "no lock and no part is left behind"
    )


@pytest.mark.usefixtures("small_batches")
def test_processes_that_build_the_same_store_at_once_do_not_disturb_each_other(
    tmp_path: Path,
) -> None:
    corpus = tmp_path / "a.jsonl"
    write_corpus(corpus)
    reference = prepare(TextSpec(str(corpus), tokenizer="bpe:300"), cache=tmp_path / "alone")
    together = [_build(corpus, tmp_path / "shared") for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in together]
    (path,) = {output.splitlines()[-1].removeprefix("done ") for output in outputs}
    assert contents(Path(path)) == contents(reference.path)


@pytest.mark.usefixtures("small_batches")
def test_a_store_grows_with_the_tokens_asked_for_and_keeps_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SURVEY_BYTES", 20_000)
    write_corpus(tmp_path / "a.jsonl", 600)
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300", validation_tokens=300)
    cache = tmp_path / "cache"
    small = prepare(spec, min_train_tokens=5_000, cache=cache)
    first, held_out = np.array(small.train()), np.array(small.validation())
    assert 5_000 <= small.train_tokens < 40_000
    assert not small.complete
    assert prepare(spec, min_train_tokens=4_000, cache=cache) == small
    larger = prepare(spec, min_train_tokens=50_000, cache=cache)
    assert larger.path == small.path
    assert 72_000 > larger.train_tokens >= 50_000
    np.testing.assert_array_equal(larger.train()[: len(first)], first)
    np.testing.assert_array_equal(larger.validation(), held_out)
    np.testing.assert_array_equal(
        small.train(), first, "an open store stays readable while it grows"
    )
    whole = prepare(spec, cache=cache)
    assert whole.complete
    assert contents(whole.path) == contents(prepare(spec, cache=tmp_path / "at-once").path)
    assert prepare(spec, min_train_tokens=10**9, cache=cache) == whole


@pytest.mark.usefixtures("small_batches")
def test_held_out_documents_beyond_the_validation_set_are_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SURVEY_BYTES", 20_000)
    texts = write_corpus(tmp_path / "a.jsonl", 600)
    store = prepare(
        TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300", validation_tokens=1000),
        cache=tmp_path,
    )
    train, held_out = (
        stored_documents(store, store.train()),
        stored_documents(store, store.validation()),
    )
    assert 1000 <= store.validation_tokens < 1500
    assert store.meta["set_aside"]["documents"] > 0
    assert len(train) + len(held_out) + store.meta["set_aside"]["documents"] == len(texts)
    limit = store.meta["split"]["limit"]
    for side, expected in ((train, False), (held_out, True)):
        for text in side:
            document = clean(text, Cleaning())
            assert document is not None
            assert (document.digest < limit) is expected


def test_a_torn_store_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")
    store = prepare(spec, cache=tmp_path / "cache")
    with (store.path / "train.bin").open("r+b") as file:
        file.truncate(100)
    for read in (
        lambda: TokenStore.open(store.path),
        lambda: prepare(spec, cache=tmp_path / "cache"),
    ):
        with pytest.raises(InputError, match=r"torn: train\.bin holds 50 tokens") as raised:
            read()
        assert f"rm -r {store.path}" in str(raised.value.fix)


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path.write_bytes(change(np.fromfile(path, np.uint16)).tobytes())


def _with(values: np.ndarray, place: int, number: int) -> np.ndarray:
    values[place] = number
    return values


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a third is zero": (
        lambda store: _rewrite(
            store / "train.bin", lambda x: np.where(np.arange(len(x)) % 3, x, 0).astype(x.dtype)
        ),
        "train.bin is not what was written",
    ),
    "reversed": (
        lambda store: _rewrite(store / "train.bin", lambda x: x[::-1].copy()),
        "train.bin is not what was written",
    ),
    "a token too large": (
        lambda store: _rewrite(store / "validation.bin", lambda x: _with(x, 7, 60_000)),
        "validation.bin holds the token 60,000, and the vocabulary 300 tokens",
    ),
    "one bit": (
        lambda store: _rewrite(store / "validation.bin", lambda x: _with(x, 7, x[7] ^ 1)),
        "validation.bin is not what was written",
    ),
    "another tokenizer": (
        lambda store: (store / "tokenizer.json").write_text("{}"),
        "tokenizer.json is not what was written",
    ),
    "hashes of documents": (
        lambda store: (store / "digests.bin").write_bytes(
            bytes((store / "digests.bin").stat().st_size)
        ),
        "digests.bin is not what was written",
    ),
    "counts": (
        lambda store: (store / "meta.json").write_text(
            (store / "meta.json").read_text(encoding="utf-8").replace('"bytes": ', '"bytes": 1')
        ),
        "meta.json is not what was written",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_store_is_named_and_made_anew_by_the_command_that_is_printed(
    damage: str, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")
    store = prepare(spec, cache=tmp_path / "my cache")
    before = contents(store.path)
    spoil, message = DAMAGE[damage]
    spoil(store.path)
    for read in (
        lambda: prepare(spec, cache=tmp_path / "my cache"),
        TokenStore.open(store.path).check,
    ):
        with pytest.raises(InputError) as raised:
            read()
        assert message in raised.value.problem
    assert f"rm -r '{store.path}'" in str(raised.value.fix)
    shutil.rmtree(store.path)
    assert contents(prepare(spec, cache=tmp_path / "my cache").path) == before


def test_a_store_of_before_there_were_checksums_gets_them_and_this_is_said(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")
    store = prepare(spec, cache=tmp_path)
    old = {
        key: value
        for key, value in store.meta.items()
        if key not in ("checksums", "remarks", "unknown_tokens")
    }
    (store.path / "meta.json").write_text(json.dumps(old))
    given = prepare(spec, cache=tmp_path)
    assert "before stores had checksums" in given.remarks[-1]
    assert given.meta["checksums"]["train.bin"] == store.meta["checksums"]["train.bin"]
    assert prepare(spec, cache=tmp_path).remarks == ()
    _rewrite(store.path / "train.bin", lambda x: _with(x, 7, 60_000))
    (store.path / "meta.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match="holds the token 60,000"):
        prepare(spec, cache=tmp_path)


@pytest.mark.usefixtures("small_batches")
def test_what_is_damaged_does_not_get_a_checksum_when_a_store_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SURVEY_BYTES", 20_000)
    write_corpus(tmp_path / "a.jsonl", 600)
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300", validation_tokens=300)
    store = prepare(spec, min_train_tokens=5_000, cache=tmp_path)
    _rewrite(store.path / "train.bin", lambda x: _with(x, 7, 8))
    with pytest.raises(InputError, match="is damaged"):
        prepare(spec, min_train_tokens=50_000, cache=tmp_path)
    (store.path / "meta.json").unlink()
    with pytest.raises(WorkError, match=r"train\.bin is damaged"):
        prepare(spec, min_train_tokens=50_000, cache=tmp_path)


def test_a_checksum_is_the_same_in_pieces_and_over_a_file_of_several_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_CHUNK_BYTES", 1000)
    for size in (0, 10, 1000, 3500):
        content = np.arange(size, dtype=np.uint8).tobytes()
        (tmp_path / "a.bin").write_bytes(content + b"beyond")
        running = RunningChecksum()
        for start in range(0, size, 300):
            running.update(content[start : start + 300])
        reports: list[int] = []
        found = check_file(tmp_path / "a.bin", size, np.dtype(np.uint8), reports.append)
        assert found.checksum == running.hexdigest()
        assert found.checksum == RunningChecksum.of_file(tmp_path / "a.bin", size).hexdigest()
        assert found.largest == max(content, default=-1)
        assert reports == [*range(1000, size, 1000), *([size] if size else [])]


def test_tokens_in_the_users_own_cache_are_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")
    before = os.umask(0o022)
    try:
        monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "shared"))
        shared = prepare(spec)
        monkeypatch.delenv("LLMSCALE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
        own = prepare(spec)
    finally:
        os.umask(before)
    assert own.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in own.path.iterdir()} == {0o600}
    assert shared.path.stat().st_mode & 0o777 == 0o755
    assert contents(own.path) == contents(shared.path)


def test_tokens_of_the_unknown_are_counted_and_warned_of(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    words = {word: number for number, word in enumerate([*WORDS, "[UNK]", "</s>"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))
    store = prepare(
        TextSpec(str(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "words.json")), cache=tmp_path
    )
    documents = store.meta["train"]["documents"] + store.meta["validation"]["documents"]
    assert store.meta["unknown_tokens"] == 2 * documents, (
        "a number and a colon begin every document"
    )
    assert [note.code for note in store.notes] == ["unknown-tokens"]
    assert (
        prepare(TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300"), cache=tmp_path).notes
        == ()
    )


def test_wrong_input_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "line.txt").write_text("only one line")
    with pytest.raises(InputError, match="1 document of 13 bytes in all: too little"):
        prepare(TextSpec(str(tmp_path / "line.txt")), cache=cache)
    assert not cache.exists()
    write_corpus(tmp_path / "a.jsonl", 600)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    monkeypatch.setattr(tokens, "SURVEY_BYTES", 20_000)
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 5_000)
    with pytest.raises(InputError, match=r"a\.jsonl:601 is not JSON"):
        prepare(TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300"), cache=cache)
    assert list((cache / "tokens").iterdir()) == []


def test_a_source_that_says_one_thing_without_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MOST_DROPPED", 5_000)
    monkeypatch.setattr(documents, "BATCH_CHARACTERS", 5_000)
    (tmp_path / "a.csv").write_text("text\n" + "same\n" * 20_000)
    with pytest.raises(
        InputError,
        match=r"the first \d,\d{3} documents are empty or the same as another, but for 1",
    ):
        prepare(TextSpec(str(tmp_path / "a.csv")), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="cannot write into the cache folder"):
        prepare(TextSpec(str(tmp_path / "a.jsonl")), cache=tmp_path / "a.jsonl")


def test_a_full_disk_is_an_error_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "a.jsonl")
    spec = TextSpec(str(tmp_path / "a.jsonl"), tokenizer="bpe:300")

    def full(descriptor: int) -> None:
        written = tmp_path.glob("cache/tokens/*/train.bin")
        if any(os.path.samestat(os.fstat(descriptor), path.stat()) for path in written):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(WorkError, match="No space left on device"):
            prepare(spec, cache=tmp_path / "cache")
    store = prepare(spec, cache=tmp_path / "cache")
    assert contents(store.path) == contents(prepare(spec, cache=tmp_path / "other").path)


def test_a_dataset_prepared_earlier_serves_where_the_hub_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "train.jsonl")
    spec = TextSpec(f"hub:{tmp_path}", tokenizer="bpe:300")
    store = prepare(spec, cache=tmp_path / "cache")

    def unreachable(*_: object) -> None:
        raise ConnectionError("the network is down")

    monkeypatch.setattr("datasets.load_dataset_builder", unreachable)
    assert prepare(spec, cache=tmp_path / "cache") == store
    with pytest.raises(InputError, match="no hub answered"):
        prepare(TextSpec(f"hub:{tmp_path}", tokenizer="bpe:301"), cache=tmp_path / "cache")


def test_the_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LLMSCALE_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "llmscale"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "llmscale"


def test_settings_that_keep_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="validation_tokens is 0"):
        TextSpec(validation_tokens=0)
    with pytest.raises(InputError, match="min_characters is 0"):
        Cleaning(min_characters=0)


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=FEWEST_DOCUMENTS, max_size=60),
    wanted=st.integers(1, 10_000),
    data=st.data(),
)
def test_the_split_of_a_small_corpus_holds_out_a_tenth_at_most_and_one_document_at_least(
    sizes: list[int], wanted: int, data: st.DataObject
) -> None:
    digests = data.draw(
        st.lists(st.integers(0, 2**64 - 1), min_size=len(sizes), max_size=len(sizes), unique=True)
    )
    texts = tuple(Document("", size, digest) for size, digest in zip(sizes, digests, strict=True))
    split = choose_split(Survey(texts, 0, 0, 0, complete=True), None, wanted)
    held_out = [document for document in texts if split.holds_out(document)]
    assert 1 <= len(held_out) < len(texts)
    assert len(held_out) == 1 or sum(
        document.bytes for document in held_out
    ) <= LARGEST_SHARE * sum(sizes)


@pytest.mark.parametrize(
    ("estimated_bytes", "share"),
    [(None, 0.05), (10**8, 0.08), (10**9, 0.02), (10**12, 0.02), (10**7, 0.1)],
)
def test_the_split_of_a_large_corpus_follows_its_estimated_size(
    estimated_bytes: int | None, share: float
) -> None:
    beginning = Survey(
        tuple(Document("", 100, digest) for digest in range(20)), 0, 0, 0, complete=False
    )
    split = choose_split(beginning, estimated_bytes, validation_tokens=1_000_000)
    assert split.to_json()["share"] == pytest.approx(share)


@given(text=st.text(st.characters(exclude_categories=[])))
def test_cleaning_twice_is_cleaning_once_and_gives_utf_8(text: str) -> None:
    document = clean(text, Cleaning())
    if document is None:
        assert not text.strip()
    else:
        assert document.bytes == len(document.text.encode())
        assert "\r" not in document.text
        assert clean(document.text, Cleaning()) == document


@given(before=st.lists(st.integers(0, 30)), added=st.lists(st.integers(0, 30)))
def test_seen_is_a_set(before: list[int], added: list[int]) -> None:
    with mock.patch.object(cleaning, "_RECENT", 4):
        seen, expected = Seen(), set(before)
        seen.add_all(np.array(before, np.uint64))
        for digest in added:
            assert seen.add(digest) == (digest not in expected)
            expected.add(digest)


@pytest.mark.slow
def test_real_prose_is_prepared_from_end_to_end(shared: Path, tmp_path: Path) -> None:
    store = prepare(TextSpec(str(shared / "corpora" / "prose-validation.jsonl.xz")), cache=tmp_path)
    assert store.meta["train"]["documents"] + store.meta["validation"]["documents"] == 1118
    assert store.vocab_size == 512
    assert 2 < store.bytes_per_token < 4


def _build(corpus: Path, cache: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(tokens.__file__).parents[3])}
    command = [sys.executable, "-c", BUILD, str(corpus), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
