"""The rounds of a loop: each is chosen, written down, trained and judged before the next one."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmscale.adaptive.result import round_line
from llmscale.adaptive.spending import round_budget, spent_since
from llmscale.adaptive.start import SHARE
from llmscale.adaptive.state import ChosenRun, Round, State, outcome_of, write_state
from llmscale.adaptive.watching import TooDear, Within
from llmscale.errors import InputError, WorkError, counted
from llmscale.errors.command_lines import command_line
from llmscale.explain.api.next_runs import choice_of
from llmscale.explain.api.predict import predict
from llmscale.explain.design.proposal import NextRuns
from llmscale.explain.design.propose import Choice
from llmscale.explain.design.stops import NothingToBuy, Wanted
from llmscale.explain.design.sweep_file import COMMAND, spec_file
from llmscale.explain.forecast.forecast import Forecast
from llmscale.measure.sweep.api import sweep
from llmscale.measure.sweep.result import SweepResult
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.watching import Silent, Watcher
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.safe_write import write_text
from llmscale.runs.title import short_title

_SPENT = 1e-3
"""A smaller share of the budget than this is not worth another fit."""
_TRIES = 4
"""How often a round that costs more than was thought is chosen again, with less."""
_CAUTION = 0.95


@dataclass(frozen=True)
class Limits:
    """When a loop ends: the FLOPs it may spend, the interval that is narrow enough, and rounds of
    chosen runs."""

    budget: float
    width: float | None
    rounds: int


@dataclass(frozen=True)
class Loop:
    """A loop in `folder`. `target` are the keywords by which `predict` gives the forecast, `wanted`
    is what may be bought, of which each round has a part of the budget, and `training` are the
    keywords of `sweep`."""

    folder: ResultsFolder
    limits: Limits
    target: Mapping[str, Any]
    wanted: Wanted
    training: Mapping[str, Any]
    watcher: Watcher

    def left(self, state: State) -> float:
        """FLOPs that may still be spent."""
        return self.limits.budget - spent_since(self.folder, state.spent_before)

    def run(self, state: State) -> tuple[State, Forecast]:
        """Go on from `state` until a reason to stop; the last forecast. Raises KeyboardInterrupt
        with all of it saved, WorkError if runs came to nothing."""
        if state.under_way is not None:
            state = self._resumed(state)
        while True:
            forecast = self.forecast()
            is_news = bool(state.rounds) and state.rounds[-1].after is None
            state = state.judged(outcome_of(forecast))
            if is_news:
                self.watcher.tell(round_line(state.rounds[-1]))
            stop = self.reached(state, forecast)
            state = replace(state, stop=stop) if stop else self._next_round(state, forecast)
            write_state(self.folder, state)
            if state.stop:
                return state, forecast

    def start(self, state: State, designs: Iterable[SweepSpec]) -> State:
        """The state after the runs that all begins with."""
        first, spec = self.start_round(designs)
        as_kept = json.loads(json.dumps(spec.to_json()))
        heading = "The runs that a loop of llmscale next --auto begins with:"
        self._write(first, spec_file(as_kept, f"{heading} {COMMAND}"))
        state = state.begun(first)
        write_state(self.folder, state)
        return self._trained(state)

    def start_round(self, designs: Iterable[SweepSpec]) -> tuple[Round, SweepSpec]:
        """The runs that all begins with: the first of `designs` that leaves most of the budget, or
        else the last. Raises InputError if that costs more than the budget."""
        silent: Any = {**self.training, "progress": Silent(), "dry_run": True}
        budget = self.limits.budget
        for spec in designs:
            plan = sweep(spec, out=self.folder.path, **silent).plan
            if plan.flops <= SHARE * budget:
                break
        if plan.flops > budget:
            raise InputError(
                f"the {counted(len(plan.runs), 'run')} to begin with cost {plan.flops:.3g} FLOPs, "
                f"more than the budget of {budget:.3g}",
                "give a larger --budget, or smaller sizes and fewer tokens in the file",
            )
        runs = tuple(
            ChosenRun(run.job.size, run.job.tokens, run.job.seed, run.own_flops)
            for run in plan.runs
        )
        return Round(0, budget, runs), spec

    def forecast(self) -> Forecast:
        """The forecast of the target as things stand."""
        found = predict(self.folder.path, **self.target)
        assert isinstance(found, Forecast)
        return found

    def chosen_round(self, state: State, forecast: Forecast) -> Round | str:
        """The next round, of which nothing is written, or why there is none."""
        found = self._choice(state, choice_of(forecast, self.wanted), 1.0)
        return found if isinstance(found, str) else self._round(state, forecast, found)

    def reached(self, state: State, forecast: Forecast) -> str:
        """Why no further round is to be chosen; empty if one is."""
        limits, left = self.limits, self.left(state)
        wide = float(forecast.high) - float(forecast.low)
        if limits.width is not None and wide <= limits.width:
            return f"the interval is no wider than {limits.width:g}"
        if left <= _SPENT * limits.budget:
            return "the budget is spent"
        if len(state.chosen_rounds) >= limits.rounds:
            were = "was" if limits.rounds == 1 else "were"
            return f"{counted(limits.rounds, 'round')} {were} allowed: go on with more --rounds"
        return ""

    def _next_round(self, state: State, forecast: Forecast) -> State:
        """The state after one more round, or with the reason why there is none."""
        share, choice = 1.0, choice_of(forecast, self.wanted)
        for _ in range(_TRIES):
            found = self._choice(state, choice, share)
            if isinstance(found, str):
                return replace(state, stop=found)
            one = self._round(state, forecast, found)
            self._write(one, found.toml)
            begun = state.begun(one)
            write_state(self.folder, begun)
            try:
                return self._trained(begun)
            except TooDear as error:
                share *= _CAUTION * self.left(state) / error.flops
        left = self.left(state)
        return replace(
            state, stop=f"every choice that was tried costs more than the {left:.2g} FLOPs left"
        )

    def _choice(self, state: State, choice: Choice, share: float) -> NextRuns | str:
        """What this turn's part of the budget buys if it narrows the interval by more a FLOP than
        all that is left would; else what that buys if it is worth it, or why it is not."""
        left = share * self.left(state)
        chosen = state.chosen_rounds
        before = sum(one.of_budget == self.limits.budget for one in chosen)
        part = round_budget(left, before, self.limits.rounds - len(chosen))
        found = [_bought(choice, budget) for budget in dict.fromkeys((part, left))]
        worth = [one for one in found if not isinstance(one, str) and one.runs]
        if worth:
            return max(worth, key=lambda one: one.narrows / one.flops)
        of_all = found[-1]
        reason = of_all if isinstance(of_all, str) else of_all.stop
        return f"what is left of the budget buys nothing that is worth it: {reason}"

    def _round(self, state: State, forecast: Forecast, found: NextRuns) -> Round:
        runs = tuple(
            ChosenRun(run.size, run.tokens, run.seed, run.flops, run.reason) for run in found.runs
        )
        number = len(state.chosen_rounds) + 1
        before = outcome_of(forecast)
        return Round(number, self.limits.budget, runs, before=before, expected=found.after)

    def _write(self, one: Round, text: str) -> None:
        """The file of a round, with the command that trains it."""
        path = self.folder.round_path(one.number)
        command = command_line("llmscale", "sweep", path, "--out", self.folder.path)
        write_text(path, text.replace(COMMAND, command))

    def _resumed(self, state: State) -> State:
        """The state after the round that an earlier command began."""
        one = state.rounds[-1]
        try:
            return self._trained(state)
        except TooDear as error:
            if one.number > 0 and one.of_budget <= self.limits.budget:
                return replace(state, rounds=state.rounds[:-1])  # it was about to be chosen anew
            raise InputError(
                f"the round that is under way costs {error.flops:.3g} FLOPs more, and "
                f"{self.left(state):.3g} are left of --budget {self.limits.budget:.3g}",
                "give the budget that it was chosen for",
            ) from None

    def _trained(self, state: State) -> State:
        """The state after its last round, which is trained as far as it is not."""
        one = state.rounds[-1]
        self.watcher.tell(f"{round_line(one)} expected" if one.expected else round_line(one))
        path, watcher = self.folder.round_path(one.number), Within(self.watcher, self.left(state))
        result = sweep(path, out=self.folder.path, progress=watcher, **self.training)
        self._check_trained(one, result)
        flops = spent_since(self.folder, state.spent_before)
        flops -= sum(known.flops or 0.0 for known in state.rounds)
        ended = state.ended(flops, tuple(map(_said, _lost(one, result))))
        write_state(self.folder, ended)
        return ended

    def _check_trained(self, one: Round, result: SweepResult) -> None:
        """Raise WorkError if runs were ended before their last step, or if all have failed."""
        if result.unfinished:
            left = counted(len(result.unfinished), "run")
            raise WorkError(
                f"{left} of {round_name(one)} were ended before their last step",
                "the same command goes on",
            )
        rows = _rows(one, result)
        if rows and all(run.status == "failed" for run in rows):
            raise WorkError(
                f"all of the {counted(len(rows), 'run')} of {round_name(one)} failed: "
                f"{rows[0].error}",
                "the same command tries them again",
            )


def _bought(choice: Choice, budget: float) -> NextRuns | str:
    """What so much buys, or why that is nothing."""
    try:
        return replace(choice, wanted=replace(choice.wanted, budget=budget)).propose()
    except NothingToBuy as error:
        return error.problem


def round_name(one: Round) -> str:
    """`round 2`, or `the start`."""
    return f"round {one.number}" if one.number else "the start"


def _rows(one: Round, result: SweepResult) -> list[Run]:
    """The rows of the runs of a round, those that were tried again too."""
    asked = {(run.size, round(run.tokens), run.seed) for run in one.runs}
    return [run for run in result.runs if (run.size, run.tokens, run.seed) in asked]


def _lost(one: Round, result: SweepResult) -> list[Run]:
    """Those of which nothing is done, not when tried again either."""
    rows = _rows(one, result)
    done = {(run.size, run.tokens, run.seed) for run in rows if run.status == "done"}
    return [run for run in rows if (run.size, run.tokens, run.seed) not in done]


def _said(run: Run) -> str:
    return f"{short_title(run)} tokens {run.status}: {run.error}"
