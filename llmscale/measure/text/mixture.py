"""Mixtures of texts: sources that are drawn from in given shares, by tokens.

Every source has a token store of its own. All have one tokenizer, and hold out documents by one
limit of the hash, so that a document that two sources share is held out in both. A mixture is a
store, too: its training text is blocks of the sources' own, each in its source's order, so that
every beginning of it holds the shares to within a block. It ends where the first source does: no
text is repeated in it. Its validation text is that of all sources, the same for every mixture.

    CACHE/mixtures/DIGEST/
      tokenizer.json, split.json    what the sources have in common"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.machine.cache import cache_folder, is_shared
from llmscale.measure.text.build_store import locked
from llmscale.measure.text.checksums import ALGORITHM, RunningChecksum
from llmscale.measure.text.documents import Split
from llmscale.measure.text.long_words import LongWords
from llmscale.measure.text.mixture_spec import DEFAULT, describe_shares
from llmscale.measure.text.prepare import TOKENIZER_BYTES, Beginning, Progress, prepare
from llmscale.measure.text.sources import digest_of
from llmscale.measure.text.spec import TextSpec
from llmscale.measure.text.store import FORMAT, TokenStore, checksum_of_meta
from llmscale.measure.text.tokenizer import choose_tokenizer
from llmscale.quantity import format_count
from llmscale.runs.safe_write import cannot_write, write_json, write_text

_BLOCKS_AT_ONCE: Final = 4096
Report = Callable[[Progress], None]


def prepare_mixtures(
    spec: TextSpec,
    block: int,
    *,
    min_train_tokens: int | None = None,
    cache: Path | None = None,
    progress: Report | None = None,
) -> TokenStore:
    """The token store of the mixture of `spec`, with those of its other mixtures in `others`.

    Sources take turns every `block` tokens: the context of the runs. Each text has at least
    `min_train_tokens`, None for as many as there are, or ends where its first source does. Raises
    InputError."""
    report = progress or (lambda _: None)
    cache = cache or cache_folder()
    tokenizer, split = _in_common(spec, cache, report)
    stores: dict[str, TokenStore] = {}
    for name, asked in _specs(spec).items():
        most = max(shares[name] for shares in spec.shares.values())
        least = None
        if min_train_tokens is not None:
            least = 1 + block + int(most * min_train_tokens)
        asked = replace(asked, tokenizer=str(tokenizer))
        made = prepare(asked, min_train_tokens=least, cache=cache, progress=report, split=split)
        stores[name] = made
    found: dict[str, TokenStore] = {}
    for mixture, shares in spec.shares.items():
        asked_for = _Mixture(mixture, spec, stores, shares, block)
        store = asked_for.store(cache, min_train_tokens)
        same = next((name for name, one in found.items() if one.path == store.path), None)
        if same is not None:
            raise InputError(
                f"mixture {mixture!r} is the same as {same!r}",
                f"change a weight in [data.mixtures.{mixture}]",
            )
        found[mixture] = store
    first = found.pop(DEFAULT)
    said = [remark for store in (first, *found.values()) for remark in store.remarks]
    return replace(first, others=found, remarks=tuple(dict.fromkeys(said)))


def block_order(shares: Sequence[float], counts: Sequence[int], most: int | None) -> np.ndarray:
    """Which source each block is of: at most `most` blocks, ending where the first source would
    need more than its count.

    Block j of a source with the share s comes at (j + 1/2)/s: the divisor method of Webster, by
    which every beginning has each source's share to within a block."""
    drawn = [number for number, share in enumerate(shares) if share > 0]
    end = min((counts[number] + 0.5) / shares[number] for number in drawn)
    if most is not None:
        end = min(end, most + len(drawn))
    places, owners = [], []
    for number in drawn:
        place = (np.arange(counts[number]) + 0.5) / shares[number]
        place = place[place < end]
        places.append(place)
        owners.append(np.full(len(place), number))
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(owners)[order][:most]


