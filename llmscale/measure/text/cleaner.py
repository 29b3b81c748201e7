"""Cleaning of documents that follow each other: what is kept of them, and what each step did."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from llmscale.measure.text.clean import Compare, Judge, Reason, Rewrite, Step, open_steps
from llmscale.measure.text.cleaning import Document, Seen, clean, digest_of, sound
from llmscale.measure.text.spec import Cleaning
from llmscale.measure.text.words import Words

TOO_SHORT: Final = "too-short"
EXACT_DUPLICATES: Final = "exact-duplicates"
"""What is done without a step, by the names that it has next to theirs."""
SAMPLES: Final = 3
SAMPLE_CHARACTERS: Final = 240
_CONTEXT: Final = 60
"""Characters around a change that are shown."""


@dataclass(frozen=True, order=True)
class Sample:
    """The beginning of a document that was dropped, or of what was changed in it."""

    digest: int
    """Of the text. Those of the smallest digests are shown: a fair choice that does not hang on the
    order."""
    text: str
    why: str = ""
    """Why it was dropped, or what stood there before it was changed."""


@dataclass(frozen=True)
class Effect:
    """What a step did."""

    dropped: int = 0
    """Documents."""
    dropped_bytes: int = 0
    changed: int = 0
    """Documents that were changed and kept by this step."""
    removed_bytes: int = 0
    """By how much these are shorter; negative if they are longer."""
    rules: Mapping[str, int] = field(default_factory=dict)
    """Dropped documents by the rule that they broke."""
    samples: tuple[Sample, ...] = ()

    def __add__(self, other: "Effect") -> "Effect":
        rules = dict(self.rules)
        for rule, count in other.rules.items():
            rules[rule] = rules.get(rule, 0) + count
        return Effect(
            self.dropped + other.dropped,
            self.dropped_bytes + other.dropped_bytes,
            self.changed + other.changed,
            self.removed_bytes + other.removed_bytes,
            rules,
            tuple(sorted({*self.samples, *other.samples})[:SAMPLES]),
        )

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> "Effect":
        """What `asdict` wrote."""
        samples = tuple(Sample(**sample) for sample in known["samples"])
        return cls(**{**known, "samples": samples})


Effects = Mapping[str, Effect]


def together(effects: Iterable[Effects]) -> dict[str, Effect]:
    """The sums of what each step did."""
    found: dict[str, Effect] = {}
    for one in effects:
        for name, effect in one.items():
            found[name] = found.get(name, Effect()) + effect
    return found


@dataclass(frozen=True)
class Cleaned:
    """What is kept of documents that follow each other."""

    documents: tuple[Document, ...]
    numbers: tuple[int, ...]
    """Which of the documents each of these was, counted from 0."""
    read: int
    """How many there were."""
    effects: Effects
    marks: Mapping[str, np.ndarray]
    """By comparing step, the marks of the documents kept: (T, WIDTH)."""


@dataclass(frozen=True)
class Examined:
    """What is known of documents that follow each other without those before them."""

    documents: tuple[Document, ...]
    """What rewriting has left."""
    numbers: tuple[int, ...]
    """Which of the documents each of these was, counted from 0."""
    read: int
    """How many there were."""
    effects: Effects
    """Of rewriting."""
    dropped: Mapping[int, tuple[str, Reason]]
    """Of `documents` those that are dropped whatever stands before them, by what step, and why."""
    marks: Mapping[str, np.ndarray]
    """By comparing step, the marks of `documents`: (T, WIDTH)."""


class Examiner:
    """Looks at documents by themselves."""

    def __init__(self, cleaning: Cleaning) -> None:
        self._cleaning = cleaning
        steps = open_steps(cleaning.steps)
        self._rewrites = tuple(step for step in steps if isinstance(step, Rewrite))
        self._judges = tuple(step for step in steps if isinstance(step, Judge))
        self.compares = tuple(step for step in steps if isinstance(step, Compare))

    def examine(self, texts: Sequence[str]) -> Examined:
        """What is known of these documents."""
        record = _Record()
        found = ((number, self._basic(text, record)) for number, text in enumerate(texts))
        numbered = [(number, document) for number, document in found if document is not None]
        documents = tuple(document for _, document in numbered)
        words = None
        if self._judges or self.compares:
            words = Words([document.text for document in documents])
        dropped: dict[int, tuple[str, Reason]] = {}
        for judge in self._judges:
            assert words is not None
            for number, reason in judge.dropped(words).items():
                dropped.setdefault(number, (judge.name, reason))
        marks = {step.name: step.marks(words) for step in self.compares if words is not None}
        numbers = tuple(number for number, _ in numbered)
        return Examined(documents, numbers, len(texts), record.effects, dropped, marks)

    def _basic(self, text: str, record: "_Record") -> Document | None:
        """The document after all rewriting; None if nothing of it is left."""
        if self._rewrites:
            text = sound(text, self._cleaning)
        for step in self._rewrites:
            before = text
            changed = step.rewritten(text)
            if changed is None:
                record.drop(_whole(text), step.name, Reason(""))
                return None
            text = changed
            if text != before:
                record.change(step.name, before, text)
        document = clean(text, self._cleaning)
        if document is None:
            record.drop(_whole(text), TOO_SHORT, Reason(""))
        return document


class Cleaner:
    """Cleans documents in their order, and knows those that were kept before."""

    def __init__(self, cleaning: Cleaning, seen: Seen | None = None) -> None:
        self.cleaning = cleaning
        self._examiner = Examiner(cleaning)
        self.compares = self._examiner.compares
        self._seen = Seen() if seen is None else seen
        self._marks = {step.name: Seen() for step in self.compares}

    def remember(self, step: Step, marks: np.ndarray) -> None:
        """Know the marks of documents that were kept before, in another process."""
        self._marks[step.name].add_all(marks.ravel())

    def examine(self, texts: Sequence[str]) -> Examined:
        """What is known of documents by themselves."""
        return self._examiner.examine(texts)

    def clean(self, texts: Sequence[str]) -> Cleaned:
        """What is kept of these documents, which follow those that were cleaned before."""
        return self.keep(self.examine(texts))

    def keep(self, examined: Examined) -> Cleaned:
        """The same of documents that were examined, in whatever process."""
        documents, marks = examined.documents, examined.marks
        record, kept = _Record(dict(examined.effects)), []
        for number, likeness in enumerate(self._likenesses(documents, examined.dropped, marks)):
            if likeness is None:
                kept.append(number)
            else:
                record.drop(documents[number], *likeness)
        kept_marks = {name: values[kept] for name, values in marks.items()}
        for name, values in kept_marks.items():
            self._marks[name].add_all(values.ravel())
        return Cleaned(
            tuple(documents[place] for place in kept),
            tuple(examined.numbers[place] for place in kept),
            examined.read,
            record.effects,
            kept_marks,
        )

    def _likenesses(
        self,
        documents: Sequence[Document],
        dropped: Mapping[int, tuple[str, Reason]],
        marks: Mapping[str, np.ndarray],
    ) -> Iterator[tuple[str, Reason] | None]:
        """Of each document the step that drops it, and why; None for one that is kept. Only what is
        kept is compared with: so much is known of the documents before, if cleaning goes on in
        another process."""
        known = {name: self._marks[name].any_of(values) for name, values in marks.items()}
        lists = {name: values.tolist() for name, values in marks.items()}
        fresh: dict[str, set[int]] = {name: set() for name in marks}
        for number, document in enumerate(documents):
            if number in dropped:
                yield dropped[number]
                continue
            if self.cleaning.drop_duplicates and document.digest in self._seen:
                yield EXACT_DUPLICATES, Reason("")
                continue
            like = (
                name
                for name in marks
                if known[name][number] or not fresh[name].isdisjoint(lists[name][number])
            )
            name = next(like, None)
            if name is not None:
                yield name, Reason("")
                continue
            if self.cleaning.drop_duplicates:
                self._seen.add(document.digest)
            for name, row in lists.items():
                fresh[name].update(row[number])
            yield None


class _Record:
    """What the steps do to a batch."""

    def __init__(self, effects: dict[str, Effect] | None = None) -> None:
        self.effects: dict[str, Effect] = effects or {}

    def drop(self, document: Document, name: str, reason: Reason) -> None:
        why = f"{reason.rule}: {reason.found}".strip(": ")
        sample = Sample(document.digest, document.text[:SAMPLE_CHARACTERS], why)
        rules = {reason.rule: 1} if reason.rule else {}
        self._add(name, Effect(1, document.bytes, rules=rules, samples=(sample,)))

    def change(self, name: str, before: str, after: str) -> None:
        whole = _whole(before)
        removed = whole.bytes - len(after.encode("utf-8", "replace"))
        samples = self.effects.get(name, Effect()).samples
        if len(samples) < SAMPLES or whole.digest < samples[-1].digest:
            was, now = _difference(before, after)
            samples = (Sample(whole.digest, now, was),)
        self._add(name, Effect(changed=1, removed_bytes=removed, samples=samples))

    def _add(self, name: str, effect: Effect) -> None:
        self.effects[name] = self.effects.get(name, Effect()) + effect


def _whole(text: str) -> Document:
    """A document as it is, before it was cleaned."""
    encoded = text.encode("utf-8", "replace")
    return Document(text, len(encoded), digest_of(encoded))


def _difference(before: str, after: str) -> tuple[str, str]:
    """The first line that was changed and what became of it, or that it was taken out."""
    old, new = before.split("\n"), after.split("\n")
    number = _first_difference(old, new)
    was = old[min(number, len(old) - 1)]
    if len(old) != len(new):
        return was[:SAMPLE_CHARACTERS], "(taken out)"
    place = _first_difference(was, new[number])
    shown = slice(max(0, place - _CONTEXT), place + _CONTEXT)
    return was[shown], new[number][shown]


def _first_difference(before: Sequence[str], after: Sequence[str]) -> int:
    """Where two sequences begin to differ."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((place for place, (old, new) in pairs if old != new), min(len(before), len(after)))
