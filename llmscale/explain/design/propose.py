"""From a forecast and the laws that are plausible to the runs to make next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.design.batch import Bought, best_batch
from llmscale.explain.design.believed import Believed, outlooks_of
from llmscale.explain.design.candidates import Candidates, Limits, Size, candidates_of
from llmscale.explain.design.outlook import Outlook, Outlooks
from llmscale.explain.design.proposal import Ends, NextRuns, ProposedRun
from llmscale.explain.design.reasons import reason_of
from llmscale.explain.design.sizes import OwnSweep, sizes_of
from llmscale.explain.design.sweep_file import sweep_file
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.table import RunTable

_WORTH_IT = 0.03
"""A batch that is expected to narrow the interval by less than this share is not proposed."""
_COMES_TRUE = 0.75
"""The share of a narrowing, in ln of the width, that comes true of what is expected: a fit with a
new largest run counts the others less (experiments/next_runs/widths.py measures it). The choice
goes without, since by one law the order of batches stays."""
_LARGEST = 1024.0
"""A width that the budget does not reach is tried with budgets twice as large, up to so many
times."""


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


@dataclass(frozen=True)
class Choice:
    """The laws that are plausible with their forecasts of one run (the first is the one that is to
    be narrow), the runs there are, and what may be bought."""

    laws: Sequence[Believed]
    runs: RunTable
    sweep: OwnSweep | None
    wanted: Wanted

    @property
    def forecast(self) -> Forecast:
        return self.laws[0].forecast

    def propose(self) -> NextRuns:
        """The runs to make next. Raises InputError if the budget buys none at all."""
        candidates = self._candidates(self.wanted.budget)
        if not len(candidates):
            raise self._nothing_to_buy()
        outlook, batch = self._batch(candidates, self.wanted.budget)
        left = batch[-1].after.width if batch else outlook.width
        if left > (1.0 - _WORTH_IT) * outlook.width:
            batch = ()
        found = NextRuns(
            self.forecast,
            self._proposed(candidates, outlook, batch),
            self.wanted.budget,
            self._shares,
            len(candidates),
            self.wanted.width,
            notes=self.forecast.all_notes,
        )
        least = self._width_now * outlook.first.least_width / outlook.first.width
        needed = self._needed(found, least)
        found = replace(found, needed=needed, stop=self._stop(found, needed, least))
        return replace(found, toml=self._toml(found, candidates, batch))

    @property
    def _shares(self) -> tuple[tuple[str, float], ...]:
        return tuple((law.fit.law.name, law.share) for law in self.laws)

    @property
    def _target(self) -> tuple[float, float]:
        return float(self.forecast.params), float(self.forecast.tokens)

    def _candidates(self, budget: float) -> Candidates:
        N, D = self._target
        low, high = self.wanted.ratios
        of_table = self.runs.frame["params"].to_numpy(dtype=float)
        most = min(math.sqrt(budget / (6.0 * low)), max(N, of_table.max()))
        params = self.wanted.params or (float(of_table.min()), most)
        sizes = sizes_of(self.runs, self.sweep, *params)
        run_flops = min(self.wanted.run_flops, budget, 6.0 * N * D)
        lost = self.sweep.lost(self.runs.count) if self.sweep else ()
        return candidates_of(sizes, Limits((low, high), params, run_flops, lost))

    def _batch(self, candidates: Candidates, budget: float) -> tuple[Outlooks, tuple[Bought, ...]]:
        outlook = outlooks_of(self.laws, candidates.params, candidates.tokens)
        width = 0.0
        if self.wanted.width is not None:
            narrower = self.wanted.width / self._width_now
            width = outlook.width * narrower ** (1.0 / _COMES_TRUE)
        batch = best_batch(outlook, candidates.prices, budget, self.wanted.batch, width=width)
        return outlook, batch

    @property
    def _width_now(self) -> float:
        return float(self.forecast.high) - float(self.forecast.low)

    def _proposed(
        self, candidates: Candidates, outlook: Outlooks, batch: Sequence[Bought]
    ) -> tuple[ProposedRun, ...]:
        found: list[ProposedRun] = []
        counted: dict[int, int] = {}
        for one in batch:
            size = candidates.sizes[int(candidates.of[one.run])]
            tokens = float(candidates.tokens[one.run])
            seed = size.seeds.get(tokens, 0) + counted.get(one.run, 0)
            counted[one.run] = counted.get(one.run, 0) + 1
            low, high = self._ends(outlook.first, one.after.first)
            found.append(
                ProposedRun(
                    size.name,
                    size.params,
                    tokens,
                    seed,
                    one.cost,
                    float(candidates.flops[one.run]),
                    _kind(size, seed),
                    reason_of(one, candidates, self.laws[0].fit, again=seed > 0),
                    low,
                    high,
                    one.after.first.horizon,
                )
            )
        return tuple(found)

    def _ends(self, before: Outlook, after: Outlook) -> Ends:
        """The interval of the loss that the forecast is expected to have then."""
        law, loss = self.laws[0].fit.law, np.asarray(self.forecast.loss)
        ends = []
        for sign, end, was, now in zip(
            (-1.0, 1.0),
            (self.forecast.low, self.forecast.high),
            before.halves,
            after.halves,
            strict=True,
        ):
            half = abs(float(law.level_of(np.asarray(end)) - law.level_of(loss)))
            half *= (now / was) ** _COMES_TRUE
            ends.append(float(law.moved(loss, np.asarray(sign * half))))
        return ends[0], ends[1]

    def _needed(self, found: NextRuns, least: float) -> float | None:
        """The FLOPs of the least budget, doubled again and again, that reaches the width; None if
        this one does, or none can."""
        width = self.wanted.width
        if width is None or width < least or _reached(found.after, width):
            return None
        budget = self.wanted.budget
        while budget < _LARGEST * self.wanted.budget:
            budget *= 2.0
            more = replace(self, wanted=replace(self.wanted, budget=budget))
            candidates = more._candidates(budget)
            outlook, batch = more._batch(candidates, budget)
            if batch and _reached(more._ends(outlook.first, batch[-1].after.first), width):
                return sum(one.cost for one in batch)
        return None

    def _stop(self, found: NextRuns, needed: float | None, least: float) -> str:
        """Why no more is proposed."""
        width = self.wanted.width
        if width is not None and width < least:
            return (
                f"no budget reaches a width of {width:g}: one run varies by {least:.2g} itself, "
                "from the low to the high end of its interval"
            )
        if width is not None and _reached(found.before, width):
            return f"the interval is no wider than {width:g} as it is"
        if width is not None and _reached(found.after, width):
            return f"the interval is expected to be no wider than {width:g} then"
        if width is not None:
            if needed is not None:
                return f"a width of {width:g} is expected to take {needed:.1e} FLOPs"
            most = _LARGEST * self.wanted.budget
            return f"no budget up to {most:.1e} FLOPs is expected to reach a width of {width:g}"
        if not found.runs:
            return (
                f"{self.wanted.budget:.2g} FLOPs are expected to narrow the interval by less than "
                f"{_WORTH_IT:.0%}: keep them, or ask for a larger --budget"
            )
        return ""

    def _nothing_to_buy(self) -> InputError:
        low = self.wanted.ratios[0]
        least = 6.0 * low * float(self.runs.frame["params"].min()) ** 2
        return NothingToBuy(
            f"a budget of {self.wanted.budget:.3g} FLOPs buys no run within these limits",
            f"the smallest size at {low:g} tokens a parameter takes {least:.2g} FLOPs: give a "
            "larger --budget, or widen --sizes, --tokens-per-param or --max-run-flops",
        )

    def _toml(self, found: NextRuns, candidates: Candidates, batch: Sequence[Bought]) -> str:
        asked: list[str | int] = []
        for one in batch:
            size = candidates.sizes[int(candidates.of[one.run])]
            tokens = float(candidates.tokens[one.run])
            asked.append(size.budgets.get(tokens, round(tokens)))
        return sweep_file(found, asked, self.sweep)


def _kind(size: Size, seed: int) -> str:
    if seed > 0:
        return "repeat"
    return "longer" if size.measured else "new"


def _reached(ends: Ends, width: float) -> bool:
    return ends[1] - ends[0] <= width * (1 + 1e-9)
