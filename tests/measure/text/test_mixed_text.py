"""Mixtures hold the shares that were asked for, repeat nothing, and leave all held-out text out."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.measure.text.augmentation import Augmentation
from llmscale.measure.text.mixed_store import block_order
from llmscale.measure.text.mixture import prepare_mixtures
from llmscale.measure.text.mixture_spec import MixedSource
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.settings.tables import from_table

BLOCK = 32
WORDS = {
    "greek": ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"],
    "counted": ["zero", "one", "two", "three", "four", "five", "six", "seven"],
}


def write_words(path: Path, kind: str, documents: int = 120) -> Path:
    """Documents of some 60 words of one kind, each of them only once."""
    rng = random.Random(kind)
    lines = []
    for number in range(documents):
        words = rng.choices(WORDS[kind], k=60)
        lines.append(json.dumps({"text": f"{kind} {number}: {' '.join(words)}"}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    sizes = {"greek": 240, "counted": 120}
    return {kind: write_words(folder / f"{kind}.jsonl", kind, sizes[kind]) for kind in WORDS}


def mixed(corpora: dict[str, Path], **changes: Any) -> TextSpec:
    sources = {name: MixedSource(str(path)) for name, path in corpora.items()}
    settings: dict[str, Any] = {"mixture": sources, "tokenizer": "bpe:300", **changes}
    return TextSpec(**settings)


def documents_of(store: TokenStore, tokens: np.ndarray) -> list[str]:
    """The text between ends of text, without what is cut at the ends of blocks."""
    text = store.tokenizer().decode([int(token) for token in tokens], skip_special_tokens=False)
    return [part for part in text.split("<|endoftext|>") if part]


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=4),
    st.lists(st.integers(5, 200), min_size=4, max_size=4),
)
def test_every_beginning_of_a_mixture_has_the_shares_to_within_a_block(
    weights: list[float], counts: list[int]
) -> None:
    shares = np.array(weights) / sum(weights)
    order = block_order(shares.tolist(), counts[: len(shares)], None)
    taken = np.cumsum(order[:, None] == np.arange(len(shares)), axis=0)
    asked = shares * np.arange(1, len(order) + 1)[:, None]
    assert np.abs(taken - asked).max() < 1.0
    # It ends where a source has none left.
    assert (taken[-1] <= counts[: len(shares)]).all()
    assert (taken[-1] == counts[: len(shares)]).any()
    first = block_order(shares.tolist(), counts[: len(shares)], len(order) // 2)
    assert (first == order[: len(order) // 2]).all()


def test_mixtures_share_tokenizer_and_validation_text_and_hold_their_shares(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    spec = mixed(corpora, mixtures={"mostly": {"greek": 3, "counted": 1}, "pure": {"counted": 2}})
    first = prepare_mixtures(spec, BLOCK, cache=tmp_path)
    again = prepare_mixtures(spec, BLOCK, cache=tmp_path / "again")
    stores = {"default": first, **first.others}
    assert {name: store.shares for name, store in stores.items()} == {
        "default": {"greek": 0.5, "counted": 0.5},
        "mostly": {"greek": 0.75, "counted": 0.25},
        "pure": {"greek": 0.0, "counted": 1.0},
    }
    assert first.fingerprint == again.fingerprint
    assert (first.train() == again.train()).all()
    assert len({store.fingerprint for store in stores.values()}) == 3
    for name, store in stores.items():
        assert store.validation_parts == first.validation_parts
        assert (store.validation() == first.validation()).all()
        assert (store.path / "tokenizer.json").read_text() == (
            first.path / "tokenizer.json"
        ).read_text()
        store.check()
        blocks = store.train()[1:].reshape(-1, BLOCK)
        kinds = [kind_of(store, block) for block in blocks]
        for number in range(1, len(kinds) + 1):
            greek = sum(kind == "greek" for kind in kinds[:number])
            assert abs(greek - number * store.shares["greek"]) < 1, name
    assert first.of(first.others["pure"].fingerprint) is first.others["pure"]
    for name, part in first.validation_parts.items():
        held_out = first.validation()[part.first : part.first + part.tokens]
        texts = documents_of(first, held_out)
        assert part.bytes == sum(len(text.encode()) for text in texts)
        assert all(text.startswith(name) for text in texts)


def kind_of(store: TokenStore, block: np.ndarray) -> str:
    text = store.tokenizer().decode([int(token) for token in block])
    found = {kind: sum(text.count(word) for word in words) for kind, words in WORDS.items()}
    return max(found, key=lambda kind: found[kind])


def test_a_mixture_repeats_nothing_and_ends_where_a_source_does(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    store = prepare_mixtures(mixed(corpora), BLOCK, cache=tmp_path)
    blocks = store.train()[1:].reshape(-1, BLOCK)
    by_source = {
        kind: blocks[[kind_of(store, block) == kind for block in blocks]] for kind in WORDS
    }
    for part in by_source.values():
        assert len(np.unique(part, axis=0)) == len(part)
    sources = store.meta["mixture"]["sources"]
    left = {name: one["available_tokens"] - one["train_tokens"] for name, one in sources.items()}
    last = min(left, key=lambda name: left[name])
    assert left[last] < 2 * BLOCK
    assert any(f"where {last} does: nothing in it is repeated" in said for said in store.remarks)
    # As a stream, as much as is asked for; more of it begins alike.
    short = prepare_mixtures(mixed(corpora), BLOCK, min_train_tokens=2000, cache=tmp_path / "short")
    assert 2000 <= short.train_tokens < 2000 + BLOCK + 1
    assert not short.complete
    longer = prepare_mixtures(
        mixed(corpora), BLOCK, min_train_tokens=4000, cache=tmp_path / "short"
    )
    assert longer.fingerprint == short.fingerprint
    assert (longer.train()[: short.train_tokens] == short.train()).all()
    longer.check()


def test_what_one_source_holds_out_no_other_trains_on(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    both = tmp_path / "both.jsonl"
    both.write_text("".join(path.read_text() for path in corpora.values()))
    sources = {**corpora, "both": both}
    store = prepare_mixtures(mixed(sources), BLOCK, cache=tmp_path)
    held_out = {
        text
        for part in store.validation_parts.values()
        for text in documents_of(store, store.validation()[part.first : part.first + part.tokens])
    }
    assert len(held_out) > 10
    trained = store.tokenizer().decode([int(token) for token in store.train()])
    for text in held_out:
        name, _, _ = text.partition(":")
        assert f"{name}:" not in trained


def test_a_text_that_two_sources_share_is_measured_on_once(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    path = str(corpora["greek"])
    changed = Augmentation(drop=0.3, copies=3)
    sources = {"plain": MixedSource(path), "varied": MixedSource(path, augment=changed)}
    store = prepare_mixtures(TextSpec(mixture=sources, tokenizer="bpe:300"), BLOCK, cache=tmp_path)
    assert list(store.validation_parts) == ["plain"]
    assert store.shares == {"plain": 0.5, "varied": 0.5}


def test_a_mixture_of_no_sources_is_refused() -> None:
    with pytest.raises(InputError, match="mixture in data names no source"):
        from_table(TextSpec, {"mixture": {}}, "data")


TABLES = {
    "greek": '[data.mixture.greek]\nsource = "{greek}"\nweight = {weight}\n',
    "counted": '[data.mixture.counted]\nsource = "{counted}"\n',
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("[data.mixtures.x]\nlatin = 1", "'latin', which is no source of [data.mixture]"),
        ("[data.mixtures.x]\ngreek = -1", "greek in [data.mixtures.x]"),
        ("[data.mixtures.x]\ngreek = 0", "weights of [data.mixtures.x] add up to 0"),
        ("[data.mixtures.x]\ngreek = 1\ncounted = 1", "mixture 'x' is the same as 'default'"),
        ("[data.mixtures.default]\ngreek = 1", "is the mixture of the sources' own weights"),
        ('[data.mixture.again]\nsource = "{greek}"', "'again' and 'greek' of [data.mixture] are"),
        ('[data.mixture.Greek]\nsource = "stdlib"', "would have the same column name"),
        ('[data.mixture.loss_test]\nsource = "stdlib"', "cannot be the name of a source"),
        ("[data.mixture.other]\nweight = 1", "[data.mixture.other]"),
        ('[data.mixture.other]\nsource = "stdlib"\nweight = "much"', "weight in [data.mixture"),
        ('[data.mixture.greek]\nsource = "stdlib"', "is not TOML"),
        ('[data]\nsource = "counting.txt"', "both data.source and data.mixture were given"),
        (
            "[recipes.x]\nlr = 0.01\n[data.mixtures.x]\ngreek = 1",
            "two variants would be called 'x'",
        ),
    ],
)
def test_a_mixture_that_cannot_be_is_refused_in_one_sentence(
    corpora: dict[str, Path], tmp_path: Path, changes: str, said: str
) -> None:
    out = tmp_path / "out"
    tables = "".join(TABLES.values()).format(**corpora, weight=1)
    data = "" if "[data]" in changes else '[data]\ntokenizer = "bpe:300"\n'
    path = tmp_path / "sweep.toml"
    changes = changes.format(**corpora)
    path.write_text(f'sizes = ["1x16x1"]\ntokens = "2k"\n{changes}\n{data}{tables}')
    result = CliRunner().invoke(app, ["sweep", str(path), "--context", "32", "--out", str(out)])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not out.exists()


def test_a_mixture_whose_source_cannot_fill_a_sequence_is_refused(
    corpora: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="less than one sequence of 9000"):
        prepare_mixtures(mixed(corpora), 9000, cache=tmp_path)
    assert not list((tmp_path / "tokens").glob("*/meta.json.part"))
    with pytest.raises(InputError, match=r"data\.mixtures gives weights"):
        TextSpec(mixtures={"x": {"greek": 1.0}})


def test_a_text_of_its_own_is_prepared_as_before(corpora: dict[str, Path], tmp_path: Path) -> None:
    """Its cache folder is named by what it was named by before there were mixtures."""
    spec = TextSpec(str(corpora["greek"]), tokenizer="bpe:300")
    assert set(spec.stated()) == {
        *("source", "config", "split", "text_column", "tokenizer", "validation_tokens"),
        *("cleaning", "end_of_text"),
    }
    assert prepare(spec, cache=tmp_path).shares == {}
