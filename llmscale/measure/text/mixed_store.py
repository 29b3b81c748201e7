"""The token store of a mixture: blocks of its sources' stores in turn, and all their validation
text."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.machine.cache import is_shared
from llmscale.measure.text.build_store import locked
from llmscale.measure.text.checksums import ALGORITHM, RunningChecksum
from llmscale.measure.text.mixture_spec import DEFAULT, describe_shares
from llmscale.measure.text.sources import digest_of
from llmscale.measure.text.spec import TextSpec
from llmscale.measure.text.store import FORMAT, TokenStore, ValidationPart, checksum_of_meta
from llmscale.quantity import format_count
from llmscale.runs.safe_write import cannot_write, write_json, write_text

_BLOCKS_AT_ONCE: Final = 4096
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class MixedStore:
    """One mixture of sources whose stores are there."""

    name: str
    spec: TextSpec
    stores: Mapping[str, TokenStore]
    shares: Mapping[str, float]
    block: int
    tokenizer_name: str
    """As it was asked for: `bpe:1024`."""

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
        counts = self._counts()
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
        for name, part in parts.items():
            if not ValidationPart(**part).windows(self.block):
                raise InputError(
                    f"the validation text of {name} has {part['tokens']} tokens, less than one "
                    f"sequence of {self.block} to measure its loss on",
                    "name more text, hold out more with validation_tokens, or take shorter "
                    "sequences with --context",
                )
        contents = {
            "train.bin": _train_text(texts, order, self.block),
            "validation.bin": (self.stores[name].validation() for name in parts),
        }
        for name, arrays in contents.items():
            _write_arrays(path / name, arrays)
        write_text(
            path / "tokenizer.json", (first.path / "tokenizer.json").read_text(encoding="utf-8")
        )
        taken = np.bincount(order, minlength=len(texts)) * self.block
        complete = most is None or len(order) < most
        self._write_meta(path, dict(zip(self.stores, taken.tolist(), strict=True)), parts, complete)

    def _counts(self) -> list[int]:
        """The blocks that each source has; the first token of its text begins none."""
        return [(store.train_tokens - 1) // self.block for store in self.stores.values()]

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
            "tokenizer": {**first["tokenizer"], "name": self.tokenizer_name},
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
        counts = self._counts()
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
            # Of a tokenizer that was trained on the text, nothing was taken for anything.
            asked_for = one.meta["tokenizer"]["name"] == self.tokenizer_name
            ending = "documents end with"
            yield from (said for said in one.remarks if asked_for or not said.startswith(ending))

    def _last_source(self, counts: Sequence[int]) -> str:
        """The source that runs out first."""
        lasts = {
            name: count / self.shares[name]
            for name, count in zip(self.stores, counts, strict=True)
            if self.shares[name]
        }
        return min(lasts, key=lambda name: lasts[name])


def block_order(shares: Sequence[float], counts: Sequence[int], most: int | None) -> np.ndarray:
    """Which source each block is of: at most `most` blocks, ending where a source is due that has
    no more of its `counts`. Every beginning has each source's share to within a block.

    Of the sources that have fallen behind far enough, the one that must come next the soonest
    (Tijdeman 1980, "The chairman assignment problem")."""
    drawn = [number for number, share in enumerate(shares) if share > 0]
    if most is None:
        most = sum(counts[number] for number in drawn)
    if len(drawn) == 1:
        return np.full(min(most, counts[drawn[0]]), drawn[0])
    slack = 1 / (2 * len(drawn) - 2)
    order = np.empty(most, np.int64)
    taken = [0] * len(shares)
    for place in range(most):
        chosen, soonest = drawn[0], math.inf
        for number in drawn:
            behind = shares[number] * (place + 1) - taken[number]
            deadline = (1 - slack - behind) / shares[number]
            if behind > slack - _ROUNDING and deadline < soonest:
                chosen, soonest = number, deadline
        if taken[chosen] == counts[chosen]:
            return order[:place]
        taken[chosen] += 1
        order[place] = chosen
    return order


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
