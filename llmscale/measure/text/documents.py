"""From a source to clean documents, and the rule that holds some of them out for validation.

A document is held out when the hash of its cleaned text lies below a limit, so that it falls on the
same side wherever it stands and however often. Of the held-out documents the first
`validation_tokens` tokens, in the order of the source, are the validation set; the others are set
aside and never trained on."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from llmscale.errors import InputError, both
from llmscale.measure.text.cleaner import (
    EXACT_DUPLICATES,
    TOO_SHORT,
    Cleaned,
    Cleaner,
    Effect,
    together,
)
from llmscale.measure.text.cleaning import Document
from llmscale.measure.text.cleaning_in_order import clean_in_order
from llmscale.measure.text.sources import Source
from llmscale.measure.text.spec import Cleaning

BATCH_CHARACTERS: Final = 1 << 20
SURVEY_BYTES: Final = 64_000_000
"""How much text is looked at to choose the split and to train a tokenizer."""
_ENDLESS_BYTES: Final = 4_000_000
_MOST_DROPPED: Final = 2_000_000
_LEAST_KEPT: Final = 1e-3
"""After so many dropped documents a text of almost none is refused: small files may have no end."""
_MOST_SURVEYED: Final = 4_000_000
"""Documents, of which each takes some 200 bytes of memory besides its text."""
LARGEST_SHARE: Final = 0.1
_SMALLEST_SHARE: Final = 0.02
_UNKNOWN_SHARE: Final = 0.05
BYTES_PER_TOKEN: Final = 4
"""For estimates before there is a tokenizer; on the high side, so that enough is held out."""
FEWEST_DOCUMENTS: Final = 10
_HASHES: Final = 1 << 64


@dataclass(frozen=True)
class Position:
    """A place in a source: the next document to read."""

    shard: int = 0
    document: int = 0


@dataclass(frozen=True)
class Batch:
    """Clean documents that follow each other in the source, about a mebibyte of text."""

    documents: tuple[Document, ...]
    end: Position
    cleaned: Cleaned
    """How they came about: `documents` may be more, if they were augmented since."""

    @property
    def too_short(self) -> int:
        """Documents that cleaning dropped between these."""
        return self.effect(TOO_SHORT).dropped

    @property
    def duplicates(self) -> int:
        return self.effect(EXACT_DUPLICATES).dropped

    @property
    def duplicate_bytes(self) -> int:
        return self.effect(EXACT_DUPLICATES).dropped_bytes

    @property
    def dropped(self) -> int:
        """Documents dropped by whatever step."""
        return sum(effect.dropped for effect in self.cleaned.effects.values())

    @property
    def of_steps(self) -> dict[str, Effect]:
        """What the steps did that were asked for."""
        usual = (TOO_SHORT, EXACT_DUPLICATES)
        effects = self.cleaned.effects
        return {name: effect for name, effect in effects.items() if name not in usual}

    def effect(self, name: str) -> Effect:
        """What a step did."""
        return self.cleaned.effects.get(name, Effect())


@dataclass(frozen=True)
class Survey:
    """The beginning of a source, or all of it when it is small."""

    documents: tuple[Document, ...]
    too_short: int
    duplicates: int
    duplicate_bytes: int
    complete: bool
    """Whether this is the whole source."""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    """What each step of cleaning did."""

    @property
    def bytes(self) -> int:
        return sum(document.bytes for document in self.documents)


@dataclass(frozen=True)
class Split:
    """Which documents are held out: those whose 64-bit hash is below `limit`."""

    limit: int
    reason: str

    def holds_out(self, document: Document) -> bool:
        return document.digest < self.limit

    def to_json(self) -> dict[str, Any]:
        return {"limit": self.limit, "share": self.limit / _HASHES, "reason": self.reason}


def read_batches(
    source: Source, cleaner: Cleaner, start: Position, workers: int = 1
) -> Generator[Batch, None, None]:
    """The documents of `source` from `start` on, cleaned by `workers` processes at most, which read
    ahead; where batches end depends on the source only."""
    with closing(clean_in_order(_read_texts(source, start), cleaner, workers)) as batches:
        for cleaned, end in batches:
            yield Batch(cleaned.documents, end, cleaned)


def _read_texts(source: Source, start: Position) -> Iterator[tuple[list[str], Position]]:
    texts: list[str] = []
    characters = 0
    end = start
    for shard in range(start.shard, len(source.shards)):
        first = start.document if shard == start.shard else 0
        for number, text in enumerate(source.documents(shard, first), start=first):
            texts.append(text)
            characters += len(text) + 1
            end = Position(shard, number + 1)
            if characters >= BATCH_CHARACTERS:
                yield texts, end
                texts, characters = [], 0
    if texts:
        yield texts, end


def survey_bytes(source: Source, usual: int = SURVEY_BYTES) -> int:
    """How much of a source to look at first. One without an end has the same at every place."""
    return min(usual, _ENDLESS_BYTES) if source.is_endless else usual


def survey(
    source: Source,
    cleaning: Cleaning,
    limit_bytes: int,
    progress: Callable[[int, int], None] = lambda documents, read_bytes: None,
    workers: int = 1,
) -> Survey:
    """The first `limit_bytes` of a source; `progress` is told documents read and bytes kept."""
    with closing(read_batches(source, Cleaner(cleaning), Position(), workers)) as batches:
        return _surveyed(batches, cleaning, limit_bytes, progress)


def _surveyed(
    source: Iterable[Batch],
    cleaning: Cleaning,
    limit_bytes: int,
    progress: Callable[[int, int], None],
) -> Survey:
    batches: list[Batch] = []
    read_bytes = documents = dropped = 0
    complete = True
    for batch in source:
        if read_bytes >= limit_bytes or documents >= _MOST_SURVEYED:
            complete = False
            break
        batches.append(batch)
        read_bytes += sum(document.bytes for document in batch.documents)
        documents += len(batch.documents)
        dropped += batch.dropped
        if dropped > _MOST_DROPPED and documents < _LEAST_KEPT * dropped:
            raise InputError(
                f"the first {documents + dropped:,} documents are empty or the same as another"
                f"{_or_cleaned(cleaning)}, but for {documents:,}: this is no text to train on",
                "look at it: llmscale data inspect SOURCE; if its text is in another column: "
                "--text-column NAME",
            )
        progress(documents + dropped, read_bytes)
    return Survey(
        documents=tuple(itertools.chain.from_iterable(batch.documents for batch in batches)),
        too_short=sum(batch.too_short for batch in batches),
        duplicates=sum(batch.duplicates for batch in batches),
        duplicate_bytes=sum(batch.duplicate_bytes for batch in batches),
        complete=complete,
        effects=together(batch.cleaned.effects for batch in batches),
    )


def _or_cleaned(cleaning: Cleaning) -> str:
    return f", or dropped by {both(cleaning.steps)}" if cleaning.steps else ""


def choose_split(surveyed: Survey, estimated_bytes: int | None, validation_tokens: int) -> Split:
    """The split that holds out about `validation_tokens` tokens and at most a tenth of the text.

    Of a small corpus the documents are known, and the limit is set between two of them. Of a larger
    one twice the share that its estimated size asks for is held out (at least 2%), and of one of
    unknown size 5%; the validation set is then the first part of that. Raises InputError if
    there is too little text to hold any out."""
    count = len(surveyed.documents)
    if count < FEWEST_DOCUMENTS:
        raise InputError(
            f"the text is {count} document{'s' * (count != 1)} of {surveyed.bytes:,} bytes in "
            f"all: too little to hold some out for validation, which takes {FEWEST_DOCUMENTS} "
            "documents",
            "name more text, for example --data stdlib",
        )
    wanted_bytes = validation_tokens * BYTES_PER_TOKEN
    if surveyed.complete:
        return _split_between(surveyed, min(wanted_bytes, LARGEST_SHARE * surveyed.bytes))
    if estimated_bytes is None:
        return Split(round(_UNKNOWN_SHARE * _HASHES), "the size of the source is unknown")
    share = min(LARGEST_SHARE, max(_SMALLEST_SHARE, 2 * wanted_bytes / max(1, estimated_bytes)))
    return Split(round(share * _HASHES), f"the source holds about {estimated_bytes / 1e6:,.0f} MB")


def _split_between(surveyed: Survey, most_bytes: float) -> Split:
    """Hold out the documents of smallest hash that `most_bytes` has room for, and at least one."""
    ordered = sorted(surveyed.documents, key=lambda document: document.digest)
    held_out = ordered[0].bytes
    for document in ordered[1:]:
        held_out += document.bytes
        if held_out > most_bytes:
            return Split(document.digest, f"all {len(ordered):,} documents were read first")
    raise AssertionError("a tenth of the text cannot be all of it")
