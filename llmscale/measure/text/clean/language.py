"""Keep documents in the languages that are named, as `language:en` or `language:en+de`.

The language is the one that CLD2 (Sites 2013; package pycld2) finds most of in the first and the
middle 600 characters of a document. Text in none that it knows, such as rows of numbers, is
dropped."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from llmscale.errors import InputError
from llmscale.measure.text.clean import Judge, Reason
from llmscale.measure.text.detected_language import known_languages, language_of
from llmscale.measure.text.words import Words


class Language(Judge):
    """Documents in other languages are dropped."""

    NEEDS: ClassVar[str | None] = "pycld2"
    ARGUMENT: ClassVar[str | None] = "en"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = known_languages()
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
