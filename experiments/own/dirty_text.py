"""A text with as much dirt as good text, for experiments/cleaning.py: every machine can make it.

The good text is this Python's standard library, cut at blank lines; one file in twenty is held out.
To each document come, in a random order that is always the same: up to two copies with a few words
changed, and now and then an advertisement, rows of random letters, or a notice in its midst. None
of it is in the held-out text."""

import random
import zlib
from collections.abc import Iterator

from llmscale.measure.text.sources import open_source

PIECE = 3_000
"""Characters of a document, about."""
HELD_OUT = 20
LETTERS = "bcdfghjklmnpqrstvwxz0123456789+/="
NOTICES = (
    "This site uses cookies. By going on you accept our cookie policy.",
    "All rights reserved. See our terms of use and privacy policy.",
    "Please enable JavaScript to see this page.",
    "https://example.com/page?id=12345&ref=share",
)
SPAM = (
    "Order now at the best price! The new {0} is here, and our customers love it. Choose yours "
    "today and get free delivery. No shop has more of these than we do, and no other lasts as "
    "long. Read what people say about it, compare the models, and tell your friends. Do not wait, "
    "for this offer ends soon: only today everything comes with a present. Questions? Our service "
    "answers day and night, in your language and without waiting. If you do not like what you "
    "ordered, send it back within a month, and you get your money back, no questions asked. More "
    "of {1} in our other shops, where prices are as low.\n"
)


def good() -> Iterator[str]:
    """The training text without dirt."""
    yield from _pieces(held_out=False)


def held_out() -> Iterator[str]:
    """The text on which models are compared."""
    yield from _pieces(held_out=True)


def dirty() -> Iterator[str]:
    """The training text with the dirt."""
    chance = random.Random(0)
    for text in good():
        documents = [_with_notice(text, chance) if chance.random() < 0.3 else text]
        documents += [_changed(text, chance) for _ in range(chance.randrange(3))]
        if chance.random() < 0.5:
            documents.append(_spam(chance))
        if chance.random() < 0.4:
            documents.append(_noise(chance))
        chance.shuffle(documents)
        yield from documents


def _pieces(held_out: bool) -> Iterator[str]:
    source = open_source("stdlib")
    for shard, name in enumerate(source.shards):
        if (zlib.crc32(name.encode()) % HELD_OUT == 0) != held_out:
            continue
        held = ""
        for text in source.documents(shard):
            for paragraph in text.split("\n\n"):
                held += paragraph + "\n\n"
                if len(held) >= PIECE:
                    yield held
                    held = ""
        if held.strip():
            yield held


def _with_notice(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(NOTICES))
    return "\n".join(lines)


def _changed(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    for _ in range(1 + len(words) // 100):
        words[chance.randrange(len(words))] = _name(chance)
    return " ".join(words)


def _name(chance: random.Random) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(4, 9)))


def _spam(chance: random.Random) -> str:
    return SPAM.format(_name(chance), _name(chance)) * chance.randint(1, 3)


def _noise(chance: random.Random) -> str:
    return "\n".join("".join(chance.choices(LETTERS, k=72)) for _ in range(chance.randint(10, 40)))
