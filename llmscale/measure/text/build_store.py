"""Building the files of a token store so that a kill at any moment costs little and changes
nothing.

Tokens are appended in the order of the source, and `journal.json` says up to where the files are
good. What lies beyond is cut off before building goes on, so that the result depends neither on
kills nor on the number of workers."""

import contextlib
import json
import os
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from llmscale.errors import InputError, WorkError
from llmscale.errors.command_lines import command_line
from llmscale.measure.text.augmentation import Augmentation, augmented
from llmscale.measure.text.checksums import RunningChecksum
from llmscale.measure.text.clean import Compare, Step, open_steps
from llmscale.measure.text.cleaner import Cleaner, Effect, together
from llmscale.measure.text.cleaning import Seen
from llmscale.measure.text.documents import Batch, Position, Split, read_batches
from llmscale.measure.text.encoder_process import EncoderProcess, encoder_of
from llmscale.measure.text.sources import Source
from llmscale.measure.text.spec import Cleaning
from llmscale.measure.text.tokenizer import (
    end_of_text,
    load_tokenizer,
    token_type,
    unknown_token,
    vocab_size,
)
from llmscale.runs.lock import only_builder
from llmscale.runs.safe_write import write_json, write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_JOURNAL_BATCHES: Final = 16
"""Batches between two entries in the journal: what a kill can cost."""
_ALONE_BYTES: Final = 4_000_000
"""Text that is encoded within this process: starting others takes about a second's work."""
_DIGEST: Final = np.dtype(np.uint64)


@dataclass(frozen=True)
class Count:
    """An amount of text: `bytes` of UTF-8; `tokens` with an end of text for each document."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.documents + other.documents, self.bytes + other.bytes, self.tokens + other.tokens
        )


@dataclass(frozen=True)
class Journal:
    """How far building has got: the documents before `position` are in the files."""

    split: Split
    position: Position = field(default_factory=Position)
    complete: bool = False
    """Whether the source ends at `position`."""
    train: Count = field(default_factory=Count)
    validation: Count = field(default_factory=Count)
    set_aside: Count = field(default_factory=Count)
    """Documents held out when the validation set was full already."""
    too_short: int = 0
    duplicates: int = 0
    duplicate_bytes: int = 0
    steps: Mapping[str, Effect] = field(default_factory=dict)
    """What each step of cleaning did, of those that did something."""
    unknown: int = 0
    """Tokens of training and validation that stand for what the tokenizer does not know."""
    checksums: dict[str, str] = field(default_factory=dict)
    """By file, over what is good of it."""
    remarks: tuple[str, ...] = ()
    """What is to be said of the text whenever it is used."""

    @property
    def kept(self) -> Count:
        """What cleaning kept."""
        return self.train + self.validation + self.set_aside

    @classmethod
    def read(cls, folder: Path) -> "Journal | None":
        """The journal in `folder`; None if building has not begun."""
        try:
            entry = json.loads((folder / "journal.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        counts = dict.fromkeys(("train", "validation", "set_aside"), Count)
        kinds = {"split": Split, "position": Position, **counts}
        for key in kinds.keys() & entry.keys():
            entry[key] = kinds[key](**entry[key])
        steps = entry.get("steps", {})
        entry["steps"] = {name: Effect.from_json(known) for name, known in steps.items()}
        return cls(**{**entry, "remarks": tuple(entry.get("remarks", ()))})

    def write(self, folder: Path) -> None:
        write_json(folder / "journal.json", asdict(self))


def marks_file(step: Step) -> str:
    """The file that holds the marks of the documents kept, for a step that compares."""
    return f"marks-{step.name.replace(':', '-')}.bin"


def begin(folder: Path, split: Split, tokenizer: "Tokenizer", remarks: Sequence[str] = ()) -> None:
    """Fill a store's folder with what is decided before the first token."""
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    Journal(split, remarks=tuple(remarks)).write(folder)


