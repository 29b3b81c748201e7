"""Where text comes from: a menu. `--data stdlib` is `stdlib.py`; paths are `files.py`; dataset
names are `hub.py`.

A member is a module with `open_source(name, *, config, split, text_column) -> Source`. `--data
MEMBER` opens it with an empty name and `--data MEMBER:NAME` with that name, so that one new file
adds one new source. It names the package that it `NEEDS`, if it needs one, and says that it
`STREAMS` if a run is to read only as much of it as it needs.

A source of one's own, `--data ./mine.py:my_source`, is a `Source` that takes no arguments, or a
function that yields documents, always the same ones in the same order."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from llmscale.errors import InputError
from llmscale.machine.needs import need
from llmscale.menu import Menu, errors_named, file_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llmscale.measure.text.automaton import Entropy

_DATASET_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
_IN_FILE: Final = re.compile(r"\.py:[A-Za-z_]\w*(@[0-9a-f]+)?$")
"""A source in a file of the user's own; a file of Python without a name is text."""
_LENGTH_BYTES: Final = 8
_LONGEST_NAME: Final = 200
"""Characters; the hub allows 96 for each of its names."""


class UnreachableError(InputError):
    """The hub did not answer: nothing is known about the text asked for."""


class Source(ABC):
    """Text as a fixed sequence of shards (one file, say), each a fixed sequence of documents.

    Equal fingerprints mean equal documents in equal order. Shards are read independently of each
    other and as often as wanted; what is wrong with the text is an InputError that names the place.
    """

    @property
    @abstractmethod
    def shards(self) -> tuple[str, ...]:
        """The names of the shards, in reading order."""

    @abstractmethod
    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        """The documents of shard number `shard`, from number `start` on."""

    @abstractmethod
    def fingerprint(self) -> str:
        """32 hex digits that change when any document or their order changes."""

    @abstractmethod
    def estimated_bytes(self) -> int | None:
        """About how many bytes of text there are, without reading all; None if unknown."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader needs to find this text again, as JSON; `source` is the menu's member."""

    def remarks(self) -> tuple[str, ...]:
        """What was taken for what, and what was left out, if the question does not say so."""
        return ()

    def tokenizer(self) -> "Tokenizer | None":
        """The tokenizer to take if none is named; None for one that is trained on the text. Its
        `<|endoftext|>` ends a document."""
        return None

    def entropy(self) -> "Entropy | None":
        """That of the language that the text is drawn from, if it is known."""
        return None

    @property
    def is_endless(self) -> bool:
        """Whether there is no reading all of it."""
        return False


def open_source(
    name: str, *, config: str | None = None, split: str = "train", text_column: str = "text"
) -> Source:
    """The text that `name` stands for: `stdlib`, a path or glob, or a dataset on the hub."""
    name = name.strip()
    member = member_of(name)
    before, _, after = name.partition(":")
    rest = {before: after, name: ""}.get(member, name)
    source: Source = SOURCES.find(member).open_source(
        rest, config=config, split=split, text_column=text_column
    )
    return source


def member_of(name: str) -> str:
    """The menu's member that reads `name`, without opening it. Raises InputError."""
    name = name.strip()
    member = name.partition(":")[0]
    if member in SOURCES.names:
        return member
    return name if _IN_FILE.search(name) else _member_for(name)


def pin_source(name: str) -> str:
    """`name`, to which the digest of the file is put if it is in one of the user's own."""
    return SOURCES.pin(name.strip()) if _IN_FILE.search(name.strip()) else name


def check_source(name: str) -> None:
    """Raise InputError if the text `name` is read by a package that is not installed."""
    module = SOURCES.find(member_of(name))
    if hasattr(module, "NEEDS"):
        need(module.NEEDS, f"--data {name}", module.NEEDS)


def streams(name: str) -> bool:
    """Whether a run is to read only as much of the text `name` as it needs, and not all of it."""
    return bool(getattr(SOURCES.find(member_of(name)), "STREAMS", False))


def refuse_dataset_options(member: str, config: str | None, split: str) -> None:
    """Raise InputError if a source that has neither configurations nor splits is asked for one."""
    for option, given in (("config", config is not None), ("split", split != "train")):
        if given:
            raise InputError(
                f"--{option} names a part of a dataset on a hub, but the text comes from {member}",
                f"leave --{option} out, or name a dataset",
            )


