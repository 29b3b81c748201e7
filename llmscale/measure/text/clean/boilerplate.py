"""Take out lines of no content: only a URL, or a short notice on cookies, scripts, rights or terms.

The phrases are of the kind that C4 leaves out (Raffel et al. 2020, section 2.2). Only lines of up
to 160 characters are taken out, so that a text about cookies keeps its sentences. A document of
nothing else is dropped."""

import re
from typing import Final

from llmscale.measure.text.clean import Rewrite

_LONGEST: Final = 160
_PHRASES: Final = (
    "all rights reserved",
    "enable javascript",
    "javascript is disabled",
    "uses cookies",
    "use cookies",
    "use of cookies",
    "cookie policy",
    "privacy policy",
    "terms of use",
    "terms of service",
    "terms and conditions",
    "skip to content",
    "skip to main content",
    "subscribe to our newsletter",
    "click here to",
    "lorem ipsum",
)
_URL_LINE: Final = re.compile(r"[<\[(]?(?:https?://|www\.)\S+[>\])]?")


class Boilerplate(Rewrite):
    """Lines of no content are taken out."""

    def rewritten(self, text: str) -> str | None:
        """The text without these lines."""
        lowered = text.lower()
        found = [phrase for phrase in _PHRASES if phrase in lowered]
        if not found and "://" not in text and "www." not in text:
            return text
        lines = text.split("\n")
        kept = [line for line in lines if not _is_boilerplate(line, found)]
        if len(kept) == len(lines):
            return text
        return "\n".join(kept) if any(map(str.strip, kept)) else None


def _is_boilerplate(line: str, phrases: list[str]) -> bool:
    may_be_url = "://" in line or "www." in line
    if may_be_url and _URL_LINE.fullmatch(line.strip()):
        return True
    if not phrases or len(line) > _LONGEST:
        return False
    lowered = line.lower()
    return any(phrase in lowered for phrase in phrases)
