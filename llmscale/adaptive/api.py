"""`llmscale.adaptive_sweep`: sweep, fit, choose the next runs, and again, until a forecast is
narrow enough or a budget is spent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.adaptive.loop import Limits, Loop
from llmscale.adaptive.result import AdaptiveSweep
from llmscale.adaptive.settings import AutoSpec
from llmscale.adaptive.spending import spent_flops
from llmscale.adaptive.start import start_designs
from llmscale.adaptive.state import State, check_same, read_state
from llmscale.errors import InputError, counted
from llmscale.explain.api.next_runs_settings import NextSpec, ends_said
from llmscale.explain.api.settings import PredictSpec, asked_spec
from llmscale.measure.sweep.opening import open_results
from llmscale.measure.sweep.provenance import check_folder
from llmscale.measure.sweep.records import recorded_runs
from llmscale.measure.sweep.spec import SweepSpec, read_spec
from llmscale.measure.sweep.status import sweep_status
from llmscale.measure.sweep.watching import Watcher, watcher_of
from llmscale.quantity import parse_budget, parse_count
from llmscale.runs.lock import lock_holder
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder, newest_results, results_folder
from llmscale.settings import options_of, shows_keywords

_ENDED = ("done", "diverged", "failed", "stopped early")


@shows_keywords(NextSpec)
def adaptive_sweep(
    source: Any = None,
    *,
    out: Path | str | None = None,
    rounds: int | None = None,
    max_hours: float | None = None,
    yes: bool = False,
    dry_run: bool = False,
    progress: Watcher | bool = True,
    command: str | None = None,
    **settings: Any,
) -> AdaptiveSweep:
    """Train the runs that narrow the forecast of a target most for their FLOPs, round by round,
    until its interval is as narrow as `width` or the `budget` is spent, trunks counted once and
    lost runs too.

    `source` is the results folder of a sweep, or the TOML file of one, whose smallest sizes are
    begun with in the folder `out`. `settings` are those of `next_runs`: `target`, or `params` and
    `tokens`, and what may be bought. `max_hours`, `yes` and `progress` are those of `sweep`, for
    each round; a `dry_run` only chooses the first one.

    Ctrl-C raises KeyboardInterrupt once everything is saved: the same call goes on in the middle
    of a round, and with a larger budget, a narrower width or more rounds from there. Raises
    InputError for what is wrong, before anything is written, and WorkError if runs fail."""
    given = {name: value for name, value in settings.items() if value is not None}
    spec = asked_spec(NextSpec, given)
    own = {"rounds": rounds, "max_hours": max_hours}
    auto = AutoSpec(**{name: value for name, value in own.items() if value is not None})
    limits = Limits(_budget(spec), spec.width, auto.rounds)
    place = _place(source, out)
    folder = place.folder
    training = {"max_hours": auto.max_hours, "yes": yes, "command": command}
    target, choice = _target(spec, given), {**given}
    choice.pop("budget")
    choice.pop("output", None)
    loop = Loop(folder, limits, target, choice, training, watcher_of(progress))
    asked = {name: _plain(value) for name, value in target.items()}
    known = read_state(folder)
    if known is not None:
        check_same(folder, known, asked)
    state = known or State(asked, spent_flops(folder))
    _check_budget(loop, state)
    state = state.said(_limits_said(choice, limits))
    begins = state.under_way is None and not recorded_runs(folder)
    if begins:
        designs = _designs(place, spec)
        if dry_run:
            return _result(loop, state, first=loop.start_round(designs)[0])
        return _run(loop, loop.start(state, designs))
    if known is None:
        _check_ended(folder)
    if dry_run:
        return _dry_run(loop, state)
    return _run(loop, state)


@dataclass(frozen=True)
class _Place:
    """The results folder of a loop, and the sweep of the file that it was named by."""

    folder: ResultsFolder
    sweep: SweepSpec | None = None
    named: str = ""


def _place(source: Any, out: Path | str | None) -> _Place:
    """Where a loop trains. Raises InputError for what no sweep can go on in."""
    if source is not None and not isinstance(source, str | Path):
        raise InputError(
            "the loop trains runs, and a table of runs does not say how",
            "name the results folder of a sweep, or the TOML file of one",
        )
    for where in (source, out):
        if where is not None and is_url(str(where)):
            raise InputError(
                f"{where} is a URL, and the loop works in a folder of this machine",
                "name a folder, and copy it there afterwards",
            )
    if source is not None and Path(source).suffix == ".toml":
        asked = Path(source)
        sweep = read_spec(asked)
        folder = open_results(out, asked, sweep, "sweep").folder
        check_folder(folder, sweep)
        return _Place(folder, sweep, str(asked))
    folder = newest_results() if source is None else results_folder(source)
    if out is not None and results_folder(out).path.resolve() != folder.path.resolve():
        raise InputError(
            f"the loop is to go on in {folder.path} and to write to {out}",
            "leave --out out, or name the TOML file of a sweep to begin with",
        )
    if not folder.adaptive_path.exists():
        folder.read_sweep()
    return _Place(folder, named=str(folder.path))


def _designs(place: _Place, spec: NextSpec) -> Iterator[SweepSpec]:
    """The sweeps that all can begin with. Raises InputError if nothing says which."""
    if place.sweep is None:
        raise InputError(
            f"there are no runs in {place.named} to go on with",
            "name the TOML file of a sweep to begin with",
        )
    ratios = ends_said("--tokens-per-param", spec.tokens_per_param, _ratio)
    return start_designs(place.sweep, ratios)


def _ratio(given: Any) -> float:
    text = str(given).strip()
    return parse_budget(text if text.endswith("x") else f"{text}x").amount


def _budget(spec: NextSpec) -> float:
    if spec.budget is None:
        raise InputError("no budget was given", "say what the runs may cost: --budget 1e19")
    return float(parse_count(str(spec.budget), "--budget"))


def _target(spec: NextSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords by which `predict` forecasts the target."""
    known = {*options_of(PredictSpec)} - {"refit"}
    found = {name: value for name, value in given.items() if name in known}
    return found if spec.target is None else {**found, "flops": spec.target}


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    return value if isinstance(value, int | float | bool) else str(value)


