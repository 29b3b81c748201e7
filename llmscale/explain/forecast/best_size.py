"""The best size of a budget by a law, next to what the budgets of the table themselves say of it.

The valley of a budget is flat: a law that is right about losses may be wrong about the size of the
lowest, and the bootstrap of the law knows nothing of that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmscale.errors import Note
from llmscale.explain.estimation.lowest_points import LowestPoints, errors_in_half
from llmscale.notes.predicting import OPTIMUM_DISPUTED
from llmscale.quantity import format_count

Ends = tuple[float, float]
DRIFT = 0.12
"""Standard error of ln N* that the law and the power law through lowest points share, per unit of
g(h) (see widths.py). Chosen so that 90% intervals of `anchored` held 92% of the lowest points of
higher budgets, as a mean over three families of public tables; on three others they held 94%."""
_HELD = {"anchored": "93% (without that 56%)", "chinchilla": "88% (without that 38%)"}
"""What 90% intervals of N* held of the lowest points of higher budgets: means over six families."""


@dataclass(frozen=True)
class SaidByBudgets:
    """What the lowest points of `budgets` budgets say of the best size at one budget: N by the
    power law through them, with its interval, and N of the nearest of them.

    `apart` and `nearest_apart` are how much larger than the law's these two are, in ln N; the
    second is 0 if the nearest lowest point is within its own error of the law's."""

    budgets: int
    params: float
    interval: Ends
    apart: float
    nearest_flops: float
    nearest_params: float
    nearest_apart: float

    def to_json(self) -> dict[str, Any]:
        return {
            "budgets": self.budgets,
            "params": self.params,
            "interval": list(self.interval) if np.isfinite(self.interval).all() else None,
            "nearest": {"flops": self.nearest_flops, "params": self.nearest_params},
        }

    @property
    def below(self) -> float:
        """How far below the law's N* the interval has to reach, in ln N."""
        return max(-self.apart, -self.nearest_apart, 0.0)

    @property
    def above(self) -> float:
        """How far above."""
        return max(self.apart, self.nearest_apart, 0.0)

    def __str__(self) -> str:
        ends = ""
        if np.isfinite(self.interval).all():
            ends = f" [{format_count(self.interval[0])}, {format_count(self.interval[1])}]"
        return (
            f"the lowest points of {self.budgets} budgets say {format_count(self.params)}{ends} "
            f"(that of {self.nearest_flops:.3g} FLOPs is {format_count(self.nearest_params)})"
        )


@dataclass(frozen=True)
class Optimum:
    """N (params) and D (tokens) of the lowest loss at a budget of `flops`.

    The intervals of params and tokens are confidence intervals: where the optimum lies, by the
    bootstrap of the law (`law_params` is this part of it), by what the budgets of the table say
    themselves, and by what N* of public tables did beyond the runs. That of `loss` is a prediction
    interval: where a new run trained there would fall, with its own noise, and with the misfit
    that grows beyond the runs. `law` is the confidence interval of the law's lowest loss itself,
    without either. All are left out if the fit has no refits. `said` is a sentence on N*;
    `isoflop` what the budgets themselves say of it, None if they say nothing."""

    flops: float
    params: float
    tokens: float
    loss: float
    intervals: Mapping[str, Ends] = field(default_factory=dict)
    said: str = ""
    isoflop: SaidByBudgets | None = None
    notes: tuple[Note, ...] = ()


def asked_at(points: LowestPoints, flops: float, law: Any, level: float) -> SaidByBudgets:
    """What the budgets say at C FLOPs, next to a law."""
    best, *refits = points.line(flops)
    ends = (np.nan, np.nan)
    if refits:
        tail = 0.5 * (1.0 - level)
        low, high = np.exp(np.quantile(refits, [tail, 1.0 - tail]))
        ends = (float(low), float(high))
    near = points.nearest(flops)
    nearest_flops = float(np.exp(points.log_flops_K[near]))
    off = float(points.log_params_K[near] - np.log(law.optimal(nearest_flops)[0]))
    # A lowest point whose error is not known is no reason to widen.
    clear = abs(off) > errors_in_half(level) * points.error_K[near]
    return SaidByBudgets(
        budgets=len(points.log_flops_K),
        params=float(np.exp(best)),
        interval=ends,
        apart=float(best - np.log(law.optimal(flops)[0])),
        nearest_flops=nearest_flops,
        nearest_params=float(np.exp(points.log_params_K[near])),
        nearest_apart=off if clear else 0.0,
    )


def widened_sizes(
    best: Optimum, growth: float, level: float, said: SaidByBudgets | None
) -> dict[str, Ends]:
    """The intervals of params and tokens by the law alone, with what the budgets say added in
    quadrature on its side, and what N* of public tables did at this g(h)."""
    drift = DRIFT * errors_in_half(level) * growth
    smaller = np.hypot(said.below if said else 0.0, drift)
    larger = np.hypot(said.above if said else 0.0, drift)
    # 6ND = C: what makes the size larger makes the tokens fewer.
    return {
        "params": _widened(best.params, best.intervals["params"], smaller, larger),
        "tokens": _widened(best.tokens, best.intervals["tokens"], larger, smaller),
    }


def _widened(best: float, ends: Ends, below: float, above: float) -> Ends:
    low, high = ends
    down = np.hypot(max(np.log(best / low), 0.0), below)
    up = np.hypot(max(np.log(high / best), 0.0), above)
    return min(low, float(best * np.exp(-down))), max(high, float(best * np.exp(up)))


def sentence(best: Optimum, law: str, said: SaidByBudgets | None) -> str:
    """What both say of N*, and what such intervals held; or why nothing tests them here."""
    if said is None and not best.intervals:
        return ""
    if said is None:
        return (
            "not tested on this table (no 3 budgets are known that bracket an optimum); its "
            "interval is widened as public tables needed"
        )
    own = _with_ends(best.params, best.intervals.get("law_params"))
    if not best.intervals:
        return f"{said}, {law} {own}"
    by = law if law in _HELD else "chinchilla"
    return (
        f"{said}, {law} {own}; 90% intervals that hold both, by {by}, held {_HELD[by]} of the "
        "lowest points of higher budgets of public tables"
    )


def dispute(best: Optimum, law: str, said: SaidByBudgets | None, level: float) -> tuple[Note, ...]:
    """A note if the budgets contradict the law, by more than both leave open."""
    ends = best.intervals.get("law_params")
    if said is None or ends is None or not np.isfinite(said.interval).all():
        return ()
    own = ends[0 if said.apart < 0 else 1]
    other = said.interval[1 if said.apart < 0 else 0]
    left_open = np.hypot(np.log(own / best.params), np.log(other / said.params))
    outside = not ends[0] <= said.params <= ends[1]
    if not (outside and abs(said.apart) > max(left_open, np.log(OPTIMUM_DISPUTED.limit))):
        return ()
    message = (
        f"at C = {best.flops:.3g} {law} puts N* at {_with_ends(best.params, ends)} "
        f"({100 * level:g}%), and {said}: the interval of N* was widened to hold both"
    )
    return (OPTIMUM_DISPUTED.note(message),)


def _with_ends(best: float, ends: Ends | None) -> str:
    if ends is None:
        return format_count(best)
    return f"{format_count(best)} [{format_count(ends[0])}, {format_count(ends[1])}]"
