"""From a forecast and the laws that are plausible to the runs to make next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.design.batch import Bought, best_batch, bought
from llmscale.explain.design.believed import Believed, outlooks_of
from llmscale.explain.design.candidates import Candidates, Limits, Size, candidates_of
from llmscale.explain.design.learning_rates import Trials
from llmscale.explain.design.outlook import Outlook, Outlooks
from llmscale.explain.design.proposal import Ends, NextRuns, ProposedRun
from llmscale.explain.design.reasons import reason_of
from llmscale.explain.design.sizes import OwnSweep, sizes_of
from llmscale.explain.design.stops import Ending, Wanted, nothing_to_buy
from llmscale.explain.design.sweep_file import sweep_file, swept_flops
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.table import RunTable

_COMES_TRUE = 0.75
"""The share of a narrowing, in ln of the width, that comes true of what is expected: a fit with a
new largest run counts the others less (experiments/next_runs/widths.py measures it). The choice
goes without, since by one law the order of batches stays."""
_LARGEST = 1024.0
"""A width that the budget does not reach is tried with budgets twice as large, up to so many
times."""


@dataclass(frozen=True)
class Choice:
    """The laws that are plausible with their forecasts of one run (the first is the one that is to
    be narrow), the runs there are, and what may be bought."""

    laws: Sequence[Believed]
    runs: RunTable
    sweep: OwnSweep | None
    wanted: Wanted
    trials: Trials | None = None
    """Short runs that try the learning rate, which the file is to have, too."""
    together: float | None = None
    """The FLOPs that runs and trials may cost together, of which `wanted` has those of the runs."""

    @property
    def forecast(self) -> Forecast:
        return self.laws[0].forecast

    @np.errstate(all="ignore")  # laws overflow far from their runs
    def propose(self, kept: Sequence[int] | None = None) -> NextRuns:
        """The runs to make next, or of these only the ones at the places that are `kept`. Raises
        InputError if the budget buys none at all."""
        candidates = self._candidates(self.wanted.budget)
        if not len(candidates):
            raise nothing_to_buy(self.wanted, self._sizes(self.wanted.budget), self._target_flops)
        outlook, best = self._batch(candidates)
        if kept is not None:
            best = bought(outlook, candidates.prices, [best[place].run for place in kept])
        ending = self._ending(candidates, outlook, best)
        batch = best if ending.is_worth_it else ()
        needed = self._needed(ending)
        runs = self._proposed(candidates, outlook, batch)
        found = NextRuns(
            self.forecast,
            runs,
            self.together or self.wanted.budget,
            self._shares,
            len(candidates),
            expected=self._ends(outlook.first, batch[-1].after.first) if batch else None,
            width=self.wanted.width,
            needed=needed if self.wanted.width is not None else None,
            stop=ending.said(needed, _LARGEST * self.wanted.budget),
            notes=self.forecast.all_notes,
            trials=self.trials,
            swept=swept_flops(runs) if self.sweep is None else None,
        )
        return replace(found, toml=self._toml(found, candidates, batch))

    def _ending(
        self, candidates: Candidates, outlook: Outlooks, bought: tuple[Bought, ...]
    ) -> Ending:
        then = self._width_after(outlook, bought)
        least = self._width_now * outlook.first.least_width / outlook.first.width
        asked = self.wanted, self._target_flops, candidates, outlook, bought
        return Ending(*asked, self._width_now, then, least)

    def _width_after(self, outlook: Outlooks, bought: Sequence[Bought]) -> float:
        """The width of the interval that is expected after these runs."""
        if not bought:
            return self._width_now
        low, high = self._ends(outlook.first, bought[-1].after.first)
        return high - low

    @property
    def _shares(self) -> tuple[tuple[str, float], ...]:
        return tuple((law.fit.law.name, law.share) for law in self.laws)

    @property
    def _target(self) -> tuple[float, float]:
        return float(self.forecast.params), float(self.forecast.tokens)

    @property
    def _target_flops(self) -> float:
        N, D = self._target
        return 6.0 * N * D

    def _candidates(self, budget: float) -> Candidates:
        run_flops = min(self.wanted.run_flops, budget, self._target_flops)
        lost = self.sweep.lost(self.runs.count) if self.sweep else ()
        limits = Limits(self.wanted.ratios, self._params(budget), run_flops, lost)
        return candidates_of(self._sizes(budget), limits)

    def _params(self, budget: float) -> tuple[float, float]:
        """The smallest and the largest N of a run: those of the table, the target and the
        budget."""
        N, of_table = self._target[0], self.runs.frame["params"]
        wanted = replace(self.wanted, budget=budget)
        return wanted.params_weighed(N, float(of_table.min()), float(of_table.max()))

    def _sizes(self, budget: float) -> list[Size]:
        return sizes_of(self.runs, self.sweep, *self._params(budget))

    def _batch(self, candidates: Candidates) -> tuple[Outlooks, tuple[Bought, ...]]:
        outlook = outlooks_of(self.laws, candidates.params, candidates.tokens)
        width = 0.0
        if self.wanted.width is not None:
            narrower = self.wanted.width / self._width_now
            width = outlook.width * narrower ** (1.0 / _COMES_TRUE)
        budget = self.wanted.batch_limit(self._target_flops)
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

    def _needed(self, ending: Ending) -> float | None:
        """The FLOPs of the least budget, doubled again and again, that reaches the width, or that
        is worth it if there is none; None if this one does, or none can."""
        width = self.wanted.width
        if width is None and (ending.is_worth_it or not ending.needs_budget):
            return None
        if width is not None and (width < ending.least or ending.then <= width * (1 + 1e-9)):
            return None
        budget = self.wanted.budget
        while budget < _LARGEST * self.wanted.budget:
            budget *= 2.0
            more = replace(self, wanted=replace(self.wanted, budget=budget))
            candidates = more._candidates(budget)
            outlook, batch = more._batch(candidates)
            then = more._ending(candidates, outlook, batch)
            enough = then.is_worth_it if width is None else then.then <= width * (1 + 1e-9)
            if batch and enough:
                return sum(one.cost for one in batch)
        return None

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
