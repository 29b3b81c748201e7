"""Mask personal data: <EMAIL>, <PHONE>, <IP_ADDRESS>, <CARD>, <IBAN> and <SECRET>, in their place.

Patterns that are sure rather than complete: a card must satisfy Luhn's check and an issuer's
prefix, an IBAN its own check (ISO 13616) and its country's length, a telephone number must be
written as one (+1 ..., 555-123-4567, Tel. ...), and an IP address must be a public one. Four
numbers under 32, as in 1.2.3.4, are read as a version. Names and postal addresses stay."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from llmscale.measure.text.clean import Rewrite

_EMAIL: Final = re.compile(
    r"(?<![A-Za-z0-9._%+/-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<top>[A-Za-z]{2,24})"
    r"(?![A-Za-z0-9@])"
)
_FILES: Final = re.compile(
    r"png|jpe?g|gif|svg|webp|ico|m?js|ts|css|py|html?|json|md|txt|zip|gz|whl", re.IGNORECASE
)
"""What ends a file's name, as in icon@2x.png, and no address."""
_SECRETS: Final = (
    ("AKIA", r"(?<![A-Z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Z0-9])"),
    ("ASIA", r"(?<![A-Z0-9])ASIA[0-9A-Z]{16}(?![A-Z0-9])"),
    *(
        (sign, rf"\b{sign}[A-Za-z0-9]{{36,255}}\b")
        for sign in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")
    ),
    ("github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
    ("glpat-", r"\bglpat-[A-Za-z0-9_-]{20,64}"),
    ("sk-", r"(?<![A-Za-z0-9-])sk-(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{32,200}"),
    ("k_live_", r"\b[rs]k_live_[A-Za-z0-9]{16,128}\b"),
    ("xox", r"\bxox[abeprs]-[A-Za-z0-9-]{10,250}"),
    ("AIza", r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("hf_", r"\bhf_[A-Za-z0-9]{30,64}\b"),
    ("npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("pypi-", r"\bpypi-[A-Za-z0-9_-]{50,300}"),
    ("eyJ", r"\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"),
    (
        "PRIVATE KEY",
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----[^-]{20,20000}"
        r"-----END [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----",
    ),
)
"""The beginning by which each is found, and the pattern: as their issuers document them."""
_SECRET_PATTERNS: Final = tuple((sign, re.compile(pattern)) for sign, pattern in _SECRETS)

_NUMBERS: Final = re.compile(r"[0-9](?:[ ().\-/]{0,2}[0-9]){3,39}")
"""Four digits or more with what may stand between them: near these, the following is looked for."""
_BEFORE: Final = 24
"""Characters before and after such digits that may belong to what they are part of."""
_CARD: Final = re.compile(
    r"(?<![\w.-])[2-6][0-9]{3}(?:[ -]?[0-9]{4,6}){2}(?:[ -]?[0-9]{1,7})?(?![\w-])(?!\.[0-9])"
)
_ISSUERS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|6(?:011|5\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
"""Visa, Mastercard, American Express, Discover, JCB and Diners (ISO/IEC 7812), with lengths."""
_PHONE: Final = re.compile(
    r"(?<![\w+/.-])\+[1-9][0-9]{0,2}(?:[ .\-/]?\(?[0-9]{1,4}\)?){2,6}(?![\w-])(?!\.[0-9])"
    r"|(?<![\w+/.-])(?:1[ .-])?"
    r"(?:\([2-9][0-9]{2}\) ?[0-9]{3}[.-]|[2-9][0-9]{2}(?P<mark>[.-])[0-9]{3}(?P=mark))"
    r"[0-9]{4}(?![\w-])(?!\.[0-9])"
    r"|(?<=[Tt]el[.:] )\(?[0-9](?:[ ().\-/]{0,2}[0-9]){6,14}(?![\w-])"
    r"|(?<=[Pp]hone: )\(?[0-9](?:[ ().\-/]{0,2}[0-9]){6,14}(?![\w-])"
    r"|(?<=[Ff]ax: )\(?[0-9](?:[ ().\-/]{0,2}[0-9]){6,14}(?![\w-])"
)
_DIGITS_OF_PHONE: Final = range(7, 16)
"""E.164 allows 15."""
_IPV4: Final = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-])(?!\.[0-9])")
_VERSION: Final = re.compile(
    r"(?:\b(?:v|ver|versions?|release|build|rev|revision|update|since)|[=<>~^])[.:=()\" ]{0,3}$",
    re.IGNORECASE,
)
"""What stands before a number of four parts that is a version."""
_SMALL: Final = 32
"""Four numbers all below this are a version; of addresses, one in 4,000 is such."""
_OBJECT_ROOTS: Final = 2
"""Numbers that begin with 0 to 2, as 2.5.29.37, are more often object identifiers (ITU-T X.660)."""
_IPV6: Final = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:])")
"""Of 2000::/3, all that is public (RFC 4291). What is before is looked at second: it is faster."""
_IBAN: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
_IBAN_BEGINS: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}")
_IBAN_LENGTHS: Final = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})([0-9]{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 "
        "NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 "
        "TR26 UA29 VA22 VG24 XK20",
    )
}
"""Letters and digits of an IBAN, by country (SWIFT, IBAN registry)."""


