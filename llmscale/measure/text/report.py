"""What there is to know of a text before it is trained on: what each step of cleaning removes, how
much of the validation text is in the training text, and how lengths, origins and languages are
spread. Reads a text of any size in bounded memory: the first 64 MB, the validation text's hashes,
and for each document 8 bytes, or 120 with near duplicates; of a large token store only a sample."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.machine.needs import is_installed
from llmscale.measure.text.clean import Compare, Rewrite, open_steps
from llmscale.measure.text.cleaner import EXACT_DUPLICATES, TOO_SHORT, Cleaner, Effect, together
from llmscale.measure.text.cleaning import Document
from llmscale.measure.text.detected_language import PACKAGE, language_of
from llmscale.measure.text.documents import (
    BYTES_PER_TOKEN,
    Batch,
    Position,
    Split,
    Survey,
    choose_split,
    read_batches,
    survey,
    survey_bytes,
)
from llmscale.measure.text.overlap import Overlap, OverlapMeter
from llmscale.measure.text.prepare import TextSpec, TokenStore
from llmscale.measure.text.skew import Lengths, LengthSpread, Origins, Shares, origin_of
from llmscale.measure.text.sources import Source
from llmscale.measure.text.stored_documents import SEED, stored_documents

STORE_TOKENS: Final = 1 << 25
"""Training and validation tokens of a store that are read at most, if no more are asked for: they
take about a minute."""
_ALL: Final = 1 << 62


@dataclass(frozen=True)
class Sample:
    """What was read of a token store that is too large to be read as a whole."""

    tokens: int
    of_tokens: int
    documents: int
    """Of these are the lengths, languages and overlap; all other numbers are of the whole store."""
    seed: int = SEED

    @property
    def said(self) -> str:
        """It in words."""
        return (
            f"lengths, languages and overlap are of {self.documents:,} documents drawn by lot "
            f"(seed {self.seed}), {self.tokens:,} of {self.of_tokens:,} tokens: what was left out "
            "may hold more of the validation text, and its checksum was not checked; --bytes "
            "reads more"
        )


@dataclass(frozen=True)
class TextReport:
    """What is known of a text."""

    name: str
    complete: bool
    """Whether all of it was read."""
    documents_read: int
    documents: int
    """Documents kept."""
    bytes: int
    """UTF-8 bytes of these."""
    tokens: int | None
    """Tokens of these, if the text is a token store."""
    effects: Mapping[str, Effect]
    """What each step of cleaning did, in the order in which they are taken."""
    overlap: Overlap | None
    """None if there is too little text to hold any out."""
    lengths: LengthSpread
    origins: Shares | None
    """None for a token store."""
    languages: Shares | None
    """None if the package that tells them is not installed."""
    remarks: tuple[str, ...] = ()
    sample: Sample | None = None
    """Of a large token store, what was read; None if that was all."""

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        for name in ("origins", "languages"):
            shares: Shares | None = getattr(self, name)
            if shares is not None:
                found[name] |= {"gini": shares.gini, "effective_number": shares.effective_number}
        return found


def report_text(
    spec: TextSpec,
    *,
    origin_column: str | None = None,
    most_bytes: int | None = None,
    progress: Callable[[int, int], None] = lambda documents, read_bytes: None,
) -> TextReport:
    """Read all of the text, or until cleaning has kept `most_bytes` of it, and report on it;
    `spec.source` may also be the folder of a token store, of which about `most_bytes`, by default
    STORE_TOKENS, are drawn by lot. `origin_column` names the column of a
    table that says where a document comes from; without it that is its file's folder. `progress`
    is told documents read and bytes kept. Raises InputError."""
    folder = Path(spec.source)
    if (folder / "meta.json").is_file():
        if origin_column is not None or spec != TextSpec(spec.source):
            raise InputError(
                f"{folder} is a token store, whose text has been cleaned and split already",
                "give no settings of a text, or name the text that it was made of",
            )
        return _of_store(TokenStore.open(folder).text_only(), most_bytes, progress)
    if spec.mixture:
        raise InputError("a mixture has no report of its own", "report on its sources one by one")
    return _of_source(spec, origin_column, most_bytes, progress)


class _Meters:
    """What is measured of documents that are kept."""

    def __init__(self, unit: str) -> None:
        self.overlap, self.lengths, self.languages = OverlapMeter(), Lengths(unit), Origins()
        self._tells_languages = is_installed(PACKAGE)

    def languages_of(self, texts: Iterable[str]) -> None:
        """Tell the languages of documents."""
        if self._tells_languages:
            for text in texts:
                self.languages.add(language_of(text), len(text.encode()))

    def shares_of_languages(self) -> Shares | None:
        return self.languages.shares() if self._tells_languages else None


def _of_source(
    spec: TextSpec,
    origin_column: str | None,
    most_bytes: int | None,
    progress: Callable[[int, int], None],
) -> TextReport:
    source = _Noted(spec.open(), _origins(spec, origin_column))
    if source.is_endless and most_bytes is None:
        raise InputError(f"{spec.source} has no end", "say how much of it to read: --bytes 100M")
    limit = most_bytes or _ALL
    estimated = source.estimated_bytes()
    surveyed = survey(source, spec.cleaning, min(survey_bytes(source), limit), progress)
    split, remarks = _split(surveyed, estimated, spec.held_out)
    meters, origins = _Meters("bytes"), Origins()
    for texts in _validation(source, spec, split, surveyed):
        meters.overlap.hold(texts)
        source.noted.clear()
    found = _Found()
    source.noted.clear()
    for batch in read_batches(source, Cleaner(spec.cleaning), Position()):
        kept = batch.documents
        meters.lengths.add(np.array([document.bytes for document in kept], np.int64))
        meters.overlap.read([document.text for document in kept if not split.holds_out(document)])
        meters.languages_of(document.text for document in kept)
        for number, document in zip(batch.cleaned.numbers, kept, strict=True):
            origins.add(source.noted[number], document.bytes)
        source.noted.clear()
        found = found.with_batch(batch)
        progress(found.read, found.bytes)
        if found.bytes >= limit:
            break
    else:
        limit = _ALL
    return TextReport(
        name=spec.source,
        complete=limit == _ALL,
        documents_read=found.read,
        documents=found.documents,
        bytes=found.bytes,
        tokens=None,
        effects=_in_order(found.effects, spec),
        overlap=meters.overlap.overlap(),
        lengths=meters.lengths.spread(),
        origins=origins.shares(),
        languages=meters.shares_of_languages(),
        remarks=(*source.remarks(), *remarks),
    )


@dataclass(frozen=True)
class _Found:
    """What has been read."""

    read: int = 0
    documents: int = 0
    bytes: int = 0
    effects: Mapping[str, Effect] = field(default_factory=dict)

    def with_batch(self, batch: Batch) -> "_Found":
        return _Found(
            self.read + batch.cleaned.read,
            self.documents + len(batch.documents),
            self.bytes + sum(document.bytes for document in batch.documents),
            together((self.effects, batch.cleaned.effects)),
        )


def _split(
    surveyed: Survey, estimated_bytes: int | None, held_out: int
) -> tuple[Split, tuple[str, ...]]:
    """The split that preparing the text would choose; nothing is held out of too little text."""
    try:
        return choose_split(surveyed, estimated_bytes, held_out), ()
    except InputError as error:
        return Split(0, "there is too little text"), (error.problem,)


def _validation(
    source: Source, spec: TextSpec, split: Split, surveyed: Survey
) -> Iterator[list[str]]:
    """The documents held out, until there are about as many tokens as are asked for."""
    room = spec.held_out * BYTES_PER_TOKEN
    batches: Iterable[Sequence[Document]] = [surveyed.documents]
    if not surveyed.complete and split.limit:
        cleaner = Cleaner(spec.cleaning)
        batches = (batch.documents for batch in read_batches(source, cleaner, Position()))
    for documents in batches:
        held = [document for document in documents if split.holds_out(document)]
        yield [document.text for document in held]
        room -= sum(document.bytes for document in held)
        if room <= 0:
            return


def _in_order(effects: Mapping[str, Effect], spec: TextSpec) -> dict[str, Effect]:
    """What every step did, in the order in which they are taken."""
    steps = open_steps(spec.cleaning.steps)
    last = [step for step in steps if isinstance(step, Compare)]
    first = [step for step in steps if step not in last]
    names = [step.name for step in first if isinstance(step, Rewrite)]
    names += [TOO_SHORT, *(step.name for step in first if not isinstance(step, Rewrite))]
    names += [EXACT_DUPLICATES, *(step.name for step in last)]
    return {name: effects.get(name, Effect()) for name in names}


def _origins(spec: TextSpec, column: str | None) -> Source | None:
    """The text whose documents are what the column says."""
    return None if column is None else replace(spec, text_column=column).open()


class _Noted(Source):
    """A source that notes where each document comes from as it is read."""

    def __init__(self, source: Source, origins: Source | None) -> None:
        self._source, self._origins = source, origins
        self.noted: list[str] = []
        """Of documents since it was last cleared."""

    @property
    def shards(self) -> tuple[str, ...]:
        return self._source.shards

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        texts = self._source.documents(shard, start)
        if self._origins is None:
            here = origin_of(self.shards[shard])
            for text in texts:
                self.noted.append(here)
                yield text
            return
        places = self._origins.documents(shard, start)
        for text, place in zip(texts, places, strict=True):
            self.noted.append(origin_of(place))
            yield text

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    def estimated_bytes(self) -> int | None:
        return self._source.estimated_bytes()

    def describe(self) -> dict[str, Any]:
        return self._source.describe()

    def remarks(self) -> tuple[str, ...]:
        return self._source.remarks()

    @property
    def is_endless(self) -> bool:
        return self._source.is_endless


def _of_store(
    store: TokenStore, most_bytes: int | None, progress: Callable[[int, int], None]
) -> TextReport:
    if store.shares:
        raise InputError(
            f"{store.path} is of a mixture, which has no report of its own",
            "report on its sources one by one",
        )
    most = STORE_TOKENS
    if most_bytes is not None:
        most = max(1, round(most_bytes / store.bytes_per_token))
    is_whole = max(store.train_tokens, store.validation_tokens) <= most
    store.check(only=None if is_whole else ("tokenizer.json",))
    dropped = store.meta["dropped"]
    steps = {name: Effect.from_json(known) for name, known in dropped.get("steps", {}).items()}
    effects = {
        TOO_SHORT: Effect(dropped["too_short"]),
        EXACT_DUPLICATES: Effect(dropped["duplicates"], dropped["duplicate_bytes"]),
        **steps,
    }
    parts = [store.meta[part] for part in ("train", "validation", "set_aside")]
    documents = sum(part["documents"] for part in parts)
    meters, read_tokens = _Meters("tokens"), 0
    sides = (store.validation(), meters.overlap.hold), (store.train(), meters.overlap.read)
    for tokens, look in sides:
        for lengths, texts in stored_documents(store, tokens, most):
            look(texts)
            meters.lengths.add(lengths)
            meters.languages_of(texts)
            read_tokens += int(lengths.sum())
            progress(meters.lengths.documents, 0)
    sample = None
    if not is_whole:
        of_tokens = store.train_tokens + store.validation_tokens
        sample = Sample(read_tokens, of_tokens, meters.lengths.documents)
    return TextReport(
        name=store.name,
        complete=store.complete,
        documents_read=documents + sum(effect.dropped for effect in effects.values()),
        documents=documents,
        bytes=sum(part["bytes"] for part in parts),
        tokens=sum(part["tokens"] for part in parts),
        effects=effects,
        overlap=meters.overlap.overlap(),
        lengths=meters.lengths.spread(),
        origins=None,
        languages=meters.shares_of_languages(),
        remarks=(*store.remarks, *([sample.said] if sample else ())),
        sample=sample,
    )
