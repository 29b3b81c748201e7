"""The token store: a corpus as two memory-mapped files of token numbers, cached by what decides them.

    CACHE/tokens/FINGERPRINT/
        train.bin, validation.bin   token numbers, uint16 or uint32, every document followed by an end-of-text token
        tokenizer.json              with what the tokens mean
        digests.bin                 8 bytes a kept document, to know duplicates when the building goes on
        journal.json                how far building has got
        meta.json                   everything known about the store; written last

Building appends to the files in the order of the source, and the journal says up to where they are good. After a kill
the next call cuts them off there and goes on; the result does not depend on kills or on the number of workers. A store
that was built for fewer training tokens than are now asked for is extended in the same way, so that its first tokens
and its validation set stay what they are.
"""

import importlib.metadata
import json
import mmap
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import llmscale
from llmscale.cache import cache_folder
from llmscale.cleaning import Cleaning, Document
from llmscale.command_lines import command_line
from llmscale.documents import SURVEY_BYTES, Split, choose_split, survey
from llmscale.errors import InputError
from llmscale.machine import available_cores
from llmscale.ranges import Range, check_ranges
from llmscale.runs import write_text
from llmscale.sources import Source, UnreachableError, digest_of, open_source
from llmscale.token_files import Journal, begin, build, locked
from llmscale.tokenizer import (
    TokenizerChoice,
    choose_tokenizer,
    end_of_text,
    load_tokenizer,
    token_type,
    vocab_size,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT: Final = 1
"""Raised when the code changes which tokens come out, so that old stores are not taken for new ones."""
_TOKENIZER_BYTES: Final = 50_000_000
"""How much training text a tokenizer is trained on at most."""


@dataclass(frozen=True)
class TextSpec:
    """What decides the tokens. TOML table `[data]`."""

    source: str = "stdlib"
    """`stdlib`, files (a path, a glob, several with commas between) or the name of a dataset on the hub."""
    config: str | None = None
    """The configuration of a dataset."""
    split: str = "train"
    """The split of a dataset; validation is held out of it."""
    text_column: str = "text"
    """The column that holds the text, in datasets, JSON lines, CSV and parquet."""
    tokenizer: str | None = None
    """`bpe:4096`, a tokenizer.json, or the name of a tokenizer on the hub; None: bpe of a size that suits the text."""
    validation_tokens: int = 1_000_000
    """Tokens to hold out: fewer where the corpus is small, for at most a tenth of the text is held out."""
    cleaning: Cleaning = field(default_factory=Cleaning)

    @staticmethod
    def ranges() -> dict[str, Range]:
        """The numbers that each setting takes."""
        return {"validation_tokens": Range(1, 1e12)}

    def __post_init__(self) -> None:
        check_ranges(self)

    def open(self) -> Source:
        """The source, ready to read."""
        return open_source(self.source, config=self.config, split=self.split, text_column=self.text_column)


@dataclass(frozen=True)
class Progress:
    """How far `prepare` has got."""

    stage: str
    """`waiting`, `survey`, `tokenizer` or `tokens`."""
    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    estimated_bytes: int | None = None
    """Text in the source, where that is known."""
    wanted_tokens: int | None = None
    """Training tokens at which reading stops."""


@dataclass(frozen=True)
class TokenStore:
    """A finished store. Everything about it is in `meta`, which is its meta.json."""

    path: Path
    meta: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> "TokenStore":
        """The store in folder `path`. Raises InputError where there is none, it is unfinished, or it is torn."""
        path = Path(path)
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            problem = "is not finished" if (path / "journal.json").exists() else "is not a token store"
            raise InputError(f"{path} {problem}", "make one: llmscale data prepare SOURCE") from None
        except ValueError as error:
            raise InputError(f"{path}/meta.json is not JSON: {error}", _remake(path)) from None
        if meta.get("format") != FORMAT:
            raise InputError(f"{path} was written by another version of llmscale", _remake(path))
        if meta.get("dtype") not in ("uint16", "uint32"):
            raise InputError(f"{path} holds {meta.get('dtype')!r}, which are no token numbers", _remake(path))
        store = cls(path, meta)
        for name, tokens in (("train", store.train_tokens), ("validation", store.validation_tokens)):
            held = _size(path / f"{name}.bin") // store.dtype.itemsize
            # train.bin may hold more: another process may be extending it.
            if held < tokens or (name == "validation" and held > tokens):
                raise InputError(
                    f"the token store {path} is torn: {name}.bin holds {held:,} tokens, not the {tokens:,} it should",
                    _remake(path),
                )
        return store

    @property
    def name(self) -> str:
        """What the text was asked for by."""
        return str(self.meta["spec"]["source"])

    @property
    def fingerprint(self) -> str:
        """32 hex digits over the source, the cleaning, the tokenizer and the split."""
        return str(self.meta["fingerprint"])

    @property
    def vocab_size(self) -> int:
        return int(self.meta["tokenizer"]["vocab_size"])

    @property
    def end_of_text(self) -> int:
        """The token number that follows every document."""
        return int(self.meta["tokenizer"]["end_of_text"])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.meta["dtype"])

    @property
    def train_tokens(self) -> int:
        return int(self.meta["train"]["tokens"])

    @property
    def validation_tokens(self) -> int:
        return int(self.meta["validation"]["tokens"])

    @property
    def validation_bytes(self) -> int:
        """UTF-8 bytes of the validation documents. The tokens predicted include one end of text a document, which
        adds no bytes: bits per byte charges a model for knowing where documents end."""
        return int(self.meta["validation"]["bytes"])

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of training text per training token."""
        return float(self.meta["train"]["bytes"]) / max(1, self.train_tokens)

    @property
    def complete(self) -> bool:
        """Whether the whole source was read."""
        return bool(self.meta["complete"])

    def train(self) -> np.ndarray:
        """The training tokens, mapped from disk to be read here and there: nothing is read ahead."""
        tokens = self._mapped("train", self.train_tokens)
        assert isinstance(tokens.base, mmap.mmap)
        tokens.base.madvise(mmap.MADV_RANDOM)
        return tokens

    def validation(self) -> np.ndarray:
        """The validation tokens, mapped from disk."""
        return self._mapped("validation", self.validation_tokens)

    def tokenizer(self) -> "Tokenizer":
        return load_tokenizer(self.path / "tokenizer.json")

    def _mapped(self, name: str, tokens: int) -> np.ndarray:
        return np.memmap(self.path / f"{name}.bin", dtype=self.dtype, mode="r", shape=(tokens,))


def prepare(
    spec: TextSpec,
    *,
    min_train_tokens: int | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TokenStore:
    """The token store of `spec`: the one in the cache, or a new one.

    Reading stops once there are `min_train_tokens` training tokens and the validation set is full; None reads the
    whole source. A source of less than 64 MB is always read whole, for its validation set comes from all of it. The
    validation set does not depend on `min_train_tokens`. Where the hub does not answer, a store made earlier from the
    same settings serves. Wrong input raises InputError and leaves nothing behind.
    """
    report = progress or (lambda _: None)
    try:
        source = spec.open()
        estimated_bytes = source.estimated_bytes()
        choice = choose_tokenizer(spec.tokenizer, estimated_bytes)
    except UnreachableError:
        if (store := _made_earlier(spec, min_train_tokens, cache)) is not None:
            return store
        raise
    path = _path(spec, source, choice, cache)

    def surveying(documents: int, read_bytes: int) -> None:
        report(Progress("survey", documents, read_bytes, 0, estimated_bytes, min_train_tokens))

    def building(journal: Journal) -> None:
        kept = journal.kept
        report(Progress("tokens", kept.documents, kept.bytes, kept.tokens, estimated_bytes, min_train_tokens))

    if (store := _finished(path, min_train_tokens)) is not None:
        return store
    # The survey and its checks come before anything is written.
    begun = Journal.read(path) is not None
    beginning = None if begun else _Beginning.of(spec, source, estimated_bytes, surveying)
    with locked(path, waiting=lambda: report(Progress("waiting"))):
        if (store := _finished(path, min_train_tokens)) is not None:
            return store
        try:
            if Journal.read(path) is None:
                beginning = beginning or _Beginning.of(spec, source, estimated_bytes, surveying)
                report(Progress("tokenizer", len(beginning.training), 0, 0, estimated_bytes, min_train_tokens))
                begin(path, beginning.split, choice.tokenizer(beginning.sample()))
            beginning = None  # 64 MB of text that is no longer needed
            journal = build(
                path,
                source,
                spec.cleaning,
                validation_tokens=spec.validation_tokens,
                min_train_tokens=min_train_tokens,
                workers=workers or available_cores(),
                report=building,
            )
            _write_meta(path, spec, source, choice, journal)
        except InputError:
            if not (path / "meta.json").exists():
                shutil.rmtree(path, ignore_errors=True)
            raise
    return TokenStore.open(path)


def find_store(spec: TextSpec, source: Source, cache: Path | None = None) -> TokenStore | None:
    """The finished store of `spec` in the cache, however much of the source it holds; None where there is none."""
    choice = choose_tokenizer(spec.tokenizer, source.estimated_bytes())
    path = _path(spec, source, choice, cache)
    return TokenStore.open(path) if (path / "meta.json").exists() else None


@dataclass(frozen=True)
class _Beginning:
    """What is decided from the first look at a source."""

    split: Split
    training: tuple[Document, ...]

    @classmethod
    def of(
        cls, spec: TextSpec, source: Source, estimated_bytes: int | None, progress: Callable[[int, int], None]
    ) -> "_Beginning":
        surveyed = survey(source, spec.cleaning, SURVEY_BYTES, progress)
        split = choose_split(surveyed, estimated_bytes, spec.validation_tokens)
        return cls(split, tuple(document for document in surveyed.documents if not split.holds_out(document)))

    def sample(self) -> Iterator[str]:
        """Training text for a tokenizer."""
        room = _TOKENIZER_BYTES
        for document in self.training:
            room -= document.bytes
            if room < 0:
                return
            yield document.text


def _path(spec: TextSpec, source: Source, choice: TokenizerChoice, cache: Path | None) -> Path:
    cleaning = json.dumps(asdict(spec.cleaning), sort_keys=True)
    decides = (source.fingerprint(), cleaning, choice.fingerprint, spec.validation_tokens, FORMAT)
    return (cache or cache_folder()) / "tokens" / digest_of(str(part) for part in decides)


def _finished(path: Path, min_train_tokens: int | None) -> TokenStore | None:
    """The store at `path` where it holds enough. Raises InputError where it is torn."""
    if not (path / "meta.json").exists():
        return None
    store = TokenStore.open(path)
    enough = store.complete or (min_train_tokens is not None and store.train_tokens >= min_train_tokens)
    return store if enough else None


def _made_earlier(spec: TextSpec, min_train_tokens: int | None, cache: Path | None) -> TokenStore | None:
    """The newest finished store of equal settings: what a machine without a network can go by."""
    settings = json.loads(json.dumps(asdict(spec)))
    found = ((cache or cache_folder()) / "tokens").glob("*/meta.json")
    for meta in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        if json.loads(meta.read_text(encoding="utf-8")).get("spec") == settings:
            return _finished(meta.parent, min_train_tokens)
    return None


def _write_meta(path: Path, spec: TextSpec, source: Source, choice: TokenizerChoice, journal: Journal) -> None:
    for what, count in (("training", journal.train), ("validation", journal.validation)):
        if not count.documents:
            raise InputError(
                f"none of the {journal.kept.documents:,} documents of {spec.source} fell to {what}: they are too few",
                "name text of more documents",
            )
    tokenizer = load_tokenizer(path / "tokenizer.json")
    token, number = end_of_text(tokenizer, choice.name)
    vocabulary = vocab_size(tokenizer)
    meta = {
        "format": FORMAT,
        "fingerprint": path.name,
        "spec": asdict(spec),
        "source": {**source.describe(), "fingerprint": source.fingerprint(), "shards": len(source.shards)},
        "tokenizer": {
            "name": choice.name,
            "fingerprint": choice.fingerprint,
            "vocab_size": vocabulary,
            "end_of_text": number,
            "end_of_text_token": token,
        },
        "split": {"rule": "the 64-bit blake2b hash of the cleaned document is below limit", **journal.split.to_json()},
        "dtype": token_type(vocabulary).name,
        "complete": journal.complete,
        "train": asdict(journal.train),
        "validation": asdict(journal.validation),
        "set_aside": asdict(journal.set_aside),
        "dropped": {
            "too_short": journal.too_short,
            "duplicates": journal.duplicates,
            "duplicate_bytes": journal.duplicate_bytes,
        },
        "bytes_per_token": journal.train.bytes / journal.train.tokens,
        "versions": {
            "llmscale": llmscale.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "tokenizers": importlib.metadata.version("tokenizers"),
        },
    }
    write_text(path / "meta.json", json.dumps(meta, indent=2) + "\n")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _remake(path: Path) -> str:
    return f"remove it and prepare it again: {command_line('rm', '-r', path)}"
