"""The values that a comparison of recipes is made of: a multiplier of compute, and a crossing."""

import math
from dataclasses import dataclass
from typing import Any

from llmscale.explain import digits

NO_END = "no end"


@dataclass(frozen=True)
class Multiplier:
    """`recipe` needs `value` times the compute of `baseline` to reach the loss that this reaches
    with `flops`; `low` and `high` are the ends of the interval. `beyond` says how many times beyond
    the runs that is, 1 inside; `best` how likely no recipe has a lower loss there."""

    recipe: str
    baseline: str
    flops: float
    value: float
    low: float
    high: float
    level: float
    beyond: float
    best: float

    @property
    def saving(self) -> float:
        """The baseline's compute over the recipe's: 1.41 saves 29%."""
        return _inverse(self.value)

    @property
    def saving_interval(self) -> tuple[float, float]:
        """The ends of the interval of the saving; 0 if no compute reaches the loss."""
        return _inverse(self.high), _inverse(self.low)

    @property
    def includes_one(self) -> bool:
        """Whether the recipes may be alike there."""
        return self.low <= 1.0 <= self.high

    @property
    def shown(self) -> str:
        """`0.71 [0.66, 0.77]`."""
        return _with_ends(self.value, self.low, self.high)

    @property
    def saving_shown(self) -> str:
        """`1.41x [1.30, 1.52]`."""
        low, high = self.saving_interval
        value, *ends = _with_ends(self.saving, low, high).split(" ", 1)
        return " ".join([f"{value}x", *ends])

    @property
    def sentence(self) -> str:
        """`muon needs 0.71 [0.66, 0.77] of adamw's compute at 1e20 FLOPs`."""
        if math.isinf(self.value):
            return (
                f"{self.recipe} does not reach {possessive(self.baseline)} loss at "
                f"{self.flops:.3g} FLOPs with any compute"
            )
        of = "of" if self.value < 1 else "times"
        return (
            f"{self.recipe} needs {self.shown} {of} {possessive(self.baseline)} compute at "
            f"{self.flops:.3g} FLOPs"
        )

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        low, high = self.saving_interval
        return {
            "recipe": self.recipe,
            "baseline": self.baseline,
            "flops": self.flops,
            "multiplier": self.value,
            "low": self.low,
            "high": self.high,
            "saving": self.saving,
            "saving_low": low,
            "saving_high": high,
            "level": self.level,
            "beyond": self.beyond,
            "includes_one": self.includes_one,
            "best": self.best,
        }


@dataclass(frozen=True)
class Crossing:
    """Whether the laws of `recipe` and `baseline` cross. `inside` is how likely they do within the
    compute that both were measured at, `beyond` within `reach` times that; `flops` with its ends is
    where, if they do. `claimed` is the chance from which that is said."""

    recipe: str
    baseline: str
    inside: float
    beyond: float
    reach: float
    claimed: float
    flops: float
    low: float
    high: float

    @property
    def claimed_at_all(self) -> bool:
        """Whether the draws support that there is one."""
        return self.inside + self.beyond >= self.claimed

    @property
    def shown(self) -> str:
        """What the draws support."""
        rare = 1.0 - self.claimed
        where = f"{self.flops:.2g} FLOPs [{self.low:.2g}, {self.high:.2g}]"
        if self.inside >= self.claimed:
            return f"the laws cross within the runs, at {where}"
        if self.claimed_at_all:
            return f"the laws cross at {where}"
        far = f"{self.reach:g} times the runs"
        if self.inside <= rare and self.beyond <= rare:
            return f"no crossing within the runs, or up to {far}"
        inside, beyond = digits.percent(self.inside), digits.percent(self.beyond)
        return (
            f"uncertain: the chance of one is {inside} within the runs, and {beyond} beyond them, "
            f"up to {self.reach:g} times"
        )

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return {
            "recipe": self.recipe,
            "baseline": self.baseline,
            "chance_within_runs": self.inside,
            "chance_beyond": self.beyond,
            "reach": self.reach,
            "flops": self.flops,
            "low": self.low,
            "high": self.high,
            "said": self.shown,
        }


def possessive(name: str) -> str:
    """`adamw's`, `cosmos'`."""
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _inverse(value: float) -> float:
    return 1.0 / value if value > 0 else math.inf


_WIDE = 10.0
"""Ends that are so many times as large as each other have digits of their own each: near the
floors of laws intervals of compute go over many powers of ten."""
_SHORT, _LONG = 1e3, 1e6
"""Between these a number is written without its power of ten."""


def _with_ends(value: float, low: float, high: float) -> str:
    if low == high < math.inf:
        return digits.with_ends(value, low, high)
    if low > 0 and high < _WIDE * low:
        return digits.with_drawn_ends(value, low, high, mark=1.0)
    return f"{_plain(value)} [{_plain(low)}, {_plain(high)}]"


def _plain(value: float) -> str:
    """To three digits: `0.0007`, `1340`."""
    if math.isinf(value):
        return NO_END
    shown = f"{value:.3g}"
    return f"{float(shown):.0f}" if _SHORT <= value < _LONG else shown
