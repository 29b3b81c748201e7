"""The token store: a corpus as two memory-mapped files of token numbers, cached by what decides
them.

    CACHE/tokens/FINGERPRINT/
      train.bin, validation.bin   token numbers, uint16 or uint32; an end of text ends each document
      tokenizer.json              what the tokens mean
      digests.bin                 8 bytes a kept document, to know duplicates when building goes on
      marks-STEP.bin              the same for a step of cleaning that compares documents
      journal.json                how far building has got
      meta.json                   everything known about the store; written last

Building appends to the files in the order of the source, and the journal says up to where they are
good. After a kill the next call cuts them off there and goes on; the result does not depend on
kills or on the number of workers. A store that was built for fewer training tokens than are now
asked for is extended in the same way, so that its first tokens and its validation set stay what
they are."""

import importlib.metadata
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from llmscale.errors import InputError
from llmscale.machine import available_cores
from llmscale.machine.cache import cache_folder, is_shared
from llmscale.measure.text.build_store import Count, Journal, begin, build, locked, marks_file
from llmscale.measure.text.checksums import ALGORITHM
from llmscale.measure.text.clean import Compare, open_steps
from llmscale.measure.text.cleaner import Effect
from llmscale.measure.text.cleaning import Document
from llmscale.measure.text.documents import SURVEY_BYTES, Split, choose_split, survey, survey_bytes
from llmscale.measure.text.long_words import LongWords
from llmscale.measure.text.sources import Source, UnreachableError, digest_of
from llmscale.measure.text.spec import TextSpec
from llmscale.measure.text.store import FORMAT, TokenStore, checksum_of_meta, with_checksums
from llmscale.measure.text.tokenizer import (
    TokenizerChoice,
    choose_tokenizer,
    end_of_text,
    load_tokenizer,
    own_tokenizer,
    token_type,
    vocab_size,
)
from llmscale.runs.checked import known_object
from llmscale.runs.safe_write import write_json
from llmscale.version import __version__

__all__ = ["FORMAT", "Progress", "TextSpec", "TokenStore", "find_store", "prepare"]

TOKENIZER_BYTES: Final = 50_000_000
"""How much training text a tokenizer is trained on at most."""
_QUICKLY_READ: Final = 1 << 30
"""Bytes that are checked within a few seconds, without progress to show."""


@dataclass(frozen=True)
class Progress:
    """How far `prepare` has got."""

    stage: str
    """`waiting`, `survey`, `tokenizer`, `tokens` or `checking`."""
    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    estimated_bytes: int | None = None
    """Text in the source, if that is known."""
    wanted_tokens: int | None = None
    """Training tokens at which reading stops."""


def prepare(
    spec: TextSpec,
    *,
    min_train_tokens: int | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    split: Split | None = None,
) -> TokenStore:
    """The token store of `spec`: the one in the cache, or a new one.

    Reading stops once there are `min_train_tokens` training tokens and the validation set is full;
    None reads the whole source. A source of less than 64 MB is always read whole, for its
    validation set comes from all of it. The validation set does not depend on `min_train_tokens`.
    If the hub does not answer, a store made earlier from the same settings serves. `split` is held
    out in place of what would be chosen for this source. Wrong input raises InputError and leaves
    nothing behind."""
    report, workers = progress or (lambda _: None), workers or available_cores()
    try:
        source = spec.open()
        estimated_bytes = source.estimated_bytes()
        choice = _choice(spec, source, estimated_bytes)
    except UnreachableError:
        if (store := _made_earlier(spec, min_train_tokens, cache)) is not None:
            return _checked(store, report, lambda: report(Progress("waiting")))
        raise
    if source.is_endless and min_train_tokens is None:
        raise InputError(
            f"{spec.source} has no end, and all of it was asked for",
            f"say how much to take: --tokens 10M, or --data {spec.source},tokens=10M",
        )
    path = _path(spec, source, choice, cache, split)
    remarks = (*source.remarks(), *choice.remarks, *spec.remarks())

    def reached(stage: str, count: Count) -> None:
        done = (count.documents, count.bytes, count.tokens)
        report(Progress(stage, *done, estimated_bytes, min_train_tokens))

    def surveying(documents: int, read_bytes: int) -> None:
        reached("survey", Count(documents, read_bytes))

    def waiting() -> None:
        report(Progress("waiting"))

    if (store := _finished(path, min_train_tokens)) is not None:
        return _said(_checked(store, report, waiting), spec, remarks)
    # The survey and its checks come before anything is written.
    begun = Journal.read(path) is not None
    begin_with = partial(Beginning.of, spec, source, estimated_bytes, surveying, split, workers)
    beginning = None if begun else begin_with()
    with locked(path, waiting):
        if (store := _finished(path, min_train_tokens)) is not None:
            return _said(_checked(store, report), spec, remarks)
        try:
            if Journal.read(path) is None:
                beginning = beginning or begin_with()
                if choice.existing is None:
                    reached("tokenizer", Count(len(beginning.training)))
                words = LongWords()
                tokenizer = choice.tokenizer(words.shortened(beginning.sample()))
                path.mkdir(mode=0o777 if is_shared() else 0o700, exist_ok=True)
                begin(path, beginning.split, tokenizer, [str(words)] if str(words) else [])
            elif (path / "meta.json").exists():
                # Else what is damaged would get a new checksum.
                _checked(TokenStore.open(path), report)
            beginning = None  # 64 MB of text that is no longer needed
            journal = build(
                path,
                source,
                spec.cleaning,
                choice.end_of_text,
                validation_tokens=spec.held_out,
                min_train_tokens=min_train_tokens,
                workers=workers,
                report=lambda journal: reached("tokens", journal.kept),
                augment=spec.augment,
            )
            _write_meta(path, spec, source, choice, journal)
        except InputError:
            if not (path / "meta.json").exists():
                shutil.rmtree(path, ignore_errors=True)
            raise
    return _said(TokenStore.open(path), spec, remarks)


