"""How wide a forecast is, how wide candidate runs would leave it, by one law or by several."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from llmscale.explain.laws import Array


class Prospect(Protocol):
    """A width, as things stand."""

    @property
    def width(self) -> float: ...

    @property
    def widths_with(self) -> Array:
        """What each of K candidates would make of it, one at a time."""
        ...

    def after(self, run: int) -> Self:
        """The prospect once this candidate was measured."""
        ...


P = TypeVar("P", bound=Prospect)


@dataclass(frozen=True)
class Prospects(Generic[P]):
    """The prospects by several laws, or by several fits of one, each with its share, and how wide
    each was at first.

    Which law holds, a forecast does not weigh: its interval is that of the law that it is made
    with. So a batch is wanted that narrows the interval of every law, in the mean of the shares of
    its width that are left."""

    parts: tuple[tuple[float, P], ...]
    at_first: tuple[float, ...]

    @classmethod
    def of(cls, parts: Iterable[tuple[float, P]]) -> Self:
        """As things stand."""
        known = tuple(parts)
        return cls(known, tuple(one.width for _, one in known))

    @property
    def first(self) -> P:
        """That of the law that the forecast is made with."""
        return self.parts[0][1]

    @cached_property
    def width(self) -> float:
        """What is left of the width, 1 at first."""
        return float(
            sum(
                share * one.width / first
                for (share, one), first in zip(self.parts, self.at_first, strict=True)
            )
        )

    @cached_property
    def widths_with(self) -> Array:
        """What is left with each candidate, one at a time: (K,)."""
        left = [
            share * one.widths_with / first
            for (share, one), first in zip(self.parts, self.at_first, strict=True)
        ]
        return np.sum(left, axis=0)

    def after(self, run: int) -> Self:
        """The prospects once this candidate was measured."""
        return replace(self, parts=tuple((share, one.after(run)) for share, one in self.parts))
