"""Several fits of one table, as a list: the first is the one to use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from llmscale.errors import first_lines
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.kept import to_json


@dataclass(frozen=True, eq=False)
class Fits(Sequence[Fit]):
    """Fits in the order in which the laws were named; by place, or by the name of the law."""

    fits: tuple[Fit, ...]

    @overload
    def __getitem__(self, place: int | str) -> Fit: ...

    @overload
    def __getitem__(self, place: slice) -> "Fits": ...

    def __getitem__(self, place: int | str | slice) -> "Fit | Fits":
        if isinstance(place, str):
            return {fit.law.name: fit for fit in self.fits}[place]
        if isinstance(place, slice):
            return Fits(self.fits[place])
        return self.fits[place]

    def __len__(self) -> int:
        return len(self.fits)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    def to_json(self) -> dict[str, Any]:
        """What `fit --json` prints."""
        return to_json(self.fits)

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        return "\n".join(map(str, self.fits))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return "".join(fit._repr_html_() for fit in self.fits)