def _limits_said(choice: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What decides how far a loop goes, as adaptive.json has it."""
    said = {name: value for name, value in choice.items() if name not in options_of(PredictSpec)}
    kept = {name: _plain(value) for name, value in said.items() if name != "target"}
    return {**kept, "budget": limits.budget, "rounds": limits.rounds}


def _check_budget(loop: Loop, state: State) -> None:
    """Raise InputError for a budget that was lowered below what is spent."""
    before, now = state.settings.get("budget", 0.0), loop.limits.budget
    if now < before and loop.left(state) < 0:
        spent = now - loop.left(state)
        raise InputError(
            f"the loop in {loop.folder.path} has spent {spent:.3g} FLOPs, more than a budget of "
            f"{now:.3g}",
            f"give --budget {before:.3g} as before, or a larger one",
        )


def _check_ended(folder: ResultsFolder) -> None:
    """Raise InputError if a sweep is under way there, or was not ended: its runs would count as the
    loop's."""
    if holder := lock_holder(folder.path):
        raise InputError(f"{folder.path} is being written by {holder}", "wait for it")
    status = sweep_status(folder)
    waiting = [run for run in status.runs if run.state not in _ENDED]
    if waiting:
        runs = f"{len(waiting)} of {counted(len(status.runs), 'run')}"
        raise InputError(
            f"{runs} of the sweep in {folder.path} are not trained to their end",
            f"end it first: {status.next_command}",
        )


def _dry_run(loop: Loop, state: State) -> AdaptiveSweep:
    """The next round, and nothing done."""
    if state.under_way is not None:
        return _result(loop, state, first=state.under_way)
    forecast = loop.forecast()
    return _result(loop, state, forecast, first=loop.chosen_round(state, forecast))


def _run(loop: Loop, state: State) -> AdaptiveSweep:
    state, forecast = loop.run(state)
    return _result(loop, state, forecast)


def _result(loop: Loop, state: State, forecast: Any = None, first: Any = None) -> AdaptiveSweep:
    spent = loop.limits.budget - loop.left(state)
    where, limits = str(loop.folder.path), loop.limits
    return AdaptiveSweep(where, state, forecast, limits.budget, spent, limits.width, first)
