"""Why no more runs are proposed, or none at all, in words; and what would change that."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmscale.errors import InputError
from llmscale.explain import digits
from llmscale.explain.design.batch import WORTH, Bought
from llmscale.explain.design.candidates import Candidates, Size
from llmscale.explain.design.outlook import Outlooks
from llmscale.quantity import format_count

WORTH_IT = 0.03
"""A batch that is expected to narrow the interval by less than this share is not proposed."""
_SPENT = 1e-3
"""Less than this share of a budget is nothing that is left of it."""
_MOSTLY_NOISE = 0.9
"""Of the width of an interval: what a run varies by itself is nearly all of it."""


class NothingToBuy(InputError):  # noqa: N818 - no fault of a budget that is nearly spent
    """No run is within the budget and the limits."""


@dataclass(frozen=True)
class Wanted:
    """What may be bought: FLOPs altogether and of one run, how many runs, tokens a parameter, and
    N (None for the usual). `width` is the interval that is narrow enough, a difference of
    losses."""

    budget: float
    batch: int
    ratios: tuple[float, float]
    params: tuple[float, float] | None = None
    run_flops: float = math.inf
    width: float | None = None

    def params_weighed(self, target: float, least: float, most: float) -> tuple[float, float]:
        """The smallest and the largest N of a run: as asked for, or those of the target, of a table
        with N from `least` to `most`, and of what the budget buys."""
        if self.params is not None:
            return self.params
        bought = math.sqrt(self.budget / (6.0 * self.ratios[0]))
        return min(target, least), min(bought, max(target, most))

    def run_limit(self, target: float) -> tuple[float, str]:
        """FLOPs of one run, at most, if the target takes `target`, and what limits them."""
        return min(
            (self.budget, f"the budget of {self.budget:.3g} FLOPs"),
            (self.run_flops, f"--max-run-flops {self.run_flops:.3g}"),
            (target, f"the target's own {target:.3g} FLOPs"),
        )

    def batch_limit(self, target: float) -> float:
        """FLOPs of all runs, at most: of dearer ones a run of the target itself would tell its loss
        without a forecast, if it may be made and no width is asked for."""
        may_be_made = self.params is None and target <= self.run_flops
        return min(self.budget, target) if may_be_made and self.width is None else self.budget


def nothing_to_buy(wanted: Wanted, sizes: Sequence[Size], target: float) -> NothingToBuy:
    """The error of a budget within whose limits no run lies; `sizes` are those that could be
    trained, and `target` the FLOPs of a run of the target."""
    low = wanted.ratios[0]
    least, most = wanted.params or (0.0, math.inf)
    open_to = [size for size in sizes if least <= size.params <= most]
    if not open_to:
        return NothingToBuy(
            f"no size from {format_count(least)} to {format_count(most)} can be trained",
            _wider(sizes, least, most),
        )
    limit, name = wanted.run_limit(target)
    price, cheapest = min((size.flops_per_token * low * size.params, size.name) for size in open_to)
    if price <= limit:
        return NothingToBuy(
            f"no run of at most {limit:.3g} FLOPs lies within these limits",
            "widen --tokens-per-param or --sizes",
        )
    return NothingToBuy(
        f"the cheapest run within these limits, {cheapest} at {low:g} tokens a parameter, takes "
        f"{price:.2g} FLOPs, more than {name}",
        _cheaper(wanted, name),
    )


def _wider(sizes: Sequence[Size], least: float, most: float) -> str:
    """Which limits of N hold a size."""
    if not sizes:
        return "widen --sizes"
    middle = math.sqrt(least * most)
    nearest = min(sizes, key=lambda size: abs(math.log(size.params / middle)))
    ends = ",".join(format_count(float(f"{by * nearest.params:.2g}")) for by in (0.9, 1.1))
    return f"widen --sizes: --sizes {ends} holds one of N = {nearest.params:,.0f}"


def _cheaper(wanted: Wanted, limited_by: str) -> str:
    """What makes room for the cheapest run."""
    others = "allow fewer --tokens-per-param or smaller --sizes"
    if limited_by.startswith("the budget"):
        return f"give a larger --budget, or {others}"
    if limited_by.startswith("--max"):
        return f"give a larger --max-run-flops, or {others}"
    return f"{others}, or train the target"


@dataclass(frozen=True)
class Ending:
    """How a choice ended: what could be bought, what `bought` the best batch is, and `least`, the
    width that one run varies by itself. `now` is the width of the interval as things stand, and
    `then` after the batch if it is proposed; both are differences of losses."""

    wanted: Wanted
    target: float
    """FLOPs of a run of the target."""
    candidates: Candidates
    before: Outlooks
    bought: Sequence[Bought]
    now: float
    then: float
    least: float

    @property
    def gained(self) -> float:
        """The share of the interval that the best batch is expected to take away."""
        return 1.0 - self._after.width / self.before.width

    @property
    def is_worth_it(self) -> bool:
        """Whether the best batch is proposed."""
        return self.gained >= WORTH_IT

    @property
    def needs_budget(self) -> bool:
        """Whether it is the budget that keeps runs from being larger."""
        limit, _ = self.wanted.run_limit(self.target)
        return limit == self.wanted.budget

    def said(self, needed: float | None, most: float) -> str:
        """Why there are no more runs, or none. `needed` are the FLOPs that are expected to be
        enough, of `most` that were tried; None if none of these are."""
        return "; ".join(self._reasons(needed, most))

    @property
    def _after(self) -> Outlooks:
        return self.bought[-1].after if self.bought else self.before

    def _reasons(self, needed: float | None, most: float) -> Iterator[str]:
        width = self.wanted.width
        if width is not None:
            if self.now <= width:
                yield f"the interval is no wider than {width:g} as it is"
                return
            if self.is_worth_it and self.then <= width * (1 + 1e-9):
                yield f"the interval is expected to be no wider than {width:g} then"
                return
            yield self._too_wide(width, needed, most)
        yield self._no_more() if self.is_worth_it else self._none(needed)

    def _too_wide(self, width: float, needed: float | None, most: float) -> str:
        if width < self.least:
            return (
                f"no budget reaches a width of {width:g}: one run varies by {self.least:.2g} "
                "itself, from the low to the high end of its interval"
            )
        if needed is not None:
            return f"a width of {width:g} is expected to take {needed:.1e} FLOPs"
        return f"no budget up to {most:.1e} FLOPs is expected to reach a width of {width:g}"

    def _no_more(self) -> str:
        """Why a batch ends with its last run."""
        left = 1.0 - sum(one.cost for one in self.bought) / self.wanted.budget
        if len(self.bought) >= self.wanted.batch:
            more = f"; {digits.share(left)} of the budget is left" if left > _SPENT else ""
            return f"there are as many runs as --batch {self.wanted.batch} allows{more}"
        if left <= _SPENT:
            return "the budget is spent"
        if self.wanted.batch_limit(self.target) < self.wanted.budget:
            return (
                f"runs that take more together than the target's own {self.target:.3g} FLOPs are "
                f"not proposed; {digits.share(left)} of the budget stays unspent"
            )
        rest = f"the {digits.share(left)} of the budget that is left"
        prices = self.candidates.prices(tuple(one.run for one in self.bought))
        buys = prices <= left * self.wanted.budget
        if not buys.any():
            return f"{rest} buys no other run"
        gains = 1.0 - np.min(self._after.widths_with[buys]) / self._after.width
        limit, name = self.wanted.run_limit(self.target)
        if gains < WORTH and limit < left * self.wanted.budget:
            unspent = f"{digits.share(left)} of the budget stays unspent"
            narrows = f"would narrow the interval by {WORTH:.0%}"
            return f"no other run of at most {name} {narrows}; {unspent}"
        if gains < WORTH:
            return f"no other run that {rest} buys would narrow the interval by {WORTH:.0%}"
        return f"of the batches that were tried this one leaves the interval narrowest, with {rest}"

    def _none(self, needed: float | None) -> str:
        """Why nothing is proposed."""
        flops = f"{self.wanted.budget:.2g} FLOPs"
        if self.least > _MOSTLY_NOISE * self.now:
            return (
                f"of the interval's width of {self.now:.2g} one run varies by {self.least:.2g} "
                "itself, which no run narrows"
            )
        if self.bought:
            is_one = len(self.bought) == 1
            best = "the best run" if is_one else f"the best {len(self.bought)} runs"
            found = (
                f"{best} that {flops} buy {'is' if is_one else 'are'} expected to narrow the "
                f"interval by {self.gained:.1%}, and less than {WORTH_IT:.0%} is not worth it"
            )
        else:
            found = f"no run that {flops} buy is expected to narrow the interval by {WORTH:.0%}"
        return f"{found}: {self._remedy(needed)}"

    def _remedy(self, needed: float | None) -> str:
        limit, name = self.wanted.run_limit(self.target)
        if name.startswith("--max"):
            return f"allow larger runs than {name}"
        if limit < self.wanted.budget:
            return "train the target itself"
        if self.wanted.width is None and needed is not None:
            return f"save the budget: {needed:.1e} FLOPs are about the fewest that are worth it"
        if self.wanted.params is not None:
            return "save the budget, or widen --sizes, or ask for a larger --budget"
        return "save the budget, or ask for a larger --budget"
