"""How many training tokens a text has, by the fingerprint that a table of runs names it by."""

import re
from dataclasses import dataclass

from llmscale.machine.cache import cache_folder
from llmscale.runs.checked import known_object

_FINGERPRINT = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class StoredText:
    """What the cache holds of a text: its training tokens, and whether the source has no more."""

    tokens: float
    is_all: bool


def stored_text(fingerprint: str) -> StoredText | None:
    """The text of this fingerprint; None if it is not prepared on this machine."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        return None
    meta = known_object(cache_folder() / "tokens" / fingerprint / "meta.json")
    train, is_all = meta.get("train"), meta.get("complete")
    tokens = train.get("tokens") if isinstance(train, dict) else None
    if not isinstance(tokens, int) or not isinstance(is_all, bool):
        return None
    return StoredText(float(tokens), is_all)
