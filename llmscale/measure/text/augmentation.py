"""Augmented text: copies of training documents with words and spans changed at random.

Validation text is never augmented: which side a document falls on is decided by the document as it
was, and so is that of its copies."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from llmscale.errors import InputError
from llmscale.settings import Range, check_settings, setting

if TYPE_CHECKING:
    from llmscale.measure.text.documents import Batch, Split

SPAN_WORDS: Final = 3
"""Mean length of a deleted span (Raffel et al. 2020, "T5", section 3.3.4)."""
_WORDS: Final = re.compile(r"(\S+)(\s*)")
_SHARE: Final = Range(0, 0.9)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training documents (drop and swap as in Wei & Zou 2019, "EDA"; spans as in
    Raffel et al. 2020). TOML table `[data.augment]`."""

    drop: float = setting(0.0, help="Share of words that are deleted, one by one.", within=_SHARE)
    swap: float = setting(
        0.0, help="Share of words that change places with another one.", within=_SHARE
    )
    mask: float = setting(
        0.0, help="Share of words in whose place `mask_with` stands.", within=_SHARE
    )
    span: float = setting(
        0.0,
        help=f"Share of words that are deleted in spans of {SPAN_WORDS} on average.",
        within=_SHARE,
    )
    mask_with: str = setting("[MASK]", help="What stands in the place of a masked word.")
    copies: int = setting(
        1,
        help="Differently changed copies of each training document, one after the other.",
        within=Range(1, 1000),
    )
    with_original: bool = setting(
        False, help="Whether the first of the copies is the document itself."
    )
    seed: int = setting(0, help="Another seed makes other copies.", within=Range(0, 1e9))

    def __post_init__(self) -> None:
        check_settings(self)
        if self.copies > 1 and not self.changes:
            raise InputError(
                f"augment asks for {self.copies} copies and changes nothing in them: this would "
                "repeat the text in silence",
                "set drop, swap, mask or span, or repeat the text with epochs",
            )

    @property
    def changes(self) -> bool:
        """Whether anything in a document is changed."""
        return any((self.drop, self.swap, self.mask, self.span))

    def __str__(self) -> str:
        """`drop=0.1, copies=4`: what differs from the usual."""
        said = []
        for name, field in type(self).__dataclass_fields__.items():
            value = getattr(self, name)
            if value != field.default:
                said.append(f"{name}={value}")
        return ", ".join(said)

    def of(self, text: str, digest: int) -> Iterator[str]:
        """The copies of the document `text`, which depend on it, `digest` and the seed only."""
        for copy in range(self.copies):
            if copy == 0 and self.with_original:
                yield text
            else:
                yield _changed(text, self, random.Random(f"{self.seed} {digest} {copy}"))


def augmented(batch: "Batch", split: "Split", how: Augmentation) -> "Batch":
    """`batch` with the copies of each document in its place, but for those that are held out. A
    copy keeps the hash of its document, by which the text is split."""
    documents = []
    for document in batch.documents:
        if split.holds_out(document):
            documents.append(document)
            continue
        for text in how.of(document.text, document.digest):
            documents.append(replace(document, text=text, bytes=len(text.encode())))
    return replace(batch, documents=tuple(documents))


def _changed(text: str, how: Augmentation, chance: random.Random) -> str:
    """`text` with its words changed; the white space after a word goes with its place."""
    before = text[: len(text) - len(text.lstrip())]
    found = _WORDS.findall(text)
    words, spaces = [word for word, _ in found], [space for _, space in found]
    _swap(words, how.swap, chance)
    kept = _kept(len(words), how, chance)
    if how.mask:
        for place in kept:
            if chance.random() < how.mask:
                words[place] = how.mask_with
    return before + "".join(words[place] + spaces[place] for place in kept)


def _swap(words: list[str], share: float, chance: random.Random) -> None:
    """Exchange pairs of `words` until about `share` of them have been moved."""
    for _ in range(round(share * len(words) / 2)):
        one, other = chance.randrange(len(words)), chance.randrange(len(words))
        words[one], words[other] = words[other], words[one]


def _kept(count: int, how: Augmentation, chance: random.Random) -> list[int]:
    """The places of words that are neither dropped nor in a deleted span: at least one of them."""
    kept: list[int] = []
    place = 0
    # Spans begin so often that a share `span` of all words lies in them.
    begins = how.span / (SPAN_WORDS * (1 - how.span) + how.span)
    while place < count:
        if how.span and chance.random() < begins:
            place += chance.randint(1, 2 * SPAN_WORDS - 1)
            continue
        if not how.drop or chance.random() >= how.drop:
            kept.append(place)
        place += 1
    return kept or list(range(min(count, 1)))
