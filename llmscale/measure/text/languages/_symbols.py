"""What the symbols of a language look like: characters, or made-up words."""

from typing import Final

from llmscale.errors import InputError

_CHARACTERS: Final = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?+-*/=<>()[]{}_~@#$%&"
)
MOST_CHARACTERS: Final = len(_CHARACTERS)
_SYLLABLES: Final = tuple(
    consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeiou"
)


def characters(count: int) -> list[str]:
    """`count` printable characters of ASCII, none of them a space. Raises InputError."""
    if count > MOST_CHARACTERS:
        raise InputError(
            f"there are {MOST_CHARACTERS} characters to write symbols with, and not {count:,}",
            "write them as words: unit=words",
        )
    return list(_CHARACTERS[:count])


def words(count: int) -> list[str]:
    """`count` words of syllables, the first ones of one, each with a space before it."""
    return [f" {_word(number)}" for number in range(count)]


def _word(number: int) -> str:
    """Number `number` in syllables; no two numbers give the same (bijective numeration)."""
    parts = []
    number += 1
    while number:
        number, digit = divmod(number - 1, len(_SYLLABLES))
        parts.append(_SYLLABLES[digit])
    return "".join(reversed(parts))
