"""Made-up languages whose entropy is known exactly: `synthetic:markov,order=2,seed=1`.

The text has no end unless `tokens=`, `bytes=` or `documents=` says how much of it there is; a
longer one begins with a shorter one."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.automaton import Automaton, Entropy
from llmscale.measure.text.chances import Draws
from llmscale.measure.text.languages import Language, language_names, language_of
from llmscale.measure.text.sources import Source, digest_of, refuse_dataset_options
from llmscale.quantity import parse_count
from llmscale.settings import settings_of
from llmscale.settings.tables import with_keywords

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STREAMS = True
_FORMAT: Final = "1"
"""Raised when the code changes which documents come out."""
_LIMITS: Final[tuple[str, ...]] = ("tokens", "bytes", "documents")
_SHARD_SYMBOLS: Final = 1 << 18
"""About how many a shard has: a place in the middle of one is found by making all of it."""
_LANES: Final = 256
"""Documents that are made at the same time, as numpy works on that many at once."""
_MOST_SHARDS: Final = 100_000
"""As many has a text without an end: each has a name, and all names are kept."""
_END: Final = "\0"


def open_source(name: str, *, config: str | None, split: str, text_column: str) -> "Synthetic":
    refuse_dataset_options("a synthetic language", config, split)
    kind, settings, limits = _parsed(name)
    where = f"--data synthetic:{kind}"
    known = {one.name for one in settings_of(language_of(kind))}
    for key in settings:
        if key not in known:
            raise InputError(
                f"{where} has no setting {key!r}",
                f"its settings are {', '.join(sorted(known))}, and {', '.join(_LIMITS)}",
            )
    language = with_keywords(language_of(kind)(), settings, where)
    if len(limits) > 1:
        raise InputError(
            f"{where} is given {' and '.join(limits)}, which say the same", "give one of them"
        )
    source = Synthetic(kind, language, *next(iter(limits.items()), (None, None)))
    if source.amount is not None and source.number_of_shards > _MOST_SHARDS:
        most = source.amount * _MOST_SHARDS // source.number_of_shards
        raise InputError(
            f"{where} is given {source.unit}={source.amount:.3g}, more than the {most:.3g} that it "
            "can have",
            f"give less, or leave {source.unit} out for a text without an end",
        )
    return source


@dataclass(frozen=True, eq=False)
class Synthetic(Source):
    """Independent documents of a language; `amount` of `unit` in all, or no end of them."""

    kind: str
    language: Language
    unit: str | None = None
    amount: int | None = None

    @cached_property
    def automaton(self) -> Automaton:
        """What the language says with which chances."""
        return self.language.automaton()

    @cached_property
    def count(self) -> int | None:
        """Documents in all, as many as `amount` comes to on average: to stop at an amount would
        favour short ones."""
        if self.amount is None:
            return None
        each = {
            "tokens": self.automaton.symbols_per_document + 1,
            "bytes": self.automaton.bytes_per_document(),
        }
        return max(1, round(self.amount / each.get(self.unit or "", 1.0)))

    @property
    def is_endless(self) -> bool:
        return self.amount is None

    @cached_property
    def shards(self) -> tuple[str, ...]:
        return tuple(f"{self.kind}-{shard:05d}" for shard in range(self.number_of_shards))

    @property
    def number_of_shards(self) -> int:
        return _MOST_SHARDS if self.count is None else -(-self.count // self._per_shard)

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        number = self._per_shard
        if self.count is not None:
            number = min(number, self.count - shard * number)
        if start >= number:
            return
        lanes, each = self._lanes
        rows = self.automaton.sample(Draws(self.language.seed, 1, shard), lanes, each)
        made = 0
        for row in rows:
            texts = self._written(row).split(_END)[: min(each, number - made)]
            yield from texts[max(0, start - made) :]
            made += len(texts)

    def fingerprint(self) -> str:
        settings = sorted((name, str(value)) for name, value in asdict(self.language).items())
        stated = [f"{name}={value}" for name, value in settings]
        return digest_of(["synthetic", _FORMAT, self.kind, str(self.count), *stated])

    def estimated_bytes(self) -> int | None:
        if self.count is None:
            return None
        return round(self.count * self.automaton.bytes_per_document())

    def describe(self) -> dict[str, Any]:
        return {
            "source": "synthetic",
            "name": self.kind,
            "settings": asdict(self.language),
            "documents": self.count,
            "entropy": asdict(self.automaton.entropy),
        }

    def entropy(self) -> Entropy:
        return self.automaton.entropy

    def tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        from llmscale.measure.text.tokenizer import END_OF_TEXT

        bare = [text.strip() for text in self.automaton.symbols]
        numbers = {text: number for number, text in enumerate([*bare, END_OF_TEXT])}
        if self._is_in_characters:
            found = Tokenizer(models.BPE(vocab=numbers, merges=[]))
            found.decoder = decoders.Fuse()
        else:
            found = Tokenizer(models.WordLevel(vocab=numbers))
            found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        found.add_special_tokens([END_OF_TEXT])
        return found

    @cached_property
    def _lanes(self) -> tuple[int, int]:
        """How many documents of a shard are made at the same time, and how many after these."""
        length = self.automaton.symbols_per_document + 1
        each = max(1, round(_SHARD_SYMBOLS / _LANES / length))
        return min(_LANES, max(1, round(_SHARD_SYMBOLS / length))), each

    @property
    def _per_shard(self) -> int:
        lanes, each = self._lanes
        return lanes * each

    @cached_property
    def _is_in_characters(self) -> bool:
        return all(len(text) == 1 for text in self.automaton.symbols)

    @cached_property
    def _texts(self) -> np.ndarray:
        texts = [*self.automaton.symbols, _END]
        if self._is_in_characters:
            return np.frombuffer("".join(texts).encode("ascii"), np.uint8)
        return np.array(texts, object)

    def _written(self, row: np.ndarray) -> str:
        found = self._texts[row]
        if self._is_in_characters:
            return found.tobytes().decode("ascii")
        return "".join(found.tolist())


def _parsed(name: str) -> tuple[str, dict[str, str], dict[str, int]]:
    """The language, its settings as text, and how much there is of it."""
    kind, *pairs = (part.strip() for part in name.split(","))
    if not kind:
        raise InputError(
            "synthetic: names no language",
            f"name one of {', '.join(language_names())}, as in --data synthetic:markov,order=2",
        )
    language_of(kind)
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (equals and key and value):
            raise InputError(
                f"{pair!r} in --data synthetic:{kind} is no setting",
                f"write settings as in --data synthetic:{kind},seed=1",
            )
        if key in given:
            raise InputError(f"{key} is given twice in --data synthetic:{kind}", "give it once")
        given[key] = value
    limits = {key: parse_count(given.pop(key), key) for key in _LIMITS if key in given}
    return kind, given, limits
