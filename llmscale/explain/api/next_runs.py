"""`llmscale.next_runs`: which runs to make next, so that a forecast narrows most for its cost."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError, LlmscaleError
from llmscale.explain.api.fitted import Asked, read_for, tested
from llmscale.explain.api.next_file import check_one_recipe, place_of_file, written
from llmscale.explain.api.next_rates import with_rates
from llmscale.explain.api.next_runs_settings import NextSpec, ends_said
from llmscale.explain.api.next_worth import judged_by_fits, with_worth
from llmscale.explain.api.predict import predict
from llmscale.explain.api.read import LawName
from llmscale.explain.api.settings import Given, asked_spec, options_given, reading_given
from llmscale.explain.api.written_over import refuse_input
from llmscale.explain.design.believed import Believed
from llmscale.explain.design.proposal import NextRuns
from llmscale.explain.design.propose import Choice
from llmscale.explain.design.sizes import own_sweep
from llmscale.explain.design.stops import Wanted
from llmscale.explain.design.text import text_of
from llmscale.explain.estimation.suitability import (
    inputs_of,
    law_in_both,
    more_or_along,
    no_chinchilla,
)
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.laws import law_named
from llmscale.quantity import parse_amount, parse_budget
from llmscale.settings import shows_keywords

_IN_TWO = {"params", "tokens"}
_NO_COST = "is no law in N and D, which tells what a run costs"


@shows_keywords(NextSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def next_runs(
    source: Any = None,
    *,
    budget: Any = None,
    target: Any = None,
    params: Any = None,
    tokens: Any = None,
    width: float | None = None,
    batch: int | None = None,
    tokens_per_param: Any = None,
    sizes: Any = None,
    max_run_flops: Any = None,
    learning_rates: bool = False,
    law: LawName | None = None,
    refit: bool = False,
    output: Path | str | bool = False,
    figure: Path | str | None = None,
    **settings: Unpack[Given],
) -> NextRuns:
    """The runs to make next with a `budget` of FLOPs, so that the interval that `predict` gives of
    the loss at a target is expected to be as narrow as it can be.

    The target is the compute-optimal run of `target` FLOPs, or that of `params` and `tokens`. At
    most `batch` runs are proposed: new ones, longer ones of sizes that are there, and repeats;
    fewer if the interval, from low to high, is expected to be as narrow as `width`, or if more are
    not worth it. `tokens_per_param` and `sizes` bound the runs ("5,320", "10M,1B"), and
    `max_run_flops` the largest one. With `learning_rates` short runs at half and twice the rate of
    the recipe are among them, if several were tried at no such size. `output` is a .toml that
    `llmscale sweep` runs; of a results folder it goes on with its sweep. `figure` is a picture of
    the choice. The same call gives the same runs. `source`, `law` and `settings` as `predict` takes
    them. Raises InputError."""
    keywords = {"budget": budget, "target": target, "params": params, "tokens": tokens}
    keywords |= {"width": width, "batch": batch, "tokens_per_param": tokens_per_param}
    keywords |= {"sizes": sizes, "max_run_flops": max_run_flops}
    keywords |= {"learning_rates": learning_rates}
    keywords |= {"law": law, "refit": refit, "output": output, "figure": figure}
    keywords |= dict(settings)
    spec = asked_spec(NextSpec, keywords)
    asked = Asked(source, (), reading_given(settings), options_given(spec, settings), spec.refit)
    return _next_runs(asked, spec, settings)


def _next_runs(asked: Asked, spec: NextSpec, settings: Given) -> NextRuns:
    _check_table(asked.source)
    wanted = wanted_of(spec)
    path = place_of_file(spec.output)
    if path is not None:
        refuse_input(path, asked.source)
    if spec.figure is not None:
        from llmscale.explain.figures._place import check_place

        check_place(Path(spec.figure))
        refuse_input(Path(spec.figure), asked.source)
    choice = choice_of(_forecast(asked, spec, settings), wanted)
    if path is not None:
        check_one_recipe(choice.runs, choice.sweep)
    found = choice.propose()
    if spec.learning_rates:  # the trials are of its largest run, so that all are kept
        found = judged_by_fits(with_rates(choice, found, try_them=True))
    else:
        found = with_rates(choice, with_worth(choice, found), try_them=False)
    found = _with_text(choice, found)
    if path is not None:
        found = written(found, path, choice.sweep)
    if spec.figure is not None:
        from llmscale.explain.design.figure import draw

        found = replace(found, drawn=str(draw(found).save(spec.figure).path))
    return found


def _with_text(choice: Choice, found: NextRuns) -> NextRuns:
    """The choice with what is known of the text, and a note if its runs go over that again."""
    text = text_of(choice.runs.frame, choice.sweep)
    note = text.note(found.runs) if text else None
    return replace(found, text=text, notes=found.notes if note is None else (note, *found.notes))


@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def choice_of(forecast: Forecast, wanted: Wanted) -> Choice:
    """What a choice of runs for this forecast is made of. Raises InputError for a forecast that no
    runs can be chosen for."""
    _check(forecast)
    assert forecast.fit is not None
    runs = forecast.fit.table
    return Choice(plausible_laws(forecast), runs, own_sweep(runs), wanted)


def wanted_of(spec: NextSpec) -> Wanted:
    """What may be bought. Raises InputError."""
    if spec.budget is None:
        raise InputError("no budget was given", "say what the runs may cost: --budget 1e19")
    sizes = None
    if spec.sizes is not None:
        sizes = ends_said("--sizes", spec.sizes, lambda text: _count("--sizes", text))
    most = math.inf if spec.max_run_flops is None else _count("--max-run-flops", spec.max_run_flops)
    return Wanted(
        _count("--budget", spec.budget),
        spec.batch,
        ends_said("--tokens-per-param", spec.tokens_per_param, _ratio),
        sizes,
        most,
        spec.width,
    )


def _count(name: str, given: Any) -> float:
    return parse_amount(str(given), name)


def _ratio(given: Any) -> float:
    text = str(given).strip()
    return parse_budget(text if text.endswith("x") else f"{text}x").amount


def target_of(spec: NextSpec) -> dict[str, Any]:
    """What `predict` is asked for, by keyword. Raises InputError unless that is one run."""
    target: dict[str, Any] = {"flops": spec.target, "params": spec.params, "tokens": spec.tokens}
    given = {name: value for name, value in target.items() if value is not None}
    if np.ndim(spec.target) == 0 and spec.target is not None:
        _count("--target", spec.target)
    if set(given) not in ({"flops"}, {"params", "tokens"}):
        raise InputError(
            "the target of the forecast is not said"
            if not given
            else "the target is said twice"
            if "flops" in given
            else "half of the target is said",
            "give --target 1e22 for the best run of so many FLOPs, or --params and --tokens",
        )
    return given


def _forecast(asked: Asked, spec: NextSpec, settings: Given) -> Forecast:
    """The forecast of the target, as `predict` gives it. Raises InputError."""
    given = target_of(spec)
    if spec.law not in (None, "all") and not asked.given:
        _check_in_two(asked, spec, given)
    try:
        found = predict(asked.source, law=spec.law, refit=spec.refit, **given, **settings)
    except InputError:
        _check_tells_law(asked)
        raise
    assert isinstance(found, Forecast)
    return found


def _check_table(source: Any) -> None:
    """Raise InputError for the file of a sweep, which has no runs to choose by."""
    if not isinstance(source, str | Path) or Path(source).suffix != ".toml":
        return
    raise InputError(
        f"{source} is the file of a sweep, and runs are chosen by those that are there",
        "to train its smallest ones and go on from them, give --auto; or name the results folder "
        "of the sweep",
    )


def _check_tells_law(asked: Asked) -> None:
    """Raise InputError for runs that tell no law in N and D, such as a ladder of one budget."""
    if asked.given:
        return
    runs = read_for(asked)
    reason = no_chinchilla(runs.frame)
    if reason is not None:
        raise InputError(
            f"the next runs are chosen by a law in N and D, which these runs do not tell: "
            f"{reason.problem}",
            more_or_along(reason, runs, None),
        ) from None


def _check(found: Forecast) -> None:
    """Raise InputError for a forecast that is not of one run, or without an interval, or runs."""
    fit = found.fit
    assert fit is not None
    if np.ndim(found.loss):
        raise InputError("there are several targets", "give one: --target 1e22")
    if set(fit.law.inputs) != _IN_TWO:
        raise InputError(f"{fit.law.name} {_NO_COST}", law_in_both(None))
    if not len(fit.replicates) or not np.isfinite([found.low, found.high]).all():
        raise InputError(
            f"the fit of {fit.law.name} has no intervals, which more runs would narrow",
            "leave --bootstrap 0 out, or name the table to fit it again",
        )
    if fit.runs is None:
        raise InputError(
            "the runs of this fit are not here, and what is worth adding depends on them",
            "name the table in its place",
        )


def _check_in_two(asked: Asked, spec: NextSpec, target: Mapping[str, Any]) -> None:
    """Raise InputError if the law that is named is not in N and D."""
    assert spec.law is not None
    law = law_named(spec.law)
    if set(inputs_of(law)) == _IN_TWO:
        return
    raise InputError(f"{law.name} {_NO_COST}", law_in_both(read_for(asked), _flops_of(target)))


def _flops_of(target: Mapping[str, Any]) -> float | None:
    """The budget that is forecast, if it is one."""
    return _count("--target", target["flops"]) if "flops" in target else None


def plausible_laws(forecast: Forecast) -> list[Believed]:
    """The law of a forecast of one run, and those that forecast the same table as well, by their
    errors on it."""
    found = [(forecast, 1.0)]
    first, *others = forecast.chosen.contenders if forecast.chosen else (None,)
    for one in others:
        assert first is not None
        if not one.as_good:
            continue
        told = _forecast_by(forecast, one.law)
        if told is not None:
            worse = one.error / first.error if one.budgets and first.budgets else 1.0
            found.append((told, max(worse, 1.0) ** -2))
    total = sum(share for _, share in found)
    return [Believed(told, share / total) for told, share in found]


def _forecast_by(forecast: Forecast, law: str) -> Forecast | None:
    """The forecast of the same run by another law; None if it has no interval there."""
    assert forecast.fit is not None
    table, options = forecast.fit.table, forecast.fit.options
    at = {"params": forecast.params, "tokens": forecast.tokens}
    try:
        fit = bare_fit(table, law, replace(options, holdout="none"))
        told = forecast_at(fit, level=forecast.level, check=tested(fit, forecast.level), **at)
    except LlmscaleError:
        return None
    return told if np.isfinite([told.low, told.high]).all() else None
