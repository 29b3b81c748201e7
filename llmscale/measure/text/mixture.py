"""Mixtures of texts: sources that are drawn from in given shares, by tokens.

Every source has a token store of its own. All have one tokenizer, and hold out documents by one
limit of the hash, so that a document that two sources share is held out in both. A mixture is a
store, too: its training text is blocks of the sources' own, each in its source's order, so that
every beginning of it holds the shares to within a block. It ends where the first source does: no
text is repeated in it. Its validation text is that of all sources, the same for every mixture.

    CACHE/mixtures/DIGEST/
      tokenizer.json, split.json    what the sources have in common"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.machine.cache import cache_folder, is_shared
from llmscale.measure.text.augmentation import Augmentation
from llmscale.measure.text.build_store import locked
from llmscale.measure.text.documents import Split
from llmscale.measure.text.long_words import LongWords
from llmscale.measure.text.mixed_store import MixedStore
from llmscale.measure.text.mixture_spec import DEFAULT
from llmscale.measure.text.prepare import TOKENIZER_BYTES, Beginning, Progress, prepare
from llmscale.measure.text.sources import Source, digest_of
from llmscale.measure.text.spec import TextSpec
from llmscale.measure.text.store import TokenStore
from llmscale.measure.text.tokenizer import choose_tokenizer
from llmscale.runs.checked import known_object
from llmscale.runs.safe_write import write_json, write_text

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
    common = _in_common(spec, cache, report)
    stores: dict[str, TokenStore] = {}
    for name, asked in _specs(spec).items():
        most = max(shares[name] for shares in spec.shares.values())
        least = None
        if min_train_tokens is not None:
            least = 1 + block + int(most * min_train_tokens)
        asked = replace(asked, tokenizer=common.tokenizer)
        limits: Any = {"min_train_tokens": least, "split": common.split}
        stores[name] = prepare(asked, cache=cache, progress=report, **limits)
    found: dict[str, TokenStore] = {}
    for mixture, shares in spec.shares.items():
        mixed = MixedStore(mixture, spec, stores, shares, block, common.tokenizer_name)
        found[mixture] = mixed.store(cache, min_train_tokens)
    first = found.pop(DEFAULT)
    said = [remark for store in (first, *found.values()) for remark in store.remarks]
    return replace(first, others=found, remarks=tuple(dict.fromkeys(said)))


def _specs(spec: TextSpec) -> dict[str, TextSpec]:
    """What each source is asked for on its own: an equal part of the validation text."""
    usual = replace(spec, mixture={}, mixtures={})
    each = max(1, spec.held_out // len(spec.mixture))
    found = {}
    for name, one in spec.mixture.items():
        found[name] = replace(
            usual,
            validation_tokens=each,
            source=one.source,
            config=one.config,
            split=one.split,
            text_column=one.text_column,
            augment=one.augment,
        )
    return found


@dataclass(frozen=True)
class _Common:
    """What the sources of a mixture have in common."""

    tokenizer_name: str
    """As it was asked for: `bpe:1024`."""
    tokenizer: str
    """The same, or the file of the one that was trained on all sources."""
    split: Split


def _refuse_same(spec: TextSpec, opened: Mapping[str, Source]) -> None:
    """Raise InputError for two names of one text, unless it is augmented in another way."""
    names: dict[tuple[str, Augmentation], str] = {}
    for name, source in opened.items():
        same = names.setdefault((source.fingerprint(), spec.mixture[name].augment), name)
        if same != name:
            raise InputError(
                f"the sources {same!r} and {name!r} of [data.mixture] are the same text",
                f"leave {name!r} out, and give {same!r} the weight of both",
            )


def _in_common(spec: TextSpec, cache: Path, report: Report) -> _Common:
    """The tokenizer that all sources have, and the documents that are held out of all."""
    asked = _specs(spec)
    opened = {name: one.open() for name, one in asked.items()}
    _refuse_same(spec, opened)
    sizes = [source.estimated_bytes() for source in opened.values()]
    total = None
    if None not in sizes:
        total = sum(size for size in sizes if size is not None)
    choice = choose_tokenizer(spec.tokenizer, total, spec.end_of_text)
    cleaning = json.dumps(spec.stated()["cleaning"], sort_keys=True)
    parts = [source.fingerprint() for source in opened.values()]
    decides = [*parts, cleaning, choice.fingerprint, str(spec.held_out)]
    folder = cache / "mixtures" / digest_of(decides)
    tokenizer = str(folder / "tokenizer.json")
    if choice.existing is not None:
        tokenizer = str(spec.tokenizer)
    known = known_object(folder / "split.json")  # a damaged one is made anew
    if isinstance(known.get("limit"), int) and isinstance(known.get("reason"), str):
        return _Common(choice.name, tokenizer, Split(known["limit"], known["reason"]))
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
    return _Common(choice.name, tokenizer, split)