class PersonalData(Rewrite):
    """Personal data and keys are masked."""

    def rewritten(self, text: str) -> str | None:
        """The text with a placeholder for each."""
        if "@" in text:
            text = _EMAIL.sub(_mask_email, text)
        for sign, pattern in _SECRET_PATTERNS:
            if sign in text:
                text = pattern.sub("<SECRET>", text)
        if ":" in text:
            text = _IPV6.sub(_mask_ipv6, text)
        return _mask_numbers(text)


class _Found(NamedTuple):
    """What is to be masked, and by what."""

    start: int
    end: int
    label: str


def _mask_email(found: re.Match[str]) -> str:
    return found[0] if _FILES.fullmatch(found["top"]) else "<EMAIL>"


def _mask_ipv6(found: re.Match[str]) -> str:
    address = found[0].rstrip(":")
    if not _is_public(address):
        return found[0]
    return f"<IP_ADDRESS>{found[0][len(address) :]}"


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _mask_numbers(text: str) -> str:
    pieces, done = [], 0
    for found in _in_numbers(text):
        if found.start < done:
            continue  # a part of what was masked before
        pieces += [text[done : found.start], found.label]
        done = found.end
    return "".join([*pieces, text[done:]]) if pieces else text


def _in_numbers(text: str) -> Iterator[_Found]:
    for number in _NUMBERS.finditer(text):
        start, end = number.span()
        if end - start < _DIGITS_OF_PHONE.start:
            continue
        near = max(0, start - _BEFORE), end + _BEFORE
        digits = sum(map(str.isdecimal, number[0]))
        if digits >= 8 and _IBAN_BEGINS.search(text, near[0], start + 2):
            yield from _ibans(text, *near)
        if digits >= 12:
            yield from _cards(text, start, near[1])
        if "." in number[0]:
            yield from _ipv4(text, start, near[1])
        if digits >= _DIGITS_OF_PHONE.start:
            yield from _phones(text, max(0, start - 3), near[1], end)


def _ibans(text: str, start: int, end: int) -> Iterator[_Found]:
    for found in _IBAN.finditer(text, start, end):
        length = _IBAN_LENGTHS.get(found[0][:2], 0)
        letters, stop = "", found.start()
        for stop in range(found.start(), found.end()):
            if len(letters) == length:
                break
            letters += text[stop].strip()
        else:
            stop = found.end()
        turned = letters[4:] + letters[:4]
        if len(letters) == length and length and int(_as_digits(turned)) % 97 == 1:
            yield _Found(found.start(), stop, "<IBAN>")


def _as_digits(letters: str) -> str:
    """Digits, and letters as 10 to 35 (ISO 13616)."""
    return "".join(str(int(letter, 36)) for letter in letters)


def _cards(text: str, start: int, end: int) -> Iterator[_Found]:
    for found in _CARD.finditer(text, start, end):
        digits = found[0].replace(" ", "").replace("-", "")
        if _ISSUERS.fullmatch(digits) and _passes_luhn(digits):
            yield _Found(*found.span(), "<CARD>")


def _passes_luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1, annex B)."""
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(
        two - 9 * (two > 9) for two in doubled
    )
    return total % 10 == 0


def _ipv4(text: str, start: int, end: int) -> Iterator[_Found]:
    for found in _IPV4.finditer(text, start, end):
        parts = [int(part) for part in found[0].split(".")]
        is_small = max(parts) < _SMALL or parts[0] <= _OBJECT_ROOTS
        is_version = is_small or _VERSION.search(text, max(0, start - 12), found.start())
        if not is_version and _is_public(found[0]):
            yield _Found(*found.span(), "<IP_ADDRESS>")


def _phones(text: str, start: int, end: int, last: int) -> Iterator[_Found]:
    for found in _PHONE.finditer(text, start, end):
        digits = sum(map(str.isdecimal, found[0]))
        is_amount = found[0].endswith(" 000")
        if found.start() < last and digits in _DIGITS_OF_PHONE and not is_amount:
            yield _Found(*found.span(), "<PHONE>")
