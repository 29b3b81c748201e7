"""Tokenizers lose nothing, say where documents end, and are the same for the same text."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from llmscale.errors import InputError
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.long_words import LONGEST, ROOM, LongWords
from llmscale.measure.text.tokenizer import (
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
    sizes = [
        default_size(estimate) for estimate in (10**5, 31_000_000, 5 * 10**8, 5 * 10**9, 10**11)
    ]
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
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordLevelTrainer(special_tokens=["[UNK]", "</s>"])
    )
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
        ("bpe:many", "cannot have 'many' tokens"),
        ("bpe:0", "cannot have '0' tokens"),
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


def test_what_a_tokenizer_leaves_to_chance_is_not_used_and_said(tmp_path: Path) -> None:
    tokenizer = train_bpe(TEXTS, 300)
    plain = tmp_path / "plain.json"
    tokenizer.save(str(plain))
    tokenizer.model.dropout = 0.5
    tokenizer.enable_truncation(3)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, 0)]
    )
    path = tmp_path / "chance.json"
    tokenizer.save(str(path))
    choice = choose_tokenizer(str(path), None)
    assert any("dropout of 0.5 is not used" in remark for remark in choice.remarks)
    assert any("truncation is not used" in remark for remark in choice.remarks)
    existing, expected = choice.tokenizer([]), choose_tokenizer(str(plain), None).tokenizer([])
    for text in TEXTS[:20]:
        np.testing.assert_array_equal(tokens_of(existing, text), tokens_of(expected, text))
    unigram = tmp_path / "unigram.json"
    pieces = [("</s>", 0.0), *((piece, -1.0) for piece in ("a", "b", "ab", "aa", "ba"))]
    Tokenizer(models.Unigram(pieces, unk_id=0, alpha=0.1, nbest_size=5)).save(str(unigram))
    sampled = choose_tokenizer(str(unigram), None).tokenizer([])
    assert len({tuple(tokens_of(sampled, "abaab" * 5).tolist()) for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (2**31, "the number 2,147,483,648"),
        (1_000_000, "at most 1,000,000"),
        (5, "the same number 5"),
    ],
)
def test_numbers_that_no_model_can_have_are_refused_before_the_file_is_loaded(
    number: int, message: str, tmp_path: Path
) -> None:
    state = json.loads(train_bpe(TEXTS, 300).to_str())
    state["model"]["vocab"][max(state["model"]["vocab"], key=state["model"]["vocab"].get)] = number
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        choose_tokenizer(str(path), None)
    assert message in raised.value.problem


def test_numbers_without_a_token_are_said(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"</s>": 0, "a": 70_000}, unk_token="a"))
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    choice = choose_tokenizer(str(path), None)
    assert any(
        "69,999 of the tokenizer's 70,001 numbers have no token" in remark
        for remark in choice.remarks
    )
    assert token_type(vocab_size(choice.tokenizer([]))) == np.uint32


def test_the_end_of_text_is_the_asked_token_a_usual_one_or_the_one_of_its_configuration(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0, "<|im_end|>": 1, "<fin>": 2}, unk_token="a")).save(
        str(path)
    )
    usual, asked = choose_tokenizer(str(path), None), choose_tokenizer(str(path), None, "<fin>")
    assert (usual.end_of_text, asked.end_of_text) == ("<|im_end|>", "<fin>")
    assert usual.fingerprint != asked.fingerprint
    assert choose_tokenizer(str(path), None, "<|im_end|>").fingerprint == usual.fingerprint
    Tokenizer(models.WordLevel({"a": 0, "<fin>": 1}, unk_token="a")).save(str(path))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<fin>"}}')
    assert choose_tokenizer(str(tmp_path), None).end_of_text == "<fin>"
    with pytest.raises(InputError, match="looked for '<no>'"):
        choose_tokenizer(str(path), None, "<no>")


def test_only_words_that_hold_up_the_trainer_are_cut_or_left_out() -> None:
    line = "scaling " * 20_000 + "a" * LONGEST + " " * 3_000
    words = LongWords()
    assert list(words.shortened([line, "b" * 20_000, ""])) == [
        line,
        "",
        "b" * LONGEST,
        "b" * (20_000 - LONGEST),
        "",
        "",
    ]
    assert "cut 1 word into pieces" in str(words)
    many = LongWords()
    given = sum(map(len, many.shortened(["c" * (ROOM // 2)] * 3)))
    assert given == ROOM
    assert "left out 1 word" in str(many)
    assert str(LongWords()) == ""


def test_a_document_of_one_long_word_is_tokenized_whole() -> None:
    text = "acgt" * 100_000
    tokenizer = train_bpe([*TEXTS, text], 300)
    tokenizer.encode_special_tokens = True
    tokens = tokens_of(tokenizer, text)
    assert decode(tokenizer, tokens[:-1].tolist()) == text
    assert len(tokens) < len(text) / 100
