"""Keep documents in the languages that are named, as `language:en` or `language:en+de`.

The language is the one that CLD2 (Sites 2013; package pycld2) finds most of in the first and the
middle 600 characters of a document. Text in none that it knows, such as rows of numbers, is
dropped."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Final

from llmscale.errors import InputError
from llmscale.errors.printable import clean as printable
from llmscale.measure.text.clean import Judge, Reason
from llmscale.measure.text.words import Words

UNKNOWN: Final = "unknown"
_SAMPLE: Final = 600
_SPELLED: Final = {"un": UNKNOWN, "iw": "he", "zh-Hant": "zh", "jw": "jv"}
"""CLD2's own codes, and those of ISO 639-1 that users write."""


class Language(Judge):
    """Documents in other languages are dropped."""

    NEEDS: ClassVar[str | None] = "pycld2"
    ARGUMENT: ClassVar[str | None] = "en"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = _known_languages()
        for language in self._wanted or ("",):
            if language not in known:
                raise InputError(
                    f"the cleaning step language has no language {language!r}",
                    "name the languages to keep by two letters, like language:en or language:en+de",
                )

    @property
    def version(self) -> str:
        """The detector."""
        return "cld2"

    def dropped(self, words: Words) -> Mapping[int, Reason]:
        """The documents in other languages."""
        found = (language_of(text) for text in words.texts)
        return {
            number: Reason("language", language)
            for number, language in enumerate(found)
            if language not in self._wanted
        }

    @cached_property
    def _wanted(self) -> tuple[str, ...]:
        parts = (self.argument or "").lower().split("+")
        return tuple(part.strip() for part in parts if part.strip())


def language_of(text: str) -> str:
    """The two letters of the language that most of a document is in, or `unknown`."""
    import pycld2

    sample = text[:_SAMPLE]
    if len(text) > 3 * _SAMPLE:
        middle = len(text) // 2
        sample = f"{sample} {text[middle : middle + _SAMPLE]}"
    try:
        _, _, details = pycld2.detect(sample)
    except pycld2.error:  # it refuses control characters and code points that are none
        try:
            _, _, details = pycld2.detect(printable(sample))
        except pycld2.error:
            return UNKNOWN
    code = details[0][1]
    return _SPELLED.get(code, code)


def _known_languages() -> frozenset[str]:
    import pycld2

    return frozenset(_SPELLED.get(code, code) for _, code in pycld2.LANGUAGES) - {UNKNOWN}
