"""The encoder gives the tokens that the tokenizer itself gives, in this process and in others."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hostile import hostile_modules
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from llmscale.errors import InputError, WorkError
from llmscale.measure.text import encoder
from llmscale.measure.text.encoder import Encoder, keeps_words_apart
from llmscale.measure.text.encoder_process import EncoderProcess, encoder_of
from llmscale.measure.text.tokenizer import END_OF_TEXT, load_tokenizer, train_bpe

TEXTS = [
    "It's what they'd say: we've 12,345 reasons (or more)...\n\n    def f(x):\n\treturn x**2  # "
    "why not?\n" * 20,
    "na\u00efve caf\u00e9s \u2014 \u201cquoted\u201d, 3\u00a0000 \u20ac; \u6a21\u578b "
    "\u89c4\u6a21\u3000\u6cd5\u5219\n" * 20,
]
CHARACTERS = (
    "ab "
    "Z09'sdl.,_\n\t\r\x0b\x1c\x7f\x85\xa0\u0301\u00e9\u00b2\u0661\u1680\u180e\u2003\u200b\u2019\u3000\u4e2d\U0001f600"
)
"""Letters, digits, marks and white space, of ASCII and not: what the cuts between words depend on.
"""
NUMBERS = np.dtype(np.uint16)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_bpe(TEXTS, 400).to_str(), encoding="utf-8")
    return path


def one_by_one(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    return [[*tokenizer.encode(text, add_special_tokens=False).ids, 0] for text in texts]


def encoded(by: Encoder | EncoderProcess, texts: list[str]) -> list[list[int]]:
    return [tokens.tolist() for tokens in by.encode(texts)]


@settings(max_examples=500)
@given(texts=st.lists(st.text(st.sampled_from(CHARACTERS)) | st.text(), max_size=4))
@example(
    texts=[
        "",
        f"a {END_OF_TEXT}b",
        *TEXTS,
        "one word " * 20_000,
        "\u6a21" * 2_000,
        "x  \xa0 \xa0  y",
    ]
)
def test_the_tokens_are_those_of_the_whole_text(bpe: Path, texts: list[str]) -> None:
    tokenizer = load_tokenizer(bpe)
    fast = Encoder(tokenizer, 0, NUMBERS)
    assert keeps_words_apart(tokenizer)
    assert encoded(fast, texts) == encoded(fast, texts) == one_by_one(tokenizer, texts)


def test_every_character_up_to_the_last_white_space_is_cut_off_where_the_tokenizer_cuts(
    bpe: Path,
) -> None:
    tokenizer = load_tokenizer(bpe)
    characters = (chr(code) for code in range(0x3100))
    texts = [f"a{c}  {c}b  {c} {c}  1{c}{c}1 {c}!{c}  " for c in characters]
    expected = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    assert encoded(Encoder(tokenizer, 0, NUMBERS), texts) == [
        [*encoding.ids, 0] for encoding in expected
    ]


def test_what_is_remembered_is_bounded(bpe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_REMEMBERED_BYTES", 10_000)
    fast = Encoder(load_tokenizer(bpe), 0, NUMBERS)
    for first in range(0, 10_000, 50):
        fast.encode([" ".join(map(str, range(first, first + 50)))])
        assert fast._pieces.bytes < 30_000


def test_tokenizers_of_other_kinds_encode_whole_texts(tmp_path: Path) -> None:
    digits = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,3}"), "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    for cut, normalizer in (
        (digits, None),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Replace(" ", "_")),
    ):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = cut
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet
        )
        tokenizer.train_from_iterator(TEXTS, trainer)
        tokenizer.save(str(tmp_path / "other.json"))
        other = load_tokenizer(tmp_path / "other.json")
        assert not keeps_words_apart(other)
        assert encoded(Encoder(other, 0, NUMBERS), TEXTS) == one_by_one(other, TEXTS)


def test_a_process_gives_the_same_tokens_and_its_death_is_an_error(
    bpe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = encoder_of(bpe)
    ran = hostile_modules(tmp_path)
    monkeypatch.chdir(tmp_path)
    with EncoderProcess(bpe, here.dtype) as process:
        for texts in (TEXTS, [], ["", "a"]):
            assert encoded(process, texts) == encoded(here, texts)
        assert not ran.exists(), "a module of the current folder"
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(WorkError, match="exit code -9"):
            process.encode(TEXTS)


def test_a_character_that_would_be_left_out_is_refused_here_and_in_a_process(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        ["ab ab"], trainers.BpeTrainer(special_tokens=[END_OF_TEXT], show_progress=False)
    )
    tokenizer.save(str(path))
    here = encoder_of(path)
    assert encoded(here, ["ab"]) == one_by_one(load_tokenizer(path), ["ab"])
    with EncoderProcess(path, here.dtype) as process:
        for encode in (here.encode, process.encode):
            with pytest.raises(InputError, match=r"no token for '\u00e9' \(U\+00E9\)"):
                encode(["ab \u00e9"])
        assert encoded(process, ["ab"]) == encoded(here, ["ab"])
    word_level = Tokenizer(models.WordLevel({"ab": 0, "</s>": 1}, unk_token="[UNK]"))
    word_level.save(str(path))
    with pytest.raises(InputError, match=r"cannot encode 'cd'.*Missing \[UNK\]"):
        encoder_of(path).encode(["cd"])
