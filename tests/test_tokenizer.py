"""Tokenizers lose nothing, say where documents end, and are the same for the same text."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmscale.encoder import Encoder
from llmscale.errors import InputError
from llmscale.tokenizer import (
    END_OF_TEXT,
    choose_tokenizer,
    decode,
    default_size,
    end_of_text,
    load_tokenizer,
    token_type,
    train_bpe,
    vocab_size,
)

TEXTS = [f"the quick brown fox number {number} jumps over the lazy dog\n" for number in range(200)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_bpe(TEXTS, 300).to_str(), encoding="utf-8")
    return load_tokenizer(path)


def tokens_of(tokenizer: Tokenizer, text: str, end: int = 0) -> np.ndarray:
    (tokens,) = Encoder(tokenizer, end, np.dtype(np.uint16)).encode([text])
    return tokens


@settings(max_examples=200)
@given(text=st.text())
def test_byte_level_bpe_gives_back_any_text(small: Tokenizer, text: str) -> None:
    tokens = tokens_of(small, text)
    assert decode(small, tokens[:-1].tolist()) == text
    assert (tokens == 0).sum() == 1, "the end of text is the last token and no other"
    assert tokens[-1] == 0


def test_the_name_of_the_end_of_text_inside_a_document_is_ordinary_text(small: Tokenizer) -> None:
    text = f"a {END_OF_TEXT} b"
    tokens = tokens_of(small, text)
    assert (tokens == 0).sum() == 1
    assert decode(small, tokens.tolist()) == text


def test_the_vocabulary_has_the_asked_size_and_bytes_alone_are_the_smallest() -> None:
    assert vocab_size(train_bpe(TEXTS, 300)) == 300
    assert vocab_size(train_bpe(["aaaa"], 257)) == 257
    assert vocab_size(train_bpe(["ab"], 5000)) < 300, "two letters have one pair"


def test_the_same_text_gives_the_same_tokenizer() -> None:
    assert train_bpe(TEXTS, 400).to_str() == train_bpe(iter(TEXTS), 400).to_str()


def test_the_default_vocabulary_grows_with_the_corpus() -> None:
    sizes = [default_size(estimate) for estimate in (10**5, 31_000_000, 5 * 10**8, 5 * 10**9, 10**11)]
    assert sizes == [512, 1024, 4096, 16384, 32768]
    assert default_size(None) == 32768
    assert choose_tokenizer(None, 31_000_000) == choose_tokenizer("bpe:1024", None)


@pytest.mark.parametrize("vocabulary", [257, 65_535, 65_536, 65_537, 200_000])
def test_the_token_type_holds_every_token_number(vocabulary: int) -> None:
    assert np.iinfo(token_type(vocabulary)).max >= vocabulary - 1
    assert (token_type(vocabulary) == np.uint16) == (vocabulary <= 65_536)


def test_a_tokenizer_json_is_used_as_it_is_but_never_cuts_a_document(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["[UNK]", "</s>"]))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    path = tmp_path / "mine.json"
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    choice = choose_tokenizer(str(path), None)
    existing = choice.tokenizer([])
    assert end_of_text(existing, "mine") == ("</s>", 1)
    assert len(tokens_of(existing, TEXTS[0], end=1)) == len(TEXTS[0].split()) + 1
    again = tmp_path / "moved.json"
    again.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    assert choose_tokenizer(str(again), None).fingerprint == choice.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bpe:256", "cannot have 256 tokens"),
        ("bpe:2B", "cannot have 2000000000 tokens"),
        ("bpe:many", "vocabulary size 'many' is not a number"),
        ("bpe:0", "not above zero"),
        ("missing.json", "missing.json does not exist"),
        ("owner/tokenizer", "no tokenizer 'owner/tokenizer'"),
    ],
)
def test_a_wrong_tokenizer_name_is_one_clear_error(name: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        choose_tokenizer(name, None)
    assert message in raised.value.problem


def test_a_tokenizer_without_an_end_of_text_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str(), encoding="utf-8")
    with pytest.raises(InputError, match="no token for the end of a text"):
        choose_tokenizer(str(path), None)
    path.write_text(json.dumps({"not": "a tokenizer"}))
    with pytest.raises(InputError, match=r"is not a tokenizer\.json"):
        choose_tokenizer(str(path), None)
