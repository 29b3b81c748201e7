"""Augmented text: training documents only, changed by the shares asked for, the same every time."""

import itertools
import json
from pathlib import Path

import pytest

from llmscale.errors import InputError
from llmscale.measure.text.augmentation import Augmentation
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare

DOCUMENT = " ".join(f"w{number}" for number in range(20_000)) + "\n"


def copies_of(how: Augmentation, text: str = DOCUMENT, digest: int = 7) -> list[str]:
    return list(how.of(text, digest))


def test_words_are_dropped_masked_and_moved_by_the_shares_asked_for() -> None:
    words = DOCUMENT.split()
    for how, kept in [
        (Augmentation(drop=0.2), 0.8),
        (Augmentation(span=0.3), 0.7),
        (Augmentation(drop=0.5, span=0.5), 0.25),
        (Augmentation(mask=0.9), 1.0),
        (Augmentation(swap=0.4), 1.0),
    ]:
        (text,) = copies_of(how)
        found = text.split()
        assert len(found) / len(words) == pytest.approx(kept, abs=0.02)
        if not (how.mask or how.swap):
            assert found == sorted(found, key=lambda word: int(word[1:]))
    (masked,) = copies_of(Augmentation(mask=0.25, mask_with="<gap>"))
    assert masked.split().count("<gap>") / len(words) == pytest.approx(0.25, abs=0.02)
    (moved,) = copies_of(Augmentation(swap=0.2))
    pairs = zip(moved.split(), words, strict=True)
    assert sum(one != other for one, other in pairs) / len(words) == pytest.approx(0.18, abs=0.02)
    assert sorted(moved.split()) == sorted(words)


def test_deleted_spans_are_of_several_words() -> None:
    (dropped,), (in_spans,) = (copies_of(how) for how in (Augmentation(drop=0.2), SPANS))
    gaps = {}
    for name, text in (("one by one", dropped), ("spans", in_spans)):
        kept = [int(word[1:]) for word in text.split()]
        lengths = [after - before - 1 for before, after in itertools.pairwise(kept)]
        lengths = [length for length in lengths if length]
        gaps[name] = sum(lengths) / len(lengths)
    assert gaps["one by one"] == pytest.approx(1.25, abs=0.1)
    assert gaps["spans"] == pytest.approx(3.4, abs=0.3)


SPANS = Augmentation(span=0.2)


def test_copies_differ_and_are_the_same_every_time() -> None:
    how = Augmentation(drop=0.1, swap=0.1, copies=4)
    first = copies_of(how)
    assert len(set(first)) == 4
    assert first == copies_of(how)
    assert first != copies_of(Augmentation(drop=0.1, swap=0.1, copies=4, seed=1))
    assert first != copies_of(how, digest=8)
    kept = copies_of(Augmentation(drop=0.1, copies=2, with_original=True))
    assert kept[0] == DOCUMENT != kept[1]


def test_white_space_and_awkward_documents_survive() -> None:
    for text in ("", "  \n", "word", "\n\n  a\tb\n\n", "a  b"):
        for how in (Augmentation(drop=0.9), Augmentation(span=0.9), Augmentation(swap=0.9)):
            (changed,) = copies_of(how, text)
            assert len(changed.split()) >= min(1, len(text.split()))
            assert changed.startswith(text[: len(text) - len(text.lstrip())])
    assert copies_of(Augmentation(swap=0.9), "x  y\n") in (["x  y\n"], ["y  x\n"])


def test_copies_that_nothing_changes_are_refused() -> None:
    with pytest.raises(InputError, match="would repeat the text in silence"):
        Augmentation(copies=4)


def test_validation_documents_are_as_they_were_and_no_copy_of_them_is_trained_on(
    text: Path, tmp_path: Path
) -> None:
    plain = prepare(TextSpec(str(text), tokenizer="bpe:300"), cache=tmp_path)
    how = Augmentation(drop=0.2, copies=3)
    varied = prepare(TextSpec(str(text), tokenizer="bpe:300", augment=how), cache=tmp_path)
    assert plain.fingerprint != varied.fingerprint
    assert (plain.validation() == varied.validation()).all()
    assert varied.meta["train"]["documents"] == 3 * plain.meta["train"]["documents"]
    assert varied.train_tokens == pytest.approx(3 * 0.8 * plain.train_tokens, rel=0.1)
    originals = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    held_out = set(documents_of(varied, varied.validation().tolist()))
    trained = [document for document in originals if document not in held_out]
    assert len(trained) < len(originals)
    for copy in documents_of(varied, varied.train().tolist())[::15]:
        assert any(is_part(copy.split(), words) for words in map(str.split, trained))
        assert not any(is_part(copy.split(), words) for words in map(str.split, held_out))
    assert any("validation documents are as they were" in said for said in varied.remarks)
    assert "drop=0.2, copies=3" in varied.name


def documents_of(store: TokenStore, tokens: list[int]) -> list[str]:
    text = store.tokenizer().decode(tokens, skip_special_tokens=False)
    return [part for part in text.split("<|endoftext|>") if part]


def is_part(pieces: list[str], words: list[str]) -> bool:
    """Whether `pieces` are some of `words`, in their order."""
    left = iter(words)
    return all(piece in left for piece in pieces)
