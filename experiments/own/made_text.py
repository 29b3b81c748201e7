"""Text of the made tasks' languages to pretrain on, in which no example is solved: sentences of
either language, a glossary of phrases, reports, summaries of other reports, and what guests and
assistants say."""

from collections.abc import Iterator
from itertools import chain

from llmscale.measure.text.tasks.generators import made, target_of
from llmscale.measure.text.tasks.generators.translation import VERBS

DOCUMENTS = 4000
"""Of each kind."""
SENTENCES = 6
"""Of a document in one language."""


def made_text() -> Iterator[str]:
    """Documents of all kinds in turn."""
    for of_each in zip(*(kind() for kind in KINDS), strict=True):
        yield from of_each


def english() -> Iterator[str]:
    """Sentences to translate, of which no translation is shown."""
    rows = made(f"task:translation,examples={DOCUMENTS * SENTENCES},seed=101").rows()
    yield from _documents(row["prompt"].removesuffix(" =") for _, row in rows)


def other_language() -> Iterator[str]:
    """Translations of other sentences."""
    rows = made(f"task:translation,examples={DOCUMENTS * SENTENCES},seed=102").rows()
    yield from _documents(target_of(row).strip() for _, row in rows)


def glossary() -> Iterator[str]:
    """What begins a sentence and what that is in the other language, without verb and object."""
    rows = made(f"task:translation,examples={DOCUMENTS * SENTENCES},seed=106").rows()
    yield from _documents(_entry(row["prompt"], target_of(row)) for _, row in rows)


def reports() -> Iterator[str]:
    """What is to be summed up."""
    rows = made(f"task:summarisation,examples={DOCUMENTS},seed=103").rows()
    return (row["prompt"].removesuffix(" summary :") for _, row in rows)


def summaries() -> Iterator[str]:
    """Summaries of other reports."""
    rows = made(f"task:summarisation,examples={DOCUMENTS},seed=104").rows()
    return (target_of(row).strip() for _, row in rows)


def turns() -> Iterator[str]:
    """What is said in conversations, one turn after another of different ones."""
    rows = made(f"task:dialogue,examples={DOCUMENTS},seed=105").rows()
    said = sorted(set(chain.from_iterable(_contents(row) for _, row in rows)))
    for document in range(DOCUMENTS):
        yield "\n".join(said[(document * 7 + turn * 1009) % len(said)] for turn in range(SENTENCES))


def _entry(sentence: str, translation: str) -> str:
    words = sentence.split()
    length = next(at for at, word in enumerate(words) if word.rstrip("s") in VERBS)
    return f"{' '.join(words[:length])} : {' '.join(translation.split()[:length])}"


def _contents(row: dict) -> list[str]:
    return [turn["content"] for turn in row["messages"]]


def _documents(sentences: Iterator[str]) -> Iterator[str]:
    together = zip(*[sentences] * SENTENCES, strict=True)  # the next six each time
    return ("\n".join(several) for several in together)


KINDS = (english, other_language, glossary, reports, summaries, turns)
