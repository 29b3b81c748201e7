"""How unequal documents and their origins are: lengths, shares, and what two numbers say of them.
In bounded memory, however many documents there are."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import numpy as np

_BINS_A_DOUBLING: Final = 32
"""Lengths are kept to about 2%: a document of each length would take memory without end."""
_BINS: Final = 48 * _BINS_A_DOUBLING
QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_ORIGINS: Final = 100_000
OTHERS: Final = "(others)"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Shares:
    """How much of the text has each of several names, the largest first."""

    bytes: Mapping[str, int]
    documents: Mapping[str, int]

    @property
    def gini(self) -> float:
        """0 if all have as much, near 1 if one has all (Gini 1912)."""
        return gini(np.array(list(self.bytes.values()), float))

    @property
    def effective_number(self) -> float:
        """As many names with equal shares would be as uncertain: the exponential of the entropy
        (Hill 1973, order 1)."""
        values = np.array([count for count in self.bytes.values() if count], float)
        share = values / max(values.sum(), 1)
        return math.exp(-float(np.sum(share * np.log(share)))) if len(share) else 0.0


@dataclass(frozen=True)
class LengthBin:
    """Documents of `least` to below `most` bytes or tokens."""

    least: int
    most: int
    documents: int


@dataclass(frozen=True)
class LengthSpread:
    """How long documents are."""

    unit: str
    """`bytes` or `tokens`."""
    documents: int
    shortest: int
    longest: int
    mean: float
    quantiles: Mapping[str, int]
    """To about 2%."""
    gini: float
    histogram: tuple[LengthBin, ...]
    """By doublings."""


class Lengths:
    """Counts documents by their lengths."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._counts = np.zeros(_BINS, np.int64)
        self._total = 0
        self._shortest, self._longest = 0, 0

    def add(self, lengths: np.ndarray) -> None:
        """Count documents of these lengths."""
        if not len(lengths):
            return
        known = np.maximum(lengths, 1)
        bins = np.floor(np.log2(known) * _BINS_A_DOUBLING).astype(np.int64)
        self._counts += np.bincount(bins, minlength=_BINS)
        least = int(lengths.min())
        self._shortest = min(self._shortest, least) if self._total else least
        self._longest = max(self._longest, int(lengths.max()))
        self._total += int(lengths.sum())

    @property
    def documents(self) -> int:
        return int(self._counts.sum())

    def spread(self) -> LengthSpread:
        """What they are like."""
        documents = self.documents
        middles = 2 ** ((np.arange(_BINS) + 0.5) / _BINS_A_DOUBLING)
        reached = np.cumsum(self._counts)
        quantiles = {}
        for share in QUANTILES:
            place = int(np.searchsorted(reached, max(1, share * documents)))
            known = round(float(middles[min(place, _BINS - 1)]))
            quantiles[f"{share:g}"] = min(max(known, self._shortest), self._longest)
        return LengthSpread(
            self._unit,
            documents,
            self._shortest,
            self._longest,
            self._total / max(documents, 1),
            quantiles,
            gini(middles, self._counts),
            tuple(self._doublings()),
        )

    def _doublings(self) -> Iterable[LengthBin]:
        doublings = self._counts.reshape(-1, _BINS_A_DOUBLING).sum(axis=1)
        used = np.flatnonzero(doublings)
        for place in range(used[0], used[-1] + 1) if len(used) else ():
            yield LengthBin(1 << place, 1 << (place + 1), int(doublings[place]))


class Origins:
    """Counts documents and their bytes by name; those of names past MOST_ORIGINS together."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._documents: dict[str, int] = {}

    def add(self, name: str, size: int) -> None:
        """Count a document of `size` bytes."""
        if name not in self._bytes and len(self._bytes) >= MOST_ORIGINS:
            name = OTHERS
        self._bytes[name] = self._bytes.get(name, 0) + size
        self._documents[name] = self._documents.get(name, 0) + 1

    def shares(self) -> Shares:
        """The shares found."""
        names = sorted(self._bytes, key=lambda name: (-self._bytes[name], name))
        sizes = {name: self._bytes[name] for name in names}
        return Shares(sizes, {name: self._documents[name] for name in names})


def gini(values: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Gini's coefficient of values, each there `counts` times: 0 if all are equal."""
    times = np.ones(len(values)) if counts is None else counts.astype(float)
    order = np.argsort(values, kind="stable")
    values, times = values[order], times[order]
    total = float(np.sum(values * times))
    if total == 0:
        return 0.0
    # Twice the area under the curve of Lorenz, whose steps are straight.
    reached = np.cumsum(values * times) / total
    before = np.concatenate([[0.0], reached[:-1]])
    return 1 - float(np.sum((reached + before) * times)) / float(times.sum())


def origin_of(place: str) -> str:
    """Where a document comes from, by its address: the host of a URL, the first two parts of a
    path, else what it says."""
    if _URL.match(place):
        try:
            host = urlsplit(place).hostname
        except ValueError:
            host = None
        return (host or place).removeprefix("www.")
    parts = place.split("/")
    return "/".join(parts[: min(2, len(parts) - 1)]) if len(parts) > 1 else place
