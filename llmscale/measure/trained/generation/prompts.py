"""Prompts: read from a file, and made the tokens that a model goes on with."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmscale.errors import InputError, counted
from llmscale.errors.printable import begun
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.tokenizer import token_type, unknown_token
from llmscale.measure.trained.model import TrainedModel

MOST_BYTES: Final = 64_000_000
"""Of a file of prompts."""
_FORMS: Final = "give a .txt file with a prompt a line, or a .jsonl file of objects with a prompt"
KEY: Final = "prompt"


@dataclass(frozen=True)
class Prompt:
    """A text, its tokens, and what was taken for what."""

    text: str
    tokens: tuple[int, ...]
    remark: str | None = None


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line, or of the objects of a .jsonl file. Raises
    InputError."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(
                f"{path} has {size / 1e6:,.0f} MB, and prompts at most {MOST_BYTES / 1e6:.0f}",
                _FORMS,
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", _FORMS) from error
    lines = list(_lines(path, content))
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        found = [_of_object(path, number, line) for number, line in lines]
    else:
        found = [line for _, line in lines]
    if not found:
        raise InputError(f"{path} has no prompts", _FORMS)
    return found


def encode_prompts(trained: TrainedModel, texts: Iterable[str]) -> list[Prompt]:
    """The tokens of each prompt; an empty one begins after the end of a text, as documents do.
    Raises InputError for what the tokenizer cannot encode."""
    tokenizer, end = trained.tokenizer, trained.end_of_text
    encoder = Encoder(tokenizer, end, token_type(trained.shape.vocab_size))
    unknown = unknown_token(tokenizer)
    return [_encoded(encoder, text, end, unknown) for text in texts]


def _encoded(encoder: Encoder, text: str, end: int, unknown: int | None) -> Prompt:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the prompt {begun(repr(text))} is not UTF-8 at character {error.start + 1}",
            "write it in UTF-8",
        ) from None
    try:
        tokens = tuple(int(token) for token in encoder.encode([text])[0][:-1])
    except InputError as error:
        raise InputError(
            f"the prompt {begun(repr(text))} has what the run's tokenizer has no token for: "
            f"{error.problem}",
            "write with what its text holds, or give the empty prompt",
        ) from error
    if not tokens:
        return Prompt(text, (end,), "an empty prompt: a new text is begun")
    strange = int(np.equal(tokens, unknown).sum()) if unknown is not None else 0
    if strange:
        said = f"the tokenizer does not know {counted(strange, 'token')} of {begun(text)!r}"
        return Prompt(text, tokens, said)
    return Prompt(text, tokens)


def _lines(path: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers."""
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InputError(
                f"line {number} of {path} is not UTF-8: byte {error.start + 1} of it is "
                f"0x{line[error.start]:02x}",
                "write it in UTF-8",
            ) from None
        if text.strip():
            yield number, text


def _of_object(path: Path, number: int, line: str) -> str:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"line {number} of {path} is not JSON: {error}", _FORMS) from None
    if isinstance(found, dict):
        found = found.get(KEY)
    if not isinstance(found, str):
        raise InputError(f"line {number} of {path} has no text named {KEY!r}", _FORMS)
    return found


def remarks_of(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """What was taken for what in the prompts, each once."""
    return tuple(dict.fromkeys(prompt.remark for prompt in prompts if prompt.remark))
