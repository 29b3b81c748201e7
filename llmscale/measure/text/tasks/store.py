"""The token store of a task: an example a row, in the tokens of the model that is to learn it.

    CACHE/tokens/FINGERPRINT/
      train.bin, validation.bin   rows of `length` + 1 int32: t for a token that the loss counts, ~t
                                  for one that it does not, such as a prompt's and padding
      tokenizer.json, meta.json   as of every store

Training examples are in the order of their hashes, so that the first N of them are a fair sample of
all, and part of any larger number."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmscale.errors import InputError, counted
from llmscale.machine.cache import cache_folder
from llmscale.measure.text.checksums import ALGORITHM
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.sources import digest_of
from llmscale.measure.text.store import FORMAT, TokenStore, checksum_of_meta
from llmscale.measure.text.tasks.formats import Example
from llmscale.measure.text.tasks.rows import Task, open_task
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.text.tokenizer import vocab_size
from llmscale.runs.safe_write import write_json, write_text
from llmscale.version import __version__

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TASK_FORMAT: Final = 2
"""Raised when the code changes which rows come out."""
FEWEST_EXAMPLES: Final = 10
MOST_HELD_OUT: Final = 1000
_HELD_OUT_SHARE: Final = 0.1
_NUMBERS: Final = np.dtype(np.int32)


@dataclass
class _Rows:
    """The rows of all examples, not yet padded, and what was said and left out on the way."""

    rows: list[np.ndarray] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    """Of what is given in each example: the side that it falls on."""
    places: list[int] = field(default_factory=list)
    """Of all of it: its place in the order of training."""
    learnt_bytes: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left_out: int = 0
    cut: int = 0
    repeated: int = 0
    chats: int = 0


def prepare_task(
    spec: TaskSpec,
    tokenizer: "Tokenizer",
    end_of_text: int,
    context: int,
    *,
    cache: Path | None = None,
    report: Callable[[int], None] = lambda examples: None,
) -> TokenStore:
    """The token store of `spec` for models of that tokenizer and context: the one in the cache, or
    a new one. `report` is told examples read. Wrong input raises InputError, and writes nothing."""
    task = open_task(spec)
    state = tokenizer.to_str(pretty=True)
    decides = (task.fingerprint(), state, str(end_of_text), str(context), str(TASK_FORMAT))
    path = (cache or cache_folder()) / "tokens" / digest_of(["task", *decides])
    if not (path / "meta.json").exists():
        found = _read(task, tokenizer, end_of_text, context, report)
        _write(path, spec, found, state, end_of_text, vocab_size(tokenizer))
    store = TokenStore.open(path)
    store.check()
    return store.called(spec.source)


def _read(
    task: Task,
    tokenizer: "Tokenizer",
    end_of_text: int,
    context: int,
    report: Callable[[int], None],
) -> _Rows:
    encoder = Encoder(tokenizer, end_of_text, _NUMBERS)
    found, seen = _Rows(), set[bytes]()
    cuts, is_text = task.spec.too_long == "cut", False
    number = 0
    for number, (_, example) in enumerate(task.examples(found.remarks.append), start=1):
        whole = hashlib.blake2b(repr(example.parts).encode(), digest_size=16).digest()
        if whole in seen:
            found.repeated += 1
            continue
        seen.add(whole)
        found.chats += example.is_chat
        is_text = all(part.learnt for part in example.parts)
        row = _row(example, encoder, end_of_text)
        for piece in _fitting(row, context + 1, cuts, is_text):
            found.rows.append(piece)
            found.digests.append(_digest(example.given or example.text))
            found.places.append(int.from_bytes(whole[:8], "little"))
            found.learnt_bytes.append(_learnt_bytes(example, len(piece), len(row), is_text))
        if len(row) > context + 1:
            found.cut += cuts or is_text
            found.left_out += not (cuts or is_text)
        if number % 1000 == 0:
            report(number)
    report(number)
    _check(task.spec.source, found, number, context)
    _say(found, number, context, is_text)
    return found


def _row(example: Example, encoder: Encoder, end_of_text: int) -> np.ndarray:
    """The numbers of an example, each with its sign."""
    numbers = []
    encoded = encoder.encode([part.text for part in example.parts])
    for part, tokens in zip(example.parts, encoded, strict=True):
        # The encoder ends every text with an end of text, which is kept behind what is learnt.
        numbers.append(tokens if part.learnt else ~tokens[:-1])
    if example.parts[0].learnt:  # or its first token would be predicted from nothing
        numbers.insert(0, np.array([~end_of_text], _NUMBERS))
    return np.concatenate(numbers)


def _fitting(row: np.ndarray, most: int, cuts: bool, is_text: bool) -> Iterator[np.ndarray]:
    """`row` in rows of at most `most` numbers; none if it is left out."""
    if len(row) <= most:
        yield row
    elif is_text:
        for start in range(0, len(row) - 1, most - 1):
            piece = row[start : start + most].copy()
            if piece[0] >= 0:  # which the piece before has predicted
                piece[0] = ~piece[0]
            yield piece
    elif cuts:
        first = int(np.argmax(row >= 0))
        kept = row[min(first - 1, len(row) - most) :][:most]
        if (kept[1:] >= 0).any():
            yield kept


def _learnt_bytes(example: Example, piece: int, row: int, is_text: bool) -> int:
    """UTF-8 bytes of what is learnt in a row; of a piece of a text its share of them."""
    learnt = sum(len(part.text.encode()) for part in example.parts if part.learnt)
    return round(learnt * piece / row) if is_text else learnt


def _digest(text: str) -> int:
    encoded = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def _check(source: str, found: _Rows, number: int, context: int) -> None:
    if found.left_out and not found.rows:
        raise InputError(
            f"all {counted(number, 'example')} of {source} are longer than the {context} tokens "
            "that the model reads at once",
            "cut them with --too-long cut, or take shorter ones",
        )
    if len(set(found.digests)) < FEWEST_EXAMPLES:
        raise InputError(
            f"{source} has {counted(len(set(found.digests)), 'example')} of different beginnings, "
            f"up to what is learnt: too few to hold some out, which takes {FEWEST_EXAMPLES}",
            "name more examples",
        )


def _say(found: _Rows, number: int, context: int, is_text: bool) -> None:
    of = f"of {counted(number, 'example')}"
    longer = f"longer than the {context} tokens that the model reads at once"
    if found.left_out:
        found.remarks.append(f"{found.left_out:,} {of} are {longer}, and left out")
    if found.cut:
        how = "go on in the next sequence" if is_text else "are cut"
        found.remarks.append(f"{found.cut:,} {of} are {longer}, and {how}")
    if found.repeated:
        found.remarks.append(f"{found.repeated:,} {of} are the same as another, and left out")


def _write(
    path: Path, spec: TaskSpec, found: _Rows, tokenizer: str, end_of_text: int, vocabulary: int
) -> None:
    length = max(map(len, found.rows)) - 1
    limit = _limit(found, spec.validation_examples)
    order = sorted(range(len(found.rows)), key=lambda row: (found.places[row], row))
    sides = {
        "train": [row for row in order if found.digests[row] >= limit],
        "validation": [row for row in order if found.digests[row] < limit],
    }
    asked, half = spec.validation_examples, len(found.rows) // 2
    if asked is not None and asked > half:
        held_out = f"{len(sides['validation']):,} are held out, not {asked:,}"
        found.remarks.append(f"of {len(found.rows):,} examples {held_out}: at most half of them")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        write_text(beside / "tokenizer.json", tokenizer)
        counts: dict[str, Any] = {}
        for name, rows in sides.items():
            padded = np.full((len(rows), length + 1), ~end_of_text, _NUMBERS)
            for place, row in enumerate(rows):
                padded[place, : len(found.rows[row])] = found.rows[row]
            padded.tofile(beside / f"{name}.bin")
            utf8_bytes = sum(found.learnt_bytes[row] for row in rows)
            counts[name] = {"documents": len(rows), "bytes": utf8_bytes, "tokens": padded.size}
            counts[f"{name}_learnt"] = int((padded[:, 1:] >= 0).sum())
        meta = _meta(path.name, spec, found, counts, (length, limit), end_of_text, vocabulary)
        checked = TokenStore(beside, meta).check()
        own = {"meta.json": checksum_of_meta(meta)}
        checksums = {**checked, "algorithm": ALGORITHM, **own}
        write_json(beside / "meta.json", {**meta, "checksums": checksums})
        beside.chmod(0o755)
        with suppress(OSError):  # another process was first, with the same
            beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _limit(found: _Rows, asked: int | None) -> int:
    """The hash below which an example is held out: at least one, and at most half of all."""
    digests = sorted(found.digests)
    wanted = min(MOST_HELD_OUT, round(_HELD_OUT_SHARE * len(digests)))
    if asked is not None:
        wanted = min(asked, len(digests) // 2)
    place = max(1, wanted)
    while place < len(digests) - 1 and digests[place] == digests[place - 1]:
        place += 1  # what is given alike is held out together
    return digests[place]


def _meta(
    fingerprint: str,
    spec: TaskSpec,
    found: _Rows,
    counts: dict[str, Any],
    split: tuple[int, int],
    end_of_text: int,
    vocabulary: int,
) -> dict[str, Any]:
    length, limit = split
    meta = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "spec": asdict(spec),
        "source": {"source": "task", "name": spec.source},
        "task": {
            "length": length,
            "validation_learnt": counts["validation_learnt"],
            "train_learnt": counts["train_learnt"],
            "left_out": found.left_out,
            "cut": found.cut,
            "repeated": found.repeated,
            "chats": found.chats,
        },
        "tokenizer": {"vocab_size": vocabulary, "end_of_text": end_of_text},
        "split": {
            "rule": "the 64-bit blake2b hash of what is given in an example is below limit",
            "limit": limit,
        },
        "dtype": _NUMBERS.name,
        "complete": True,
        "train": counts["train"],
        "validation": counts["validation"],
        "set_aside": {"documents": 0, "bytes": 0, "tokens": 0},
        "remarks": found.remarks,
        "versions": {"llmscale": __version__},
    }
    as_read: dict[str, Any] = json.loads(json.dumps(meta))
    return as_read
