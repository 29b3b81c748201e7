"""`llmscale.adaptive_sweep`: sweep, fit, choose the next runs, and again, until a forecast is
narrow enough or a budget is spent."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmscale.adaptive.loop import Limits, Loop
from llmscale.adaptive.place import Place, check_ended, place_of
from llmscale.adaptive.result import AdaptiveSweep
from llmscale.adaptive.settings import AutoSpec
from llmscale.adaptive.spending import spent_flops
from llmscale.adaptive.start import start_designs
from llmscale.adaptive.state import Round, State, check_same, read_state
from llmscale.errors import InputError
from llmscale.explain.api.next_runs import target_of, wanted_of
from llmscale.explain.api.next_runs_settings import NextSpec
from llmscale.explain.api.settings import PredictSpec, asked_spec
from llmscale.explain.design.stops import Wanted
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.laws import law_named
from llmscale.measure.sweep.records import recorded_runs
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.watching import Watcher, watcher_of
from llmscale.quantity import format_count, parse_budget, parse_count
from llmscale.settings import options_of, shows_keywords
from llmscale.settings.tables import with_keywords


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
    `tokens`, and what may be bought. At most `rounds` are chosen. `max_hours`, `yes` and `progress`
    are those of `sweep`, for each round; a `dry_run` only chooses the first one.

    Ctrl-C raises KeyboardInterrupt once everything is saved: the same call goes on in the middle
    of a round, and with a larger budget, a narrower width or more rounds from there. Raises
    InputError for what is wrong, before anything is written, and WorkError if runs fail."""
    auto = with_keywords(AutoSpec(), {"rounds": rounds, "max_hours": max_hours}, "the call")
    given = {name: value for name, value in settings.items() if value is not None}
    _check_taken(given)
    spec = asked_spec(NextSpec, given)
    _check(spec)
    place = place_of(source, out)
    folder = place.folder
    choice = {name: value for name, value in given.items() if name != "budget"}
    training = {"max_hours": auto.max_hours, "yes": yes, "command": command}
    wanted = wanted_of(spec)
    limits = Limits(wanted.budget, spec.width, auto.rounds)
    target = _target(spec, given)
    loop = Loop(folder, limits, target, wanted, training, watcher_of(progress))
    known = read_state(folder)
    asked = {name: _plain(name, value) for name, value in target.items()}
    if known is not None:
        check_same(folder, known, asked)
        _check_budget(loop, known)
    state = known or State(asked, spent_flops(folder))
    state = state.said(_limits_said(choice, limits))
    if state.under_way is None and not recorded_runs(folder):
        return _begin(loop, state, _designs(place, spec), dry_run=dry_run)
    if known is None:
        check_ended(folder)
    return _go_on(loop, state, dry_run=dry_run)


def _begin(
    loop: Loop, state: State, designs: Iterator[SweepSpec], *, dry_run: bool
) -> AdaptiveSweep:
    """The loop from its first runs on."""
    if dry_run:
        return _result(loop, state, first=loop.start_round(designs)[0])
    return _go_on(loop, loop.start(state, designs), dry_run=False)


def _go_on(loop: Loop, state: State, *, dry_run: bool) -> AdaptiveSweep:
    """The loop from where it is on."""
    if not dry_run:
        return _result(loop, *loop.run(state))
    if state.under_way is not None:
        return _result(loop, state, first=state.under_way)
    forecast = loop.forecast()
    if stop := loop.reached(state, forecast):
        return _result(loop, replace(state, stop=stop), forecast)
    first = loop.chosen_round(state, forecast)
    if isinstance(first, str):
        return _result(loop, replace(state, stop=first), forecast)
    return _result(loop, state, forecast, first=first)


def _result(
    loop: Loop, state: State, forecast: Forecast | None = None, first: Round | None = None
) -> AdaptiveSweep:
    spent = loop.limits.budget - loop.left(state)
    where, limits = str(loop.folder.path), loop.limits
    sizes = _sizes_said(loop.wanted, forecast) if forecast is not None else ""
    return AdaptiveSweep(where, state, forecast, limits.budget, spent, limits.width, first, sizes)


def _sizes_said(wanted: Wanted, forecast: Forecast) -> str:
    """Which sizes the runs have, and up to which larger ones were weighed and why; empty if sizes
    were asked for."""
    if wanted.params is not None or forecast.fit is None:
        return ""
    N, params = float(forecast.params), forecast.fit.table.frame["params"]
    _, most = wanted.params_weighed(N, params.min(), params.max())
    have = f"the runs have N from {format_count(params.min())} to {format_count(params.max())}"
    why = "that of the target" if most >= N else f"all that {wanted.budget:.2g} FLOPs buy"
    weighed = "no larger ones were weighed"
    if most > params.max():
        weighed = f"larger ones were weighed up to {format_count(most)}, {why}"
    return f"{have}; {weighed} (--sizes asks for others)"


def _check_taken(given: Mapping[str, Any]) -> None:
    """Raise InputError for a setting of `next_runs` that is of a single choice."""
    if given.get("learning_rates"):
        raise InputError(
            "--learning-rates is for a single choice: the fits of a loop would take trials at "
            "other rates for runs like the others",
            "leave it out; or try the rates first, with llmscale tune, or by hand: llmscale next "
            "--learning-rates -o next.toml, then sweep it and set the recipe's lr_scale by it",
        )
    for name in ("output", "figure"):
        if given.get(name):
            option = "--figure" if name == "figure" else "--out FILE.toml"
            raise InputError(
                f"{option} is for a single choice, and the loop writes each into its folder",
                "leave it out" if name == "figure" else "name the folder: --out results/mine",
            )


def _check(spec: NextSpec) -> None:
    """Raise InputError for what only the first forecast would find, once runs were trained."""
    wanted_of(spec)
    target_of(spec)
    if spec.law not in (None, "all"):
        law = law_named(spec.law)
        example = law(*[0.5] * len(law.coefficient_names()))
        if set(example.inputs) != {"params", "tokens"}:
            raise InputError(
                f"{law.name} is no law in N and D, which tells what a run costs",
                "name one that is: --law chinchilla",
            )
    if not spec.options.bootstrap:
        raise InputError("without refits there is no interval to narrow", "leave --bootstrap 0 out")


def _designs(place: Place, spec: NextSpec) -> Iterator[SweepSpec]:
    """The sweeps that all can begin with."""
    return start_designs(place.to_begin, wanted_of(spec).ratios)


def _target(spec: NextSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords by which `predict` forecasts the target."""
    known = {*options_of(PredictSpec)} - {"refit"}
    found = {name: value for name, value in given.items() if name in known}
    return {**found, **target_of(spec)}


def _plain(name: str, value: Any) -> Any:
    """A setting as JSON has it: the same however it was written."""
    if name in ("params", "flops"):
        return parse_count(str(value), name)
    if name == "tokens":
        return parse_budget(str(value)).stated
    if isinstance(value, list | tuple):
        several = [str(one) for one in value]
        return several[0] if len(several) == 1 else several
    return value if isinstance(value, int | float | bool) else str(value)


def _limits_said(choice: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What decides how far a loop goes, as adaptive.json has it."""
    of_target = {*options_of(PredictSpec), "target"}
    said = {name: _plain(name, value) for name, value in choice.items() if name not in of_target}
    return {**said, "budget": limits.budget, "rounds": limits.rounds}


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
