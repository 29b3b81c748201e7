"""Why a forecast is made with the law that it is made with, and what the others would have said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.errors import both, counted
from llmscale.explain import digits
from llmscale.explain.estimation.relative import size
from llmscale.explain.laws import Array
from llmscale.quantity import format_count
from llmscale.runs.json_values import plain

LEAST_TO_SAY = 0.0005
"""Forecasts that differ by less than this share of the loss are called the same."""
_MORE = "more: --law all"


@dataclass(frozen=True)
class Contender:
    """A law that could have been taken: its mean error over `budgets` held-out budgets of the table
    (a share of the loss, NaN if there were none), its forecasts (one a point), and what it says of
    the floor, of a in N* ∝ C^a and of N* (one a point, NaN if no budget was asked for).
    `as_good` says that it forecast as well as the best."""

    law: str
    error: float
    budgets: int
    as_good: bool
    loss: Array
    values: Mapping[str, float]
    best_params: Array

    @property
    def error_text(self) -> str:
        """`0.53%`; `-` if there was nothing to test it on."""
        if not self.budgets:
            return "-"
        decimals = max(0, min(2, 1 - math.floor(math.log10(max(100 * self.error, 1e-9)))))
        return f"{self.error:.{decimals}%}"

    def to_json(self) -> dict[str, Any]:
        return {
            "law": self.law,
            "error": plain(self.error),
            "as_good": self.as_good,
            "loss": self.loss.tolist(),
            **{name: plain(value) for name, value in self.values.items()},
        }


@dataclass(frozen=True)
class Chosen:
    """The law that forecasts are made with, first, and the others in the order of their errors on
    the table. Runs that lie `excess` (in ln L) above the best of their budget, as the run that was
    asked for, counted most in these errors."""

    contenders: tuple[Contender, ...]
    excess: float = 0.0
    left_out: tuple[tuple[str, str], ...] = ()
    """Laws that could not be asked, and why."""
    every: bool = False
    """Whether all laws in N and D were tried, and not only the usual ones."""

    @property
    def law(self) -> str:
        return self.contenders[0].law

    @property
    def budgets(self) -> int:
        return self.contenders[0].budgets

    @property
    def spread(self) -> dict[str, Any]:
        """Lowest and highest of what laws that forecast equally well say: of the loss and N* at
        each point, of the floor E and of a."""
        good = [one for one in self.contenders if one.as_good]
        found: dict[str, Any] = {"laws": [one.law for one in good]}
        losses = np.stack([one.loss for one in good])
        found["loss"] = _ends(losses)
        sizes = np.stack([one.best_params for one in good])
        if np.isfinite(sizes).any():
            found["params"] = _ends(sizes)
        for name in ("E", "a"):
            values = [one.values[name] for one in good if name in one.values]
            if values:
                found[name] = [min(values), max(values)]
        return found

    @property
    def reason(self) -> str:
        """One sentence: why this law, and how far the next one is from it."""
        first, *others = self.contenders
        if not others:
            return self._only
        if not first.budgets:
            return f"{first.law}, which erred least on public tables; this one has too few budgets"
        error = f"{first.error_text} over {counted(first.budgets, 'budget')}"
        of_two = "" if self.every else f" of the two tried ({_MORE})"
        if others[0].error_text == first.error_text and others[0].error < first.error:
            return self._alike(error)
        how = f"{first.law}, which erred least{of_two} {self._asked}: {error}"
        if any(one.error < first.error for one in others):
            least = f"and by the least{of_two} if public tables count, too"
            how = f"{first.law}, off by {error} {self._asked}, {least}"
        second = others[0]
        by = second.error_text if second.budgets else "which it was too short to test"
        apart = _apart(first, second)
        if second.error < first.error:
            return f"{how}; {second.law} erred less here, {by}, and its forecast {apart}"
        return f"{how}; next {second.law}, {by}, whose forecast {apart}"

    def _alike(self, error: str) -> str:
        """Of a law whose error is written as that of the next, which is less by a hair."""
        first, second, *_ = self.contenders
        more = "" if self.every else f" ({_MORE})"
        return (
            f"{first.law}, which erred less than {second.law} on public tables; here they erred "
            f"alike, by {error} {self._asked}; the forecast of {second.law} "
            f"{_apart(first, second)}{more}"
        )

    @property
    def _only(self) -> str:
        """Of a law that no other stands beside."""
        first = self.contenders[0]
        which = "the only law" if self.every else f"the only one of the two usual laws ({_MORE})"
        error = "this table has too few budgets to test it"
        if first.budgets:
            error = f"off by {first.error_text} over {counted(first.budgets, 'budget')} "
            error += self._asked
        return f"{first.law}, {which} that can forecast this; {error}"

    @property
    def _asked(self) -> str:
        """What errors are of."""
        asked = "when lower budgets of this table were asked for higher ones"
        if self.excess < LEAST_TO_SAY:
            return asked
        off = f"{size(self.excess, 1)} above the best of their budget"
        return f"{asked} (runs {off}, as the one asked for, counting most)"

    @property
    def left_out_text(self) -> str:
        """The laws that could not be asked, each with the reason; empty if there is none."""
        return "; ".join(f"{law} ({reason})" for law, reason in self.left_out)

    @property
    def spread_text(self) -> str:
        """What laws that forecast equally well say; empty if there is but one."""
        spread = self.spread
        if len(spread["laws"]) < 2:
            return ""
        parts = []
        if "E" in spread:
            parts.append(_between("E", [f"{end:.3g}" for end in spread["E"]]))
        if "a" in spread:
            low, high = (f"C^{end:.2g}" for end in spread["a"])
            parts.append(f"N* ~ {low}" if low == high else f"N* from ~ {low} to ~ {high}")
        if "params" in spread:
            parts.append(_between("N*", [format_count(end) for end in spread["params"][-1]]))
        parts.append(_between("loss", [digits.number(end) for end in spread["loss"][-1]]))
        return f"{both(spread['laws'])} forecast equally well, and say {both(parts)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "law": self.law,
            "budgets": self.budgets,
            "excess": self.excess,
            "laws": [one.to_json() for one in self.contenders],
            "spread": plain(self.spread),
            "left_out": [{"law": law, "reason": reason} for law, reason in self.left_out],
        }


def _ends(rows: Array) -> list[list[float]]:
    """Lowest and highest of every column."""
    return [[float(low), float(high)] for low, high in zip(rows.min(0), rows.max(0), strict=True)]


def _between(name: str, ends: Sequence[str]) -> str:
    """`E from 1.5 to 1.6`, or `E = 1.5` if both ends are shown alike."""
    low, high = ends
    return f"{name} = {low}" if low == high else f"{name} from {low} to {high}"


def _apart(first: Contender, second: Contender) -> str:
    """`is the same`, or how much higher or lower, at the last point that was asked for."""
    share = float(second.loss[-1] / first.loss[-1] - 1)
    if abs(share) < LEAST_TO_SAY:
        return "is the same"
    return f"is {100 * abs(share):.2g}% {'higher' if share > 0 else 'lower'}"