def find_store(spec: TextSpec, source: Source, cache: Path | None = None) -> TokenStore | None:
    """The finished store of `spec` in the cache, however much of the source it holds; or None."""
    choice = _choice(spec, source, source.estimated_bytes())
    path = _path(spec, source, choice, cache)
    if not (path / "meta.json").exists():
        return None
    return _said(TokenStore.open(path), spec, (*source.remarks(), *choice.remarks))


def _said(store: TokenStore, spec: TextSpec, remarks: tuple[str, ...]) -> TokenStore:
    """The store, under the name that `spec` has for it, with all that is to be said of it."""
    said = (*remarks, *store.meta.get("remarks", ()), *store.remarks)
    return replace(store, source=spec.name, remarks=said)


def _checked(
    store: TokenStore, report: Callable[[Progress], None], waiting: Callable[[], None] | None = None
) -> TokenStore:
    """The store, if its files are what was written; an older one without checksums gets them, while
    no other process extends it. `waiting` is None for who holds its lock."""

    def reading(read_bytes: int, all_bytes: int) -> None:
        if all_bytes > _QUICKLY_READ:
            report(Progress("checking", 0, read_bytes, 0, all_bytes))

    checksums = store.check(reading)
    if "checksums" in store.meta or not os.access(store.path, os.W_OK):
        return store
    if waiting is None:
        return with_checksums(store, checksums)
    with locked(store.path, waiting):
        unchanged = TokenStore.open(store.path) == store
        return with_checksums(store, checksums) if unchanged else store


@dataclass(frozen=True)
class Beginning:
    """What is decided from the first look at a source."""

    split: Split
    training: tuple[Document, ...]

    @classmethod
    def of(
        cls,
        spec: TextSpec,
        source: Source,
        estimated_bytes: int | None,
        progress: Callable[[int, int], None],
        split: Split | None = None,
        workers: int = 1,
    ) -> "Beginning":
        most = survey_bytes(source, SURVEY_BYTES)
        surveyed = survey(source, spec.cleaning, most, progress, workers)
        split = split or choose_split(surveyed, estimated_bytes, spec.held_out)
        training = (document for document in surveyed.documents if not split.holds_out(document))
        return cls(split, tuple(training))

    def sample(self, room: int = TOKENIZER_BYTES) -> Iterator[str]:
        """Training text for a tokenizer, of at most `room` bytes."""
        for document in self.training:
            if self.split.holds_out(document):
                continue
            room -= document.bytes
            if room < 0:
                return
            yield document.text


def _choice(spec: TextSpec, source: Source, estimated_bytes: int | None) -> TokenizerChoice:
    own = None
    if spec.tokenizer is None:
        own = source.tokenizer()
    if own is not None:
        return own_tokenizer(own, spec.end_of_text)
    return choose_tokenizer(spec.tokenizer, estimated_bytes, spec.end_of_text)


