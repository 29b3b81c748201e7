"""A look at text before or after it is tokenized: how much there is, what was dropped, samples."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmscale.measure.text.automaton import Entropy
from llmscale.measure.text.documents import Survey, survey, survey_bytes
from llmscale.measure.text.prepare import TextSpec, TokenStore, find_store
from llmscale.measure.text.sources import Source
from llmscale.measure.text.tokenizer import decode
from llmscale.measure.text.true_loss import true_loss

SAMPLE_CHARACTERS: Final = 600
_CHUNK_TOKENS: Final = 1 << 24


@dataclass(frozen=True)
class Inspection:
    """What is known about text; without a token store, about the first 64 MB of a source."""

    name: str
    fingerprint: str
    """Of the token store; of the source if there is no store."""
    store: str | None
    complete: bool
    """Whether the whole source was read."""
    documents: int
    """Documents kept by cleaning."""
    bytes: int
    """UTF-8 bytes of these."""
    train_tokens: int | None
    validation_tokens: int | None
    vocab_size: int | None
    bytes_per_token: float | None
    too_short_share: float
    """Share of documents dropped as too short."""
    duplicate_share: float
    """Share of documents dropped as exact duplicates."""
    shortest: int
    longest: int
    length_unit: str
    """`tokens` in a store, else `bytes`."""
    samples: tuple[str, ...]
    """Documents from different places, cut to 600 characters."""
    remarks: tuple[str, ...] = ()
    """What of the text was taken for what."""
    entropy: Entropy | None = None
    """That of the language, if the text is drawn from one that is known."""
    endless: bool = False
    """Whether the source goes on for ever, so that it has to be said how much is taken."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect_text(
    spec: TextSpec,
    *,
    samples: int = 3,
    progress: Callable[[int, int], None] = lambda documents, read_bytes: None,
) -> Inspection:
    """Inspect the token store of `spec` if there is one, else the beginning of its source;
    `spec.source` may also be the folder of a token store. `progress` is told documents and bytes
    read."""
    folder = Path(spec.source)
    if (folder / "meta.json").is_file() or (folder / "journal.json").is_file():
        return _inspect_store(TokenStore.open(folder).text_only(), samples)
    source = spec.open()
    store = find_store(spec, source)
    if store is not None:
        return _inspect_store(store, samples)
    surveyed = survey(source, spec.cleaning, survey_bytes(source), progress)
    return _inspect_survey(spec.source, source, surveyed, samples)


def _inspect_store(store: TokenStore, samples: int) -> Inspection:
    store.check()
    kept = [store.meta[part] for part in ("train", "validation", "set_aside")]
    documents = sum(part["documents"] for part in kept)
    dropped = store.meta["dropped"]
    read = documents + dropped["too_short"] + dropped["duplicates"]
    tokens = store.train()
    lengths = _document_lengths(tokens, store.end_of_text)
    ends = np.cumsum(lengths)
    tokenizer = store.tokenizer()
    texts = []
    for index in _spread(len(lengths), samples):
        start = int(ends[index] - lengths[index])
        end = min(int(ends[index]), start + SAMPLE_CHARACTERS)
        texts.append(decode(tokenizer, tokens[start:end].tolist())[:SAMPLE_CHARACTERS])
    return Inspection(
        name=store.name,
        fingerprint=store.fingerprint,
        store=str(store.path),
        complete=store.complete,
        documents=documents,
        bytes=sum(part["bytes"] for part in kept),
        train_tokens=store.train_tokens,
        validation_tokens=store.validation_tokens,
        vocab_size=store.vocab_size,
        bytes_per_token=store.bytes_per_token,
        too_short_share=dropped["too_short"] / read,
        duplicate_share=dropped["duplicates"] / read,
        shortest=int(lengths.min()),
        longest=int(lengths.max()),
        length_unit="tokens",
        samples=tuple(texts),
        remarks=store.remarks,
        entropy=_entropy_in(store),
    )


def _inspect_survey(name: str, source: Source, surveyed: Survey, samples: int) -> Inspection:
    documents = surveyed.documents
    read = max(1, len(documents) + surveyed.too_short + surveyed.duplicates)
    lengths = [document.bytes for document in documents] or [0]
    chosen = (documents[index] for index in _spread(len(documents), samples))
    return Inspection(
        name=name,
        fingerprint=source.fingerprint(),
        store=None,
        complete=surveyed.complete,
        endless=source.is_endless,
        documents=len(documents),
        bytes=surveyed.bytes,
        train_tokens=None,
        validation_tokens=None,
        vocab_size=None,
        bytes_per_token=None,
        too_short_share=surveyed.too_short / read,
        duplicate_share=surveyed.duplicates / read,
        shortest=min(lengths),
        longest=max(lengths),
        length_unit="bytes",
        samples=tuple(document.text[:SAMPLE_CHARACTERS] for document in chosen),
        remarks=source.remarks(),
        entropy=source.entropy(),
    )


def _entropy_in(store: TokenStore) -> Entropy | None:
    known = true_loss(store)
    if known is None:
        return None
    stated = Entropy(**store.meta["source"]["entropy"])
    return replace(stated, nats_per_token=known.rate)


def _document_lengths(tokens: np.ndarray, end: int) -> np.ndarray:
    """Tokens of every document, its end-of-text token counted, read a part at a time."""
    places = [
        np.flatnonzero(tokens[start : start + _CHUNK_TOKENS] == end) + start
        for start in range(0, len(tokens), _CHUNK_TOKENS)
    ]
    return np.diff(np.concatenate([[-1], *places]))


def _spread(count: int, wanted: int) -> Sequence[int]:
    """Up to `wanted` indices spread evenly over `count`."""
    wanted = min(count, wanted)
    return [(2 * place + 1) * count // (2 * wanted) for place in range(wanted)]
