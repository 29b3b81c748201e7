"""A finished token store: what it holds, and whether that is still what was written."""

import hashlib
import json
import mmap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmscale.errors import InputError, Note
from llmscale.errors.command_lines import command_line
from llmscale.measure.text.checksums import ALGORITHM, check_file
from llmscale.measure.text.tokenizer import load_tokenizer
from llmscale.notes.measuring import UNKNOWN_TOKENS
from llmscale.quantity import format_count
from llmscale.runs.safe_write import write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT: Final = 1
"""Raised when the code changes which tokens come out: old stores are not taken for new ones."""
_MANY_UNKNOWN: Final = UNKNOWN_TOKENS.limit
"""Share of tokens unknown to the tokenizer from which on a loss may mislead."""


@dataclass(frozen=True)
class ValidationPart:
    """A source's part of the validation text of a mixture."""

    first: int
    """Where it begins, in tokens."""
    tokens: int
    bytes: int
    """Of UTF-8."""

    def windows(self, context: int) -> range:
        """The windows of `context` + 1 tokens that lie in it as a whole, by number."""
        first = -(-self.first // context)
        return range(first, max(first, (self.first + self.tokens - 1) // context))


@dataclass(frozen=True)
class TokenStore:
    """A finished store. Everything about it is in `meta`, which is its meta.json."""

    path: Path
    meta: dict[str, Any]
    remarks: tuple[str, ...] = field(default=(), compare=False)
    """What of the text and the tokenizer was taken for what, to be printed."""
    source: str | None = field(default=None, compare=False)
    """What the text was asked for by, if it was asked for."""
    others: "Mapping[str, TokenStore]" = field(default_factory=dict, compare=False)
    """Of a mixture, the other mixtures of the same sources by name: with the same tokenizer and
    the same validation text."""

    @classmethod
    def open(cls, path: Path | str) -> "TokenStore":
        """The store in folder `path`. Raises InputError if there is none, unfinished or torn."""
        path = Path(path)
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            is_begun = (path / "journal.json").exists()
            problem = f"{path} is not {'finished' if is_begun else 'a token store'}"
            raise InputError(problem, "make one: llmscale data prepare SOURCE") from None
        except ValueError as error:
            raise InputError(f"{path}/meta.json is not JSON: {error}", _remake(path)) from None
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise InputError(f"{path} was written by another version of llmscale", _remake(path))
        numbers = ("int32",) if meta.get("task") else ("uint16", "uint32")
        if meta.get("dtype") not in numbers:
            problem = f"{path} holds {meta.get('dtype')!r}, which are no token numbers"
            raise InputError(problem, _remake(path))
        store = cls(path, meta)
        try:
            counts = (("train", store.train_tokens), ("validation", store.validation_tokens))
            _ = store.vocab_size, store.end_of_text, store.fingerprint, store.name, store.learnt
        except (KeyError, TypeError, ValueError) as error:
            problem = f"{path}/meta.json is damaged: {error} is missing or wrong"
            raise InputError(problem, _remake(path)) from None
        for name, tokens in counts:
            held = _size(path / f"{name}.bin") // store.dtype.itemsize
            # train.bin may hold more: another process may be extending it.
            if held < tokens or (name == "validation" and held > tokens):
                torn = f"{name}.bin holds {held:,} tokens, not the {tokens:,} it should"
                raise InputError(f"the token store {path} is torn: {torn}", _remake(path))
        return store

    @property
    def name(self) -> str:
        """What the text was asked for by; equal text made from elsewhere shares its store."""
        return self.source or str(self.meta["spec"]["source"])

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
        """UTF-8 bytes of the validation documents. The tokens predicted include one end of text a
        document, which adds no bytes: bits per byte charges a model for knowing where documents
        end."""
        return int(self.meta["validation"]["bytes"])

    @property
    def length(self) -> int | None:
        """Of the examples of a task, the tokens of a row; None of a text, which has no rows."""
        return int(self.meta["task"]["length"]) if "task" in self.meta else None

    @property
    def learnt(self) -> int:
        """Validation tokens that a loss is the mean of: of a task, those of targets only."""
        if "task" in self.meta:
            return int(self.meta["task"]["validation_learnt"])
        return self.validation_tokens

    @property
    def contents(self) -> str:
        """How much it holds, in words."""
        if self.length is None:
            return (
                f"text {self.name}: {format_count(self.train_tokens)} training and "
                f"{format_count(self.validation_tokens)} validation tokens, vocabulary "
                f"{self.vocab_size}"
            )
        train, validation = (self.meta[side]["documents"] for side in ("train", "validation"))
        return (
            f"task {self.name}: {train:,} training and {validation:,} validation examples of at "
            f"most {self.length + 1} tokens; the loss is of {format_count(self.learnt)} tokens"
        )

    def text_only(self) -> "TokenStore":
        """The store, if it is of a text. Raises InputError if it holds the examples of a task."""
        if self.length is not None:
            raise InputError(
                f"{self.path} holds the examples of a task, and no running text",
                "look at the file that they were made from",
            )
        return self

    def called(self, name: str) -> "TokenStore":
        """The store under the name that was asked for, with what its making has to say."""
        return replace(self, source=name, remarks=tuple(self.meta.get("remarks", ())))

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of training text per training token."""
        return float(self.meta["train"]["bytes"]) / max(1, self.train_tokens)

    @property
    def complete(self) -> bool:
        """Whether the whole source was read."""
        return bool(self.meta["complete"])

    @property
    def shares(self) -> dict[str, float]:
        """Of a mixture, the share of each source; else empty."""
        sources: dict[str, Any] = self.meta.get("mixture", {}).get("sources", {})
        return {name: float(one["share"]) for name, one in sources.items()}

    @property
    def validation_parts(self) -> "dict[str, ValidationPart]":
        """Of a mixture, the part of the validation text of each source; else empty."""
        parts: dict[str, Any] = self.meta.get("mixture", {}).get("validation", {})
        return {name: ValidationPart(**one) for name, one in parts.items()}

    def of(self, fingerprint: str) -> "TokenStore":
        """Itself or the other mixture with this fingerprint."""
        stores = (self, *self.others.values())
        return next(store for store in stores if store.fingerprint == fingerprint)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What makes losses on this text say something else than they seem to."""
        unknown = self.meta.get("unknown_tokens", 0)
        share = unknown / max(1, self.train_tokens + self.validation_tokens)
        if share < _MANY_UNKNOWN:
            return ()
        message = (
            f"{share:.2%} of the tokens stand for what the tokenizer does not know: losses and "
            "bits per byte leave out what these say, and do not compare with those of another "
            "tokenizer"
        )
        return (UNKNOWN_TOKENS.note(message),)

    def train(self) -> np.ndarray:
        """The training tokens, mapped from disk to be read here and there, nothing ahead; of a task
        its rows (tasks/store.py)."""
        tokens = self._mapped("train", self.train_tokens)
        assert isinstance(tokens.base, mmap.mmap)
        tokens.base.madvise(mmap.MADV_RANDOM)
        return tokens

    def validation(self) -> np.ndarray:
        """The validation tokens, mapped from disk."""
        return self._mapped("validation", self.validation_tokens)

    def tokenizer(self) -> "Tokenizer":
        return load_tokenizer(self.path / "tokenizer.json")

    def check(
        self,
        report: Callable[[int, int], None] = lambda read_bytes, all_bytes: None,
        only: Collection[str] | None = None,
    ) -> dict[str, str]:
        """Read every file, or those named `only`, once and raise InputError if one is not what was
        written, or holds a token number that the vocabulary has not. `report` is told bytes read
        and bytes in all. Returns the checksums."""
        sizes = self._sizes()
        if only is not None:
            sizes = {name: size for name, size in sizes.items() if name in only}
        whole, before = sum(sizes.values()), 0
        known = self.meta.get("checksums", {})
        found = {"algorithm": ALGORITHM}
        for name, size in sizes.items():
            numbers = np.dtype(np.uint8)
            if name in ("train.bin", "validation.bin"):
                numbers = self.dtype
            tell = partial(_report_more, report, before, whole)
            seen = check_file(self.path / name, size, numbers, tell)
            if numbers == self.dtype and seen.largest >= self.vocab_size:
                largest = f"{name} holds the token {seen.largest:,}"
                what = f"{largest}, and the vocabulary {self.vocab_size:,} tokens"
                raise _damaged(self.path, what)
            if known.get(name, seen.checksum) != seen.checksum:
                what = f"{name} is not what was written (checksum {seen.checksum[:12]}...)"
                raise _damaged(self.path, what)
            found[name] = seen.checksum
            before += size
        found["meta.json"] = checksum_of_meta(self.meta)
        if known.get("meta.json", found["meta.json"]) != found["meta.json"]:
            raise _damaged(self.path, "meta.json is not what was written")
        return found

    def _sizes(self) -> dict[str, int]:
        """The files to check, and how many of their bytes belong to the store in `meta`."""
        parts = [self.meta[name] for name in ("train", "validation", "set_aside")]
        documents = sum(int(part["documents"]) for part in parts)
        sizes = {
            "train.bin": self.train_tokens * self.dtype.itemsize,
            "validation.bin": self.validation_tokens * self.dtype.itemsize,
            "tokenizer.json": _size(self.path / "tokenizer.json"),
            "digests.bin": 8 * documents,
        }
        marks = self.meta.get("marks", {})
        sizes |= {name: 8 * int(width) * documents for name, width in marks.items()}
        for name in ("digests.bin", *marks):
            if not (self.path / name).exists():
                del sizes[name]  # fetched from a leader without them, and never extended
        return sizes

    def _mapped(self, name: str, tokens: int) -> np.ndarray:
        shape: tuple[int, ...] = (tokens,)
        if self.length is not None:
            shape = (tokens // (self.length + 1), self.length + 1)
        return np.memmap(self.path / f"{name}.bin", dtype=self.dtype, mode="r", shape=shape)


def with_checksums(store: TokenStore, checksums: dict[str, str]) -> TokenStore:
    """A store of before there were checksums, given them."""
    meta = {**store.meta, "checksums": checksums}
    write_json(store.path / "meta.json", meta)
    before = f"the token store {store.path} was made before stores had checksums"
    said = f"{before}: it has them from now on"
    return replace(store, meta=meta, remarks=(*store.remarks, said))


def checksum_of_meta(meta: dict[str, Any]) -> str:
    """That of all of `meta` but the checksums in it."""
    rest = {key: value for key, value in meta.items() if key != "checksums"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"the token store {path} is damaged: {what}", _remake(path))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _remake(path: Path) -> str:
    return f"remove it and prepare it again: {command_line('rm', '-r', path)}"


def _report_more(report: Callable[[int, int], None], before: int, whole: int, read: int) -> None:
    """Tell `report` the bytes read of all files, of which `read` are of the file at hand."""
    report(before + read, whole)