def _path(
    spec: TextSpec,
    source: Source,
    choice: TokenizerChoice,
    cache: Path | None,
    split: Split | None = None,
) -> Path:
    cleaning = json.dumps(spec.cleaning.stated(), sort_keys=True)
    decides = [source.fingerprint(), cleaning, choice.fingerprint, spec.held_out, FORMAT]
    decides += [f"{step.name} {step.version}" for step in open_steps(spec.cleaning.steps)]
    if split is not None:
        decides.append(f"split {split.limit}")
    if spec.augment.changes:
        decides.append(json.dumps(asdict(spec.augment), sort_keys=True))
    return (cache or cache_folder()) / "tokens" / digest_of(str(part) for part in decides)


def _finished(path: Path, min_train_tokens: int | None) -> TokenStore | None:
    """The store at `path` if it holds enough. Raises InputError if it is torn."""
    if not (path / "meta.json").exists():
        return None
    store = TokenStore.open(path)
    wanted = math.inf if min_train_tokens is None else min_train_tokens
    return store if store.complete or store.train_tokens >= wanted else None


def _stated(spec: TextSpec) -> dict[str, object]:
    return {**spec.stated(), "validation_tokens": spec.held_out}


def _made_earlier(
    spec: TextSpec, min_train_tokens: int | None, cache: Path | None
) -> TokenStore | None:
    """The newest finished store of equal settings: what a machine without a network can go by."""
    settings = json.loads(json.dumps(_stated(spec)))
    found = ((cache or cache_folder()) / "tokens").glob("*/meta.json")
    for meta in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        known = known_object(meta).get("spec")  # one that is damaged is for whoever asks for it
        if isinstance(known, dict) and {"end_of_text": None, **known} == settings:
            return _finished(meta.parent, min_train_tokens)
    return None


def _marks(spec: TextSpec) -> dict[str, object]:
    """The files of what documents are compared by, with hashes a document, if there are any."""
    steps = open_steps(spec.cleaning.steps)
    files = {marks_file(step): step.WIDTH for step in steps if isinstance(step, Compare)}
    return {"marks": files} if files else {}


def _of_steps(spec: TextSpec, journal: Journal) -> dict[str, object]:
    """What the steps of cleaning did, if there are any."""
    names = [step.name for step in open_steps(spec.cleaning.steps)]
    if not names:
        return {}
    return {"steps": {name: asdict(journal.steps.get(name, Effect())) for name in names}}


def _write_meta(
    path: Path, spec: TextSpec, source: Source, choice: TokenizerChoice, journal: Journal
) -> None:
    for what, count in (("training", journal.train), ("validation", journal.validation)):
        if not count.documents:
            none = f"none of the {journal.kept.documents:,} documents of {spec.source}"
            problem = f"{none} fell to {what}: they are too few"
            raise InputError(problem, "name text of more documents")
    tokenizer = load_tokenizer(path / "tokenizer.json")
    token, number = end_of_text(tokenizer, choice.name, choice.end_of_text)
    vocabulary = vocab_size(tokenizer)
    meta = {
        "format": FORMAT,
        "fingerprint": path.name,
        "spec": _stated(spec),
        "source": {
            **source.describe(),
            "fingerprint": source.fingerprint(),
            "shards": len(source.shards),
        },
        "tokenizer": {
            "name": choice.name,
            "fingerprint": choice.fingerprint,
            "vocab_size": vocabulary,
            "end_of_text": number,
            "end_of_text_token": token,
        },
        "split": {
            "rule": "the 64-bit blake2b hash of the cleaned document is below limit",
            **journal.split.to_json(),
        },
        "dtype": token_type(vocabulary).name,
        "complete": journal.complete,
        "train": asdict(journal.train),
        "validation": asdict(journal.validation),
        "set_aside": asdict(journal.set_aside),
        "dropped": {
            "too_short": journal.too_short,
            "duplicates": journal.duplicates,
            "duplicate_bytes": journal.duplicate_bytes,
            **_of_steps(spec, journal),
        },
        **_marks(spec),
        "unknown_tokens": journal.unknown,
        "bytes_per_token": journal.train.bytes / journal.train.tokens,
        "remarks": list(journal.remarks),
        "versions": {
            "llmscale": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "tokenizers": importlib.metadata.version("tokenizers"),
        },
    }
    as_read = json.loads(json.dumps(meta))  # with lists for tuples
    own = {"meta.json": checksum_of_meta(as_read)}
    checksums = {"algorithm": ALGORITHM, **journal.checksums, **own}
    write_json(path / "meta.json", {**meta, "checksums": checksums})
    if not is_shared():
        for file in path.iterdir():
            file.chmod(0o600)
