"""The language that a document is in, by CLD2 (Sites 2013; package pycld2)."""

from typing import Final

from llmscale.errors.printable import clean as printable

UNKNOWN: Final = "unknown"
PACKAGE: Final = "pycld2"
_SAMPLE: Final = 600
"""Characters that are looked at, at the beginning and in the middle."""
_SPELLED: Final = {"un": UNKNOWN, "iw": "he", "zh-Hant": "zh", "jw": "jv"}
"""CLD2's own codes, and those of ISO 639-1 that users write."""


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


def known_languages() -> frozenset[str]:
    """What `language_of` can find, but for `unknown`."""
    import pycld2

    return frozenset(_SPELLED.get(code, code) for _, code in pycld2.LANGUAGES) - {UNKNOWN}
