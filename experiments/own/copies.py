"""Documents of a few random letters again and again, for experiments/induction.toml: after the
first time, what follows can only be known by looking back."""

import random
from collections.abc import Iterator

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DOCUMENTS, TIMES = 30_000, 8


def copies() -> Iterator[str]:
    """Each of 6 to 16 letters, eight times over."""
    chance = random.Random(0)
    for _ in range(DOCUMENTS):
        letters = "".join(chance.choices(LETTERS, k=chance.randint(6, 16)))
        yield letters * TIMES
