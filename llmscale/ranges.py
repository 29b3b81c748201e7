"""The numbers that a setting or an option takes: finite, and within limits that are declared once."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

from llmscale.errors import InputError

_SHOWN = 40
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True)
class Range:
    """The numbers that a setting takes: finite, from `least` to `most`; without `least` itself if they are `above`."""

    least: float
    most: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        reached = value > self.least if self.above else value >= self.least
        return reached and value <= self.most

    def __str__(self) -> str:
        return f"{'above' if self.above else 'at least'} {self.least:,g} and at most {_plainly(self.most)}"

    def check(self, name: str, value: float | None) -> None:
        """Raise InputError if `value`, that of the setting `name`, is not in the range."""
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{name} is {shortened(repr(value))}, which is no number", f"give a number that is {self}")
        if value not in self:
            raise InputError(f"{name} is {shortened(value)}, which is out of range", f"give a number that is {self}")


def check_ranges(settings: Any, where: str = "") -> None:
    """Raise InputError for the first field of `settings` that lies outside what its `ranges()` allow."""
    for name, allowed in settings.ranges().items():
        allowed.check(f"{name}{where}", getattr(settings, name))


def shortened(value: object) -> str:
    """`value` for a message, cut if it is long."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _plainly(number: float) -> str:
    """A limit as people read it: 1,000,000, but 1e+12."""
    return f"{number:,.0f}" if number == int(number) and number <= 1e9 else f"{number:g}"
