"""Whether learning rates were ever tried at a size like the proposed ones, what one that is off
costs there, and short runs that try it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmscale.explain import digits
from llmscale.explain.design.proposal import ProposedRun
from llmscale.explain.diagnostics.mixing import searched
from llmscale.explain.laws import Array
from llmscale.quantity import format_count

SCALES = (0.5, 1.0, 2.0)
"""Of the recipe's learning rate, the rates that are tried."""
_LIKE = 2.0
"""A size this many times larger than one at which rates were tried is not like it any more."""
_USUAL_LOSS = 0.007
"""Share of the loss that a rate costs that is off by a factor of 2: the median of 284 searches of
Li et al. (2025, "Step Law"), of which 80% lie from 0.2% to 1.9%."""
_LEAST_RATES = 3
_DIGITS = 2
"""Significant digits of the tokens of a trial."""


@dataclass(frozen=True)
class Rates:
    """What a table says of learning rates: the largest N at which several were tried, if any was,
    and what share of the loss one costs that is off by a factor of 2."""

    largest: float | None
    cost: float
    is_measured: bool
    """Whether this table tells the cost."""

    def are_checked(self, params: float) -> bool:
        """Whether rates were tried at a size like this one."""
        return self.largest is not None and params <= _LIKE * self.largest

    def said(self, size: str) -> str:
        """What is not known of the rate at a size, and what that may cost."""
        above = "" if self.largest is None else f" above N = {format_count(self.largest)}"
        told = "this table's searches" if self.is_measured else "the searches of Li et al. 2025"
        return (
            f"no size of this table{above} was trained at several, and {size} is proposed. One "
            f"that is off by 2x costs about {digits.share(self.cost)} of the loss (by {told}), "
            "and no interval knows of that"
        )


@dataclass(frozen=True)
class Trials:
    """Short runs of one size, at `scales` times the recipe's learning rate; `flops` is what all of
    them cost, and `rates` why they are worth it."""

    size: str
    params: float
    tokens: float
    scales: tuple[float, ...]
    flops: float
    rates: Rates

    @property
    def reason(self) -> str:
        """Why they are made."""
        return "tries the learning rate, which was not tried at this size"

    def said(self, budget: float) -> str:
        """What they are, and how the runs are fitted then."""
        scales = ", ".join(f"{scale:g}x" for scale in self.scales)
        share = digits.share(self.flops / budget)
        return (
            f"{self.rates.said(self.size)}. To try it: {self.size} at "
            f"{format_count(self.tokens)} tokens with {scales} the recipe's rate, "
            f"{self.flops:.2g} FLOPs ({share} of the budget). Make these first: if 1x is not the "
            "best, scale or tune the recipe's rate. Then fit with --best-of params,tokens"
        )

    def to_json(self) -> dict[str, Any]:
        """As `next --json` has them."""
        fields = {name: getattr(self, name) for name in ("size", "params", "tokens", "flops")}
        return {**fields, "lr_scales": list(self.scales), "loss_if_off_by_2x": self.rates.cost}


def rates_of(frame: pd.DataFrame) -> Rates | None:
    """What the table says of learning rates; None if it has none."""
    if "lr" not in frame or not frame["lr"].notna().any():
        return None
    points = searched(frame)
    params, lr, loss = (frame[name].to_numpy(dtype=float) for name in ("params", "lr", "loss"))
    largest = max((float(params[rows].max()) for rows in points), default=None)
    bends = [bend for rows in points if (bend := _bend(lr[rows], loss[rows])) is not None]
    cost = math.expm1(float(np.median(bends))) if bends else _USUAL_LOSS
    return Rates(largest, cost, bool(bends))


def trials_of(
    runs: Sequence[ProposedRun], ratio: float, rates: Rates | None, cooldown: float | None
) -> Trials | None:
    """Trials of the largest proposed size at so few tokens a parameter; None if its rate is known,
    or nothing is proposed. With a `cooldown` the one at the recipe's rate branches off the longer
    run, and costs only that share."""
    largest = max(runs, key=lambda run: run.params, default=None)
    rates = rates or Rates(None, _USUAL_LOSS, is_measured=False)
    if largest is None or rates.are_checked(largest.params):
        return None
    shortest = min(run.tokens for run in runs if run.size == largest.size)
    tokens = min(float(f"{ratio * largest.params:.{_DIGITS}g}"), shortest)
    has_plain = tokens == shortest
    scales = tuple(scale for scale in SCALES if not (has_plain and scale == 1.0))
    per_token = largest.own_flops / largest.tokens
    each = per_token * tokens
    plain = 1.0
    if cooldown is not None and largest.kind != "repeat":
        # Of a trunk that is there already the first tokens are no more to branch off.
        saved = (largest.own_flops - largest.flops) / per_token
        plain = cooldown if (1.0 - cooldown) * tokens >= saved else 1.0
    flops = each * sum(plain if scale == 1.0 else 1.0 for scale in scales)
    return Trials(largest.size, largest.params, tokens, scales, flops, rates)


def _bend(lr: Array, loss: Array) -> float | None:
    """Half the second derivative of ln L in log2 of the rate, about the best one: what a factor of
    2 costs. None if the best has no worse one on both sides."""
    of_rate = pd.Series(loss).groupby(lr).min()
    log_rate, log_loss = np.log2(of_rate.index.to_numpy()), np.log(of_rate.to_numpy())
    best = int(np.argmin(log_loss))
    if len(of_rate) < _LEAST_RATES or best in (0, len(of_rate) - 1):
        return None
    near = slice(best - 1, best + 2)
    return float(np.polyfit(log_rate[near], log_loss[near], 2)[0])