def build(
    folder: Path,
    source: Source,
    cleaning: Cleaning,
    ends_with: str,
    *,
    validation_tokens: int,
    min_train_tokens: int | None,
    workers: int,
    report: Callable[[Journal], None],
    augment: Augmentation,
) -> Journal:
    """Go on from the journal until the source ends, or has given `min_train_tokens` and a full
    validation set. Every document ends with the token `ends_with`. Training documents are changed
    as `augment` says."""
    journal = Journal.read(folder)
    assert journal is not None, "begin() comes first"
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    _, end = end_of_text(tokenizer, str(folder / "tokenizer.json"), ends_with)
    numbers = token_type(vocab_size(tokenizer))
    unknown = unknown_token(tokenizer)
    with _Files(folder, journal, numbers, cleaning, validation_tokens, unknown) as files:
        batches = read_batches(source, files.cleaner(journal), journal.position, workers)
        if augment.changes:
            batches = (augmented(batch, journal.split, augment) for batch in batches)
        encoded = _encode_in_order(batches, folder / "tokenizer.json", end, workers)
        unsaved = 0
        with contextlib.closing(encoded):
            while not is_enough(journal, validation_tokens, min_train_tokens):
                batch, tokens = next(encoded, (None, []))
                if batch is None:
                    journal = replace(journal, complete=True)
                else:
                    journal = files.append(journal, batch, tokens)
                unsaved += 1
                if unsaved == _JOURNAL_BATCHES:
                    journal = files.save(journal)
                    unsaved = 0
                report(journal)
        return files.save(journal)


def is_enough(journal: Journal, validation_tokens: int, min_train_tokens: int | None) -> bool:
    """Whether the files hold all that was asked for."""
    if journal.complete or min_train_tokens is None:
        return journal.complete
    return (
        journal.train.tokens >= min_train_tokens and journal.validation.tokens >= validation_tokens
    )


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Only one process at a time builds `folder`; the others call `waiting` and wait."""
    lock = folder.with_suffix(".lock")
    with contextlib.ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(only_builder(lock, waiting))
        except OSError as error:
            raise InputError(
                f"cannot write into the cache folder {lock.parent}: {error.strerror or error}",
                "name a folder you may write to: export LLMSCALE_CACHE=FOLDER",
            ) from error
        yield


def _encode_in_order(
    batches: Iterator[Batch], tokenizer: Path, end: int, workers: int
) -> Generator[tuple[Batch, list[np.ndarray]], None, None]:
    """Every batch with the tokens of its documents, in order, `workers` batches at a time."""
    encoder = encoder_of(tokenizer, end)
    processes: queue.SimpleQueue[EncoderProcess] = queue.SimpleQueue()
    pending: deque[tuple[Batch, Future[list[np.ndarray]]]] = deque()

    def in_process(texts: list[str]) -> list[np.ndarray]:
        process = processes.get()
        try:
            return process.encode(texts)
        finally:
            processes.put(process)

    with contextlib.ExitStack() as started, ThreadPoolExecutor(workers) as pool:
        try:
            encode: Callable[[list[str]], list[np.ndarray]] = encoder.encode
            read_bytes = 0
            for batch in batches:
                worth_it = workers > 1 and read_bytes > _ALONE_BYTES
                if worth_it and encode != in_process:
                    for _ in range(workers):
                        process = EncoderProcess(tokenizer, encoder.dtype, end)
                        processes.put(started.enter_context(process))
                    encode = in_process
                read_bytes += sum(document.bytes for document in batch.documents)
                texts = [document.text for document in batch.documents]
                pending.append((batch, pool.submit(encode, texts)))
                if len(pending) > workers + 1:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Files:
    """The files that grow: tokens of training and validation, and hashes of all documents kept."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        dtype: np.dtype,
        cleaning: Cleaning,
        validation_tokens: int,
        unknown: int | None,
    ) -> None:
        self.folder = folder
        self._cleaning = cleaning
        self._validation_tokens, self._unknown = validation_tokens, unknown
        sums, digest_bytes = journal.checksums, journal.kept.documents * _DIGEST.itemsize
        train_bytes, validation_bytes = (
            count.tokens * dtype.itemsize for count in (journal.train, journal.validation)
        )
        self._train = _File(folder / "train.bin", train_bytes, sums)
        self._validation = _File(folder / "validation.bin", validation_bytes, sums)
        self._digests = _File(folder / "digests.bin", digest_bytes, sums)
        self._marks = {
            step.name: _File(folder / marks_file(step), _marks_bytes(step, journal), sums)
            for step in open_steps(cleaning.steps)
            if isinstance(step, Compare)
        }
        self._all = (self._train, self._validation, self._digests, *self._marks.values())

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._all:
            # Closing writes what is buffered; on a full disk that fails once more, with nothing new
            # to say.
            with contextlib.suppress(OSError):
                file.close()

    def cleaner(self, journal: Journal) -> Cleaner:
        """What cleans the documents that follow, and knows those that were kept so far."""
        seen = Seen()
        seen.add_all(np.fromfile(self.folder / "digests.bin", _DIGEST, journal.kept.documents))
        cleaner = Cleaner(self._cleaning, seen)
        for step in cleaner.compares:
            known = np.fromfile(self._marks[step.name].path, _DIGEST)
            cleaner.remember(step, known)
        return cleaner

    def append(self, journal: Journal, batch: Batch, tokens: list[np.ndarray]) -> Journal:
        """Write a batch; the journal that follows from it."""
        train, validation, set_aside = journal.train, journal.validation, journal.set_aside
        unknown = journal.unknown
        try:
            for document, numbers in zip(batch.documents, tokens, strict=True):
                count = Count(1, document.bytes, len(numbers))
                if not journal.split.holds_out(document):
                    self._train.write(numbers.tobytes())
                    train += count
                    unknown += self._unknown_in(numbers)
                elif validation.tokens < self._validation_tokens:
                    self._validation.write(numbers.tobytes())
                    validation += count
                    unknown += self._unknown_in(numbers)
                else:
                    set_aside += count
            digests = [document.digest for document in batch.documents]
            self._digests.write(np.array(digests, _DIGEST).tobytes())
            for name, file in self._marks.items():
                marks = batch.cleaned.marks[name].astype(_DIGEST)
                copies = len(batch.documents) - len(marks)  # made by augmentation; like nothing
                file.write(marks.tobytes() + bytes(copies * marks.shape[1] * _DIGEST.itemsize))
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return replace(
            journal,
            position=batch.end,
            train=train,
            validation=validation,
            set_aside=set_aside,
            too_short=journal.too_short + batch.too_short,
            duplicates=journal.duplicates + batch.duplicates,
            duplicate_bytes=journal.duplicate_bytes + batch.duplicate_bytes,
            steps=together((journal.steps, batch.of_steps)),
            unknown=unknown,
        )

    def save(self, journal: Journal) -> Journal:
        """Bring everything up to `journal` to the disk, then say so in it, with the checksums."""
        try:
            for file in self._all:
                file.sync()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        tokenizer = self.folder / "tokenizer.json"
        sums = {file.path.name: file.checksum.hexdigest() for file in self._all}
        whole = RunningChecksum.of_file(tokenizer, tokenizer.stat().st_size)
        sums[tokenizer.name] = whole.hexdigest()
        journal = replace(journal, checksums=sums)
        journal.write(self.folder)
        return journal

    def _unknown_in(self, numbers: np.ndarray) -> int:
        if self._unknown is None:
            return 0
        return int(np.count_nonzero(numbers == self._unknown))


