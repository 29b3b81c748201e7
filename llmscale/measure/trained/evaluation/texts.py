"""The texts that a loss is measured on: opened once, and read as the tokens of each tokenizer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from llmscale.errors import InputError, Note
from llmscale.measure.text.cleaning import Document, clean
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.sources import Source, digest_of, open_source
from llmscale.measure.text.spec import Cleaning
from llmscale.measure.text.tokenizer import token_type, unknown_token, vocab_size
from llmscale.measure.trained.evaluation.names import Asked
from llmscale.notes.measuring import UNKNOWN_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llmscale.measure.trained.model import TrainedModel

_DOCUMENTS_AT_A_TIME = 256


@dataclass(frozen=True)
class TextTokens:
    """A text as a model reads it. The first token is only context; all others are predicted."""

    tokens: np.ndarray
    ends: np.ndarray
    """For each document, the place in `tokens` after its end of text."""
    loss_bytes: float
    """UTF-8 bytes of the text that the predicted tokens say."""
    notes: tuple[Note, ...] = ()


@dataclass
class Text:
    """A text that was asked for by a name, which is read once for each tokenizer."""

    asked: Asked
    source: Source
    max_tokens: int | None = None
    _read: dict[str, TextTokens] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Changes with the text, and with how much of it is read."""
        return digest_of([self.source.fingerprint(), str(self.max_tokens)])

    def tokens_of(self, trained: "TrainedModel") -> TextTokens:
        """The text as `trained` reads it. Raises InputError."""
        tokenizer = trained.tokenizer
        key = digest_of([tokenizer.to_str(), str(trained.end_of_text)])
        if key not in self._read:
            self._read = {key: self._encoded(tokenizer, trained.end_of_text)}
        return self._read[key]

    def _encoded(self, tokenizer: "Tokenizer", end: int) -> TextTokens:
        dtype = token_type(vocab_size(tokenizer))
        encoder = Encoder(tokenizer, end, dtype)
        # Documents follow an end of text in training, and so does the first of a text here.
        parts, lengths, size, tokens = [np.array([end], dtype)], [], 0, 0
        for documents in self._batches():
            encoded = encoder.encode([document.text for document in documents])
            for document, numbers in zip(documents, encoded, strict=True):
                parts.append(numbers)
                lengths.append(len(numbers))
                size += document.bytes
                tokens += len(numbers)
                if self.max_tokens is not None and tokens >= self.max_tokens:
                    break
            if self.max_tokens is not None and tokens >= self.max_tokens:
                break
        if not lengths:
            raise InputError(
                f"the text {self.asked.place} has no documents with anything in them",
                "name a text that has",
            )
        whole = np.concatenate(parts)
        ends = 1 + np.cumsum(lengths)
        return TextTokens(whole, ends, float(size), _unknown(self.asked, tokenizer, whole))

    def _batches(self) -> Iterator[list[Document]]:
        documents = self._documents()
        while batch := list(islice(documents, _DOCUMENTS_AT_A_TIME)):
            yield batch

    def _documents(self) -> Iterator[Document]:
        cleaning = Cleaning()
        for shard in range(len(self.source.shards)):
            for text in self.source.documents(shard):
                document = clean(text, cleaning)
                if document is not None:
                    yield document


def open_text(asked: Asked, text_column: str, max_tokens: int | None) -> Text:
    """The text that was asked for, ready to be read. Raises InputError."""
    return Text(asked, open_source(asked.place, text_column=text_column), max_tokens)


def _unknown(asked: Asked, tokenizer: "Tokenizer", tokens: np.ndarray) -> tuple[Note, ...]:
    unknown = unknown_token(tokenizer)
    if unknown is None:
        return ()
    share = float(np.mean(tokens[1:] == unknown))
    if share < UNKNOWN_TOKENS.limit:
        return ()
    message = (
        f"{share:.2%} of the tokens of {asked.name} stand for what the tokenizer does not know: "
        "its loss and bits per byte leave out what these say"
    )
    return (UNKNOWN_TOKENS.note(message),)
