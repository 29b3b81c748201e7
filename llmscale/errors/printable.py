"""Text that may be shown: without what a terminal would obey, and without the keys of URLs. Names,
sizes, file names and messages come from files that anyone may have written."""

import re
from typing import Any

MASK = "***"
LONGEST = 1500
"""Letters of a message, at most: options and names are quoted in messages, and may be of any
length."""

_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,40}[ -/]{0,4}[@-~]")
_LINE_ENDS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
# C0, DEL and C1; what turns or hides text (bidirectional marks and overrides, zero-width and tag
# characters); surrogates, which stand for bytes that are no UTF-8.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\ufffe\uffff\ufdd0-\ufdef\U000e0000-\U000e0fff]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^\s'\"<>`|]+)")
_NAMED_IN_FRONT = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes of Azure, in which a container stands before the @:
container@account.dfs.core.windows.net."""
_SECRET = re.compile(
    r"[?&;#](?:[^=&;#]*(?:token|secret|passw|pwd|key|sig|credential|auth|code)[^=&;#]*|x-(?:amz|goog)-[^=&;#]*)=",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """`text` without control characters, escape sequences and marks that turn or hide it. Line ends
    and tabs stay."""
    text = _ESCAPES.sub("", text)
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def one_line(text: object) -> str:
    """`text` cleaned, in one line: its line ends and tabs as blanks."""
    return clean(_LINE_ENDS.sub(" ", str(text)))


def shortened(text: str, most: int = LONGEST) -> str:
    """`text`, or its beginning and end with the number of letters between, if it is longer than
    `most`."""
    if len(text) <= most:
        return text
    head, tail = 2 * most // 3, most // 3
    return f"{text[:head]} ... ({len(text) - head - tail:,} letters left out) ... {text[-tail:]}"


def begun(value: object, most: int = 40) -> str:
    """`value` for a sentence, cut after `most` letters."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def masked(text: str) -> str:
    """`text` with the keys of its URLs as ***: what stands before the @, and a query that signs or
    authorises."""
    return _URL.sub(_mask_url, text) if "://" in text else text


def all_masked(value: Any) -> Any:
    """A JSON value with every text in it masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: all_masked(item) for key, item in value.items()}
    return [all_masked(item) for item in value] if isinstance(value, list | tuple) else value


def has_keys(url: str) -> bool:
    """Whether the URL holds keys, which are masked when it is shown."""
    return masked(url) != url


def _mask_url(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"], found["rest"]
    authority = rest.split("/", 1)[0].split("?", 1)[0]
    _user, colon, password = authority.partition(":")
    # A secret may itself hold slashes, so that the @ comes later; but host:8080/name@2 is a port.
    in_path = bool(colon) and "@" not in authority and not password.isdigit() and "@" in rest
    if in_path or ("@" in authority and (colon or scheme.lower() not in _NAMED_IN_FRONT)):
        end = rest.rindex("@") if in_path else _end_of_userinfo(rest, authority)
        rest = f"{MASK}{rest[end:]}"
    signed = _SECRET.search(rest)
    if signed:
        start = min(
            place for place in (rest.find("?"), rest.find("#"), signed.start()) if place >= 0
        )
        rest = f"{rest[: start + 1]}{MASK}"
    return f"{scheme}://{rest}"


def _end_of_userinfo(rest: str, authority: str) -> int:
    return rest.rindex("@", 0, len(authority))