def _marks_bytes(step: Compare, journal: Journal) -> int:
    return journal.kept.documents * step.WIDTH * _DIGEST.itemsize


class _File:
    """A file that grows, opened after its first `size` bytes, with the checksum of all that is in
    it. Raises WorkError if these are not the bytes of which `checksums` has the checksum."""

    def __init__(self, path: Path, size: int, checksums: Mapping[str, str]) -> None:
        self.path = path
        self._file = _open_at(path, size)
        self.checksum = RunningChecksum.of_file(path, size)
        if checksums.get(path.name, self.checksum.hexdigest()) != self.checksum.hexdigest():
            self._file.close()
            raise WorkError(
                f"{path} is damaged: it is not what was written before the building stopped",
                f"remove the store and prepare it again: {command_line('rm', '-r', path.parent)}",
            )

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self.checksum.update(content)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _open_at(path: Path, size: int) -> IO[bytes]:
    """`path` opened for appending after its first `size` bytes; what lies beyond is cut off."""
    path.touch()
    held = path.stat().st_size
    if held < size:
        raise WorkError(
            f"{path} is torn: it holds {held:,} bytes, and its journal says {size:,}",
            f"remove the store and prepare it again: {command_line('rm', '-r', path.parent)}",
        )
    file = path.open("r+b", buffering=1 << 20)
    file.truncate(size)
    file.seek(size)
    return file


def _unwritable(folder: Path, error: OSError) -> WorkError:
    return WorkError(
        f"cannot write into {folder}: {error.strerror or error}",
        "make room; the same command goes on",
    )