def digest_of(parts: Iterable[str]) -> str:
    """32 hex digits over strings in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(_framed(part))
    return digest.hexdigest()


def _framed(part: str) -> bytes:
    """Its length and then itself, so that two lists of strings never give the same bytes."""
    encoded = part.encode("utf-8", "surrogateescape")
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded


def shuffled(names: Iterable[str]) -> list[str]:
    """`names` in an order fixed by their hashes: any first part of a source is a fair sample."""
    return sorted(names, key=lambda name: digest_of([name]))


def _member_for(name: str) -> str:
    from llmscale.measure.text.sources import files

    if not name:
        raise InputError(
            "the name of the data is empty", "name it like stdlib, corpus/*.txt or owner/dataset"
        )
    if files.looks_like_files(name):
        return "files"
    if len(name) > _LONGEST_NAME:
        raise InputError(
            f"{name[:60]}... ({len(name)} characters) is longer than the name of any file or "
            "dataset",
            "name it like stdlib, corpus/*.txt or owner/dataset",
        )
    if _DATASET_NAME.fullmatch(name):
        return "hub"
    raise InputError(
        f"{name!r} is neither a file nor the name of a dataset ({Path.cwd()} holds no such path)",
        "name it like stdlib, corpus/*.txt or owner/dataset",
    )


class _Documents(Source):
    """The documents that a function of the user's own yields, as one shard."""

    def __init__(self, function: Callable[[], Iterable[str]]) -> None:
        self._function, self._name = function, function.__name__
        self._read: tuple[str, int] | None = None
        """The digest of all documents and their bytes, once they have been read to the end."""

    @property
    def shards(self) -> tuple[str, ...]:
        return (self._name,)

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        found, digest, size = self._function(), hashlib.blake2b(digest_size=16), 0
        if isinstance(found, str):
            raise TypeError(f"{self._name} returns one text, and not documents")
        for number, document in enumerate(found):
            encoded = _framed(_text(document, self._name))
            digest.update(encoded)
            size += len(encoded) - _LENGTH_BYTES
            if number >= start:
                yield document
        read = digest.hexdigest(), size
        self._read = self._read or read
        if self._read != read:
            raise ValueError(f"{self._name} yields other documents when it is called again")

    def fingerprint(self) -> str:
        return self._whole()[0]

    def estimated_bytes(self) -> int:
        return self._whole()[1]

    def describe(self) -> dict[str, Any]:
        return {"source": self._name, "bytes": self.estimated_bytes()}

    def _whole(self) -> tuple[str, int]:
        """Read all of it: what the function reads is not known."""
        if self._read is None:
            deque(self.documents(0), maxlen=0)
            assert self._read is not None
        return self._read


class _Named(Source):
    """A source of the user's own; what goes wrong in it is told of with the line of its file."""

    def __init__(self, make: Callable[[], Source], path: str, name: str) -> None:
        self._path, self._name = path, name
        with self._errors():
            self._source = make()

    def _errors(self) -> AbstractContextManager[None]:
        fix = f"change {self._name}: it gives documents, always the same ones in the same order"
        return errors_named(self._path, f"failed in {self._name}", fix)

    @property
    def shards(self) -> tuple[str, ...]:
        with self._errors():
            return tuple(self._source.shards)

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        with self._errors():
            for document in self._source.documents(shard, start):
                yield _text(document, self._name)

    def fingerprint(self) -> str:
        with self._errors():
            return _text(self._source.fingerprint(), f"{self._name}.fingerprint")

    def estimated_bytes(self) -> int | None:
        with self._errors():
            return self._source.estimated_bytes()

    def describe(self) -> dict[str, Any]:
        with self._errors():
            return dict(self._source.describe())

    def remarks(self) -> tuple[str, ...]:
        with self._errors():
            return tuple(self._source.remarks())


def _text(given: Any, name: str) -> str:
    """What the user's own code gave, if it is text."""
    if not isinstance(given, str):
        raise TypeError(f"{name} yields {type(given).__name__}, and not str")
    return given


def _tried(found: Any, title: str) -> Any:
    """A source of the user's own, and how it is opened; it is read by whoever opens it."""
    if hasattr(found, "open_source"):
        return found
    is_class = isinstance(found, type)
    if not callable(found) or (is_class and not issubclass(found, Source)):
        raise InputError(
            f"{title} is neither a function nor a class of Source",
            "write a function that yields documents, each a str",
        )
    path = file_of(found)

    def opened(name: str, *, config: str | None, split: str, text_column: str) -> Source:
        refuse_dataset_options("a file of your own", config, split)
        make = found if is_class else partial(_Documents, found)
        return _Named(make, path, found.__name__)

    return SimpleNamespace(open_source=opened, STREAMS=getattr(found, "STREAMS", False))


SOURCES: Menu[Any] = Menu(__name__, "source", "--data", tried=_tried, own="my_source")