def _specs(spec: TextSpec) -> dict[str, TextSpec]:
    """What each source is asked for on its own: an equal part of the validation text."""
    usual = replace(spec, mixture={}, mixtures={})
    each = max(1, spec.held_out // len(spec.mixture))
    found = {}
    for name, one in spec.mixture.items():
        text = {"source": one.source, "config": one.config, "split": one.split}
        how = {"text_column": one.text_column, "augment": one.augment}
        found[name] = replace(usual, validation_tokens=each, **text, **how)
    return found


def _in_common(spec: TextSpec, cache: Path, report: Report) -> tuple[Path | str, Split]:
    """The tokenizer that all sources have, and the documents that are held out of all."""
    asked = _specs(spec)
    opened = {name: one.open() for name, one in asked.items()}
    sizes = [source.estimated_bytes() for source in opened.values()]
    total = None
    if None not in sizes:
        total = sum(size for size in sizes if size is not None)
    choice = choose_tokenizer(spec.tokenizer, total, spec.end_of_text)
    cleaning = json.dumps(spec.stated()["cleaning"], sort_keys=True)
    parts = [source.fingerprint() for source in opened.values()]
    folder = (
        cache / "mixtures" / digest_of([*parts, cleaning, choice.fingerprint, str(spec.held_out)])
    )
    tokenizer: Path | str = folder / "tokenizer.json"
    if choice.existing is not None:
        tokenizer = str(spec.tokenizer)
    if (folder / "split.json").exists():
        known = json.loads((folder / "split.json").read_text(encoding="utf-8"))
        return tokenizer, Split(known["limit"], known["reason"])
    beginnings = {}
    for (name, one), size in zip(asked.items(), sizes, strict=True):

        def surveying(documents: int, read_bytes: int) -> None:
            report(Progress("survey", documents, read_bytes))

        beginnings[name] = Beginning.of(one, opened[name], size, surveying)
    widest = max((one.split for one in beginnings.values()), key=lambda one: one.limit)
    split = Split(widest.limit, f"the largest share of {', '.join(beginnings)}: {widest.reason}")
    with locked(folder, lambda: report(Progress("waiting"))):
        folder.mkdir(mode=0o777 if is_shared() else 0o700, parents=True, exist_ok=True)
        if choice.existing is None:
            report(Progress("tokenizer"))
            room = TOKENIZER_BYTES // len(beginnings)
            held = [replace(one, split=split).sample(room) for one in beginnings.values()]
            texts = (text for sample in held for text in sample)
            trained = choice.tokenizer(LongWords().shortened(texts))
            write_text(folder / "tokenizer.json", trained.to_str(pretty=True))
        write_json(folder / "split.json", {"limit": split.limit, "reason": split.reason})
    return tokenizer, split


@dataclass(frozen=True)
class _Mixture:
    """One mixture of sources whose stores are there."""

    name: str
    spec: TextSpec
    stores: Mapping[str, TokenStore]
    shares: Mapping[str, float]
    block: int

    def store(self, cache: Path, min_train_tokens: int | None) -> TokenStore:
        """Its token store: the one in the cache, or a new one. Raises InputError."""
        path = cache / "tokens" / self._fingerprint()
        with locked(path, lambda: None):
            found = self._finished(path, min_train_tokens)
            if found is None:
                path.mkdir(mode=0o777 if is_shared() else 0o700, exist_ok=True)
                self._write(path, min_train_tokens)
                found = TokenStore.open(path)
        found.check()
        return replace(found, source=self.title, remarks=tuple(self._remarks(found)))

    @property
    def title(self) -> str:
        """`0.7 code + 0.3 docs`."""
        return describe_shares(self.shares)

    def _fingerprint(self) -> str:
        shares = [f"{name} {share:.12g}" for name, share in self.shares.items()]
        parts = [store.fingerprint for store in self.stores.values()]
        return digest_of(["mixture", *parts, *shares, str(self.block), str(FORMAT)])

    def _finished(self, path: Path, wanted: int | None) -> TokenStore | None:
        if not (path / "meta.json").exists():
            return None
        store = TokenStore.open(path)
        enough = wanted is not None and store.train_tokens >= wanted
        return store if store.complete or enough else None

    def _write(self, path: Path, min_train_tokens: int | None) -> None:
        """Fill the folder of a store; one that holds less is replaced, and begins like this."""
        first = next(iter(self.stores.values()))
        counts = [(store.train_tokens - 1) // self.block for store in self.stores.values()]
        most = None
        if min_train_tokens is not None:
            most = -(-(min_train_tokens - 1) // self.block)
        shares = list(self.shares.values())
        order = block_order(shares, counts, most)
        if not len(order):
            raise InputError(
                f"the mixture {self.name} has less than one sequence of {self.block} tokens: "
                f"{self._last_source(counts)} has {min(counts)} of them",
                "name more text, or take shorter sequences with --context",
            )
        texts = list(self.stores.values())
        parts = self._validation()
        contents = {
            "train.bin": _train_text(texts, order, self.block),
            "validation.bin": (self.stores[name].validation() for name in parts),
        }
        for name, arrays in contents.items():
            _write_arrays(path / name, arrays)
        write_text(path / "tokenizer.json", (first.path / "tokenizer.json").read_text("utf-8"))
        taken = np.bincount(order, minlength=len(texts)) * self.block
        complete = most is None or len(order) < most
        self._write_meta(path, dict(zip(self.stores, taken.tolist(), strict=True)), parts, complete)

    def _validation(self) -> dict[str, dict[str, int]]:
        """The part of the validation text of each source. Of sources of one text only the first
        has one: that text, once."""
        parts: dict[str, dict[str, int]] = {}
        known: set[str] = set()
        first = 0
        for name, store in self.stores.items():
            text = str(store.meta["source"]["fingerprint"])
            if text in known:
                continue
            known.add(text)
            tokens = store.validation_tokens
            parts[name] = {"first": first, "tokens": tokens, "bytes": store.validation_bytes}
            first += tokens
        return parts

    def _write_meta(
        self,
        path: Path,
        taken: Mapping[str, int],
        parts: Mapping[str, Mapping[str, int]],
        complete: bool,
    ) -> None:
        """The description of the store, which says that it is finished."""
        first = next(iter(self.stores.values())).meta
        sources = {}
        train_bytes = 0
        for name, store in self.stores.items():
            train_bytes += round(taken[name] * store.bytes_per_token)
            sources[name] = {
                "source": store.name,
                "fingerprint": store.fingerprint,
                "share": self.shares[name],
                "train_tokens": taken[name],
                "available_tokens": store.train_tokens,
                "complete": store.complete,
            }
        validation = {
            "documents": sum(self.stores[name].meta["validation"]["documents"] for name in parts),
            "bytes": sum(part["bytes"] for part in parts.values()),
            "tokens": sum(part["tokens"] for part in parts.values()),
        }
        train_tokens = 1 + sum(taken.values())
        meta: dict[str, Any] = {
            "format": FORMAT,
            "fingerprint": path.name,
            "spec": {**self.spec.stated(), "source": self.title},
            "source": {"source": "mixture", "fingerprint": path.name, "shards": len(sources)},
            "mixture": {"block": self.block, "sources": sources, "validation": parts},
            "tokenizer": first["tokenizer"],
            "split": first["split"],
            "dtype": first["dtype"],
            "complete": complete,
            "train": {"documents": 0, "bytes": train_bytes, "tokens": train_tokens},
            "validation": validation,
            "set_aside": {"documents": 0, "bytes": 0, "tokens": 0},
            "unknown_tokens": sum(store.meta["unknown_tokens"] for store in self.stores.values()),
            "bytes_per_token": train_bytes / train_tokens,
            "versions": first["versions"],
        }
        as_read = json.loads(json.dumps(meta))
        sums = {"algorithm": ALGORITHM, "meta.json": checksum_of_meta(as_read)}
        for name in ("train.bin", "validation.bin", "tokenizer.json"):
            file = path / name
            sums[name] = RunningChecksum.of_file(file, file.stat().st_size).hexdigest()
        write_json(path / "meta.json", {**meta, "checksums": sums})
        if not is_shared():
            for file in path.iterdir():
                file.chmod(0o600)

    def _remarks(self, store: TokenStore) -> Iterator[str]:
        """What the mixture is, and where it ends, in words."""
        counts = [one.train_tokens // self.block for one in self.stores.values()]
        ends = ""
        if store.complete:
            last = self._last_source(counts)
            ends = f", and ends there, where {last} does: nothing in it is repeated"
        name = "the mixture" if self.name == DEFAULT else f"mixture {self.name}"
        yield f"{name} is {self.title}, {format_count(store.train_tokens)} tokens{ends}"
        parts = [
            f"{format_count(part.tokens)} tokens of {name}"
            for name, part in store.validation_parts.items()
        ]
        yield f"the validation text of every mixture is {', '.join(parts)}"
        for one in self.stores.values():
            yield from one.remarks

    def _last_source(self, counts: Sequence[int]) -> str:
        """The source that runs out first."""
        lasts = {
            name: count / self.shares[name]
            for name, count in zip(self.stores, counts, strict=True)
            if self.shares[name]
        }
        return min(lasts, key=lambda name: lasts[name])


def _train_text(texts: Sequence[TokenStore], order: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """The tokens of a mixture: an end of text, and then blocks. So the `block` tokens that a
    sequence predicts are of one source, and only the token before them may be of another."""
    yield np.array([texts[0].end_of_text], texts[0].dtype)
    drawn = [0] * len(texts)
    trains = [store.train() for store in texts]
    for start in range(0, len(order), _BLOCKS_AT_ONCE):
        part = order[start : start + _BLOCKS_AT_ONCE]
        blocks = np.empty((len(part), block), texts[0].dtype)
        for number, train in enumerate(trains):
            mine = part == number
            first = drawn[number]
            drawn[number] += int(mine.sum())
            tokens = train[1 + first * block : 1 + drawn[number] * block]
            blocks[mine] = tokens.reshape(-1, block)
        yield blocks


def _write_arrays(path: Path, arrays: Iterator[np.ndarray]) -> None:
    """Write `arrays` one after the other, and then give the file its name."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            for array in arrays:
                file.write(np.ascontiguousarray(array).tobytes())
        part.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
