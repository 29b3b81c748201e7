"""Sizes and counts as people write them: `30k`, `1M`, `1.5B`, `2e9`, and `20x` for tokens per
parameter.
"""

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from llmscale.errors import InputError
from llmscale.errors.printable import begun

T = TypeVar("T")

SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
MOST = 10**36
"""Counts are at most this: a billion times the FLOPs of any run that there is, and far from what a
float holds.
"""
MOST_PER_PARAM = 1e9
_NUMBER = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?)(?P<suffix>[a-z]*)", re.IGNORECASE
)
_EXAMPLES = "write it like 30k, 1M, 1.5B or 2e9"
_BYTES = re.compile(
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?) ?(?P<prefix>[kKMGT]?)(?P<binary>i?)B"
)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class TokenBudget:
    """Training tokens: a fixed count, or a count per parameter (`20x`)."""

    amount: float
    per_param: bool = False

    def tokens(self, params: int) -> int:
        """Tokens for a model of `params` parameters (non-embedding plus output projection)."""
        return round(self.amount * params) if self.per_param else round(self.amount)

    def __str__(self) -> str:
        return f"{self.amount:g}x" if self.per_param else format_count(self.amount)

    @property
    def stated(self) -> str | int:
        """For a file that is read again: the very same budget."""
        return str(self) if parse_budget(str(self)) == self else round(self.amount)


def parse_count(text: str, what: str = "count") -> int:
    """The positive whole number that `text` names: `1.5M` is 1_500_000. Raises InputError."""
    return int(_named(text, what, whole=True))


def parse_amount(text: str, what: str = "amount") -> float:
    """The positive number that `text` names, which need not be whole, as of hours or FLOPs: `0.5`,
    `2.5k`. Raises InputError."""
    return float(_named(text, what, whole=False))


def _named(text: str, what: str, *, whole: bool) -> Decimal:
    match = _NUMBER.fullmatch(text.strip().replace("_", ""))
    scale = SUFFIXES.get(match["suffix"].lower()) if match else None
    if match is None or scale is None:
        has_currency = any(unicodedata.category(letter) == "Sc" for letter in text)
        fix = "write it without the currency, like 50k" if has_currency else _EXAMPLES
        raise InputError(f"{what} {begun(text.strip())!r} is not a number", fix)
    exact = Decimal(match["number"]) * scale
    count = exact.to_integral_value() if whole else exact
    if count > MOST:
        raise InputError(
            f"{what} {begun(text.strip())!r} is too large", f"give a number of at most {MOST:.0e}"
        )
    if count <= 0:
        raise InputError(f"{what} {begun(text.strip())!r} is not above zero", _EXAMPLES)
    return count


def parse_budget(text: str) -> TokenBudget:
    """A token budget: `100M` tokens, or `20x`, 20 tokens per parameter. Raises InputError."""
    stripped = text.strip()
    if not stripped.lower().endswith("x"):
        return TokenBudget(parse_count(stripped, "token budget"))
    try:
        amount = float(stripped[:-1])
    except ValueError:
        amount = math.nan
    if not 0 < amount <= MOST_PER_PARAM:
        raise InputError(
            f"token budget {begun(stripped)!r} is not a positive number of tokens per parameter",
            "write it like 100M (tokens) or 20x (tokens per parameter, at most "
            f"{MOST_PER_PARAM:g})",
        )
    return TokenBudget(amount, per_param=True)


def parse_bytes(text: str, what: str = "number of bytes") -> float:
    """The bytes that `text` names: `24GB` is 24e9, as memory is sold, and `24GiB` 24 x 2^30. Raises
    InputError."""
    match = _BYTES.fullmatch(text.strip().replace("_", ""))
    if match is None:
        raise InputError(
            f"{what} {begun(text.strip())!r} is no number of bytes", "write it like 24GB or 24GiB"
        )
    base = 1024 if match["binary"] else 1000
    count = float(match["number"]) * base ** _POWERS[match["prefix"].lower()]
    if not 0 < count <= MOST:
        raise InputError(
            f"{what} {begun(text.strip())!r} is not above zero and at most {MOST:.0e}",
            "write it like 24GB or 24GiB",
        )
    return count


def parse_list(text: str, parse: Callable[[str], T], what: str) -> tuple[T, ...]:
    """The comma-separated items of `text`, in the order given.

    Raises InputError on an empty list, and if two items are the same."""
    words = [item.strip() for item in text.split(",") if item.strip()]
    if not words:
        raise InputError(
            f"the list of {what} is empty", "separate the items by commas, as in 1M,10M,100M"
        )
    items: dict[T, str] = {}
    for word in words:
        item = parse(word)
        if item in items:
            both = f"{items[item]} and {word}" if items[item] != word else f"{word} twice"
            raise InputError(f"the list of {what} names {both}", "name each once")
        items[item] = word
    return tuple(items)


def format_count(count: float) -> str:
    """`count` to three significant digits with a suffix: 1_500_000 is `1.5M`."""
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= 0.9995 * scale:
            scaled = float(f"{count / scale:.3g}")
            return f"{scaled:g}{suffix}" if scaled < 1e4 else f"{count:.3g}"
    return f"{count:.3g}"


def format_seconds(seconds: float) -> str:
    """A duration for people: `45 s`, `3.2 min`, `5.1 h`, `2.4 days`, `9.5 years`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    for unit, length, limit in (("min", 60, 90), ("h", 3600, 48), ("days", 86400, 730)):
        if seconds < limit * length:
            return f"{seconds / length:.1f} {unit}"
    years = seconds / (365.25 * 86400)
    return f"{years:.1f} years" if years < 100 else f"{format_plainly(years)} years"


def format_plainly(value: float) -> str:
    """Three significant digits, without a power of ten as far as that is readable: `39,100`."""
    shown = f"{value:.3g}"
    return f"{float(shown):,.0f}" if 1000 <= value < 1e9 else shown


def format_bytes(count: float) -> str:
    """A number of bytes for people, in powers of 1024: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def format_memory(count: float) -> str:
    """A number of bytes in powers of 1000, as memory is sold: `24 GB`, `35 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:,.0f} GB" if count >= 100 else f"{count:.3g} GB"
