"""`llmscale.predict`: the loss of runs that nobody has made yet, and the best split of a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np

from llmscale.errors import InputError, both
from llmscale.errors.command_lines import command_line
from llmscale.explain.api.best_of_budget import best_of
from llmscale.explain.api.choosing import best_fit
from llmscale.explain.api.curve_end import predict_end
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.fitted import (
    Asked,
    check_given,
    check_variable,
    fits_of,
    read_for,
    tested,
)
from llmscale.explain.api.plan_settings import BudgetSpec
from llmscale.explain.api.published import source_asked
from llmscale.explain.api.read import LawName, laws_of
from llmscale.explain.api.settings import (
    Given,
    PredictSpec,
    asked_spec,
    options_given,
    reading_given,
)
from llmscale.explain.api.task import check_no_task, task_asked
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import default_laws
from llmscale.explain.fit.two_steps import TaskForecast, with_score
from llmscale.explain.forecast.asked import forecast_at, points_asked, tokens_asked
from llmscale.explain.forecast.chosen import Chosen
from llmscale.explain.forecast.curve_end import EndForecast
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.laws import Array
from llmscale.explain.table import RunTable
from llmscale.settings import shows_keywords, stated_options

_IN_TWO = {"params", "tokens", "flops"}
"""What laws in N and D can be asked for, two at a time."""
_OWN_OPTIONS = ("params", "tokens", "flops")
"""Inputs that have options of their own; `--inputs` gives the others."""


@overload
def predict(
    source: Any = None,
    *,
    from_curve: Path | str,
    params: Any = None,
    tokens: Any = None,
    flops: Any = None,
    inputs: Mapping[str, Any] | None = None,
    task: None = None,
    task_loss: None = None,
    task_law: None = None,
    law: LawName | None = None,
    refit: bool = False,
    published: bool = False,
    **settings: Unpack[Given],
) -> EndForecast: ...


@overload
def predict(
    source: Any = None,
    *,
    task: str,
    params: Any = None,
    tokens: Any = None,
    flops: Any = None,
    from_curve: None = None,
    inputs: Mapping[str, Any] | None = None,
    task_loss: str | None = None,
    task_law: LawName | None = None,
    law: LawName | None = None,
    refit: bool = False,
    published: bool = False,
    **settings: Unpack[Given],
) -> TaskForecast: ...


@overload
def predict(
    source: Any = None,
    *,
    params: Any = None,
    tokens: Any = None,
    flops: Any = None,
    from_curve: None = None,
    inputs: Mapping[str, Any] | None = None,
    task: None = None,
    task_loss: None = None,
    task_law: None = None,
    law: LawName | None = None,
    refit: bool = False,
    published: bool = False,
    **settings: Unpack[Given],
) -> Forecast: ...


@shows_keywords(PredictSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def predict(
    source: Any = None,
    *,
    params: Any = None,
    tokens: Any = None,
    flops: Any = None,
    from_curve: Path | str | None = None,
    inputs: Mapping[str, Any] | None = None,
    task: str | None = None,
    task_loss: str | None = None,
    task_law: LawName | None = None,
    law: LawName | None = None,
    refit: bool = False,
    published: bool = False,
    **settings: Unpack[Given],
) -> Any:
    """The loss of new runs, with an interval that is meant to hold beyond the runs, too.

    `source` is a fit, the file of one (fit-LAW.json), or a table as `fit` takes it, of which a fit
    that is kept next to it is used unless `refit`. `params`, `tokens` and `flops` are numbers,
    texts such as "7B" ("20x" is 20 tokens a parameter), or several of them; `inputs` are other
    columns that the law takes. `flops` only asks a law in N and D for the best size and tokens of
    the budget: they are in `params` and `tokens` of what is returned. Without `law` that one of
    anchored and chinchilla is taken that erred least when it was fitted to the lower budgets of the
    table and asked for the higher ones, and `chosen` says so; "all" tries every law in N and D.
    `from_curve`, a run of a results folder or the log of any run, asks for the end of that run
    (EndForecast). `task` is a column with the score of a task, which is forecast by way of the
    loss, or of the column `task_loss` (TaskForecast). With `published` the law is Chinchilla's, as
    others published it, in place of a `source`. `settings` are those of docs/settings.md: how to
    read the table, and how to fit. Raises InputError."""
    keywords = {"params": params, "tokens": tokens, "flops": flops, "inputs": inputs}
    keywords |= {"task": task, "task_loss": task_loss, "task_law": task_law}
    keywords |= {"law": law, "refit": refit, "from_curve": from_curve}
    keywords |= {"published": published, **settings}
    spec = asked_spec(PredictSpec, keywords)
    if spec.task is None:
        check_no_task(spec)
    if spec.from_curve is not None:
        if spec.published:
            raise InputError(
                "--from-curve is judged by finished runs, and --published has none",
                "leave --published out, and name the results folder of the run",
            )
        return predict_end(source, spec, reading_given(settings))
    points = _points(spec)
    if not points:
        raise _nothing_asked(source_asked(source, spec.published), spec)
    asked = asked_of(source, spec, settings)
    check_variable(asked.laws, asked.options)
    if spec.task is None:
        return _forecast(asked, points)
    asked, score = task_asked(asked, spec)
    loss = _forecast(asked, points)
    assert loss.fit is not None
    options = Options(**{**asked.options, "level": loss.level})
    return with_score(loss.fit, score, options).after(loss)


def asked_of(source: Any, spec: PredictSpec | BudgetSpec | ExploreSpec, given: Given) -> Asked:
    """What a forecast, a plan or a page is to be made of. Raises InputError."""
    every = spec.law == "all"
    laws = () if every else laws_of(spec.law)
    source = source_asked(source, spec.published)
    options = options_given(spec, given)
    return Asked(source, laws, reading_given(given), options, spec.refit, every)


def _forecast(asked: Asked, points: Mapping[str, Array]) -> Forecast:
    """The loss at points, or at the best ones of budgets."""
    fit, chosen = fit_of(asked, points)
    level = Options(level=asked.options.get("level", fit.level)).level
    budgets = set(points) == {"flops"} and "flops" not in fit.law.inputs
    if budgets:
        return replace(best_of(fit, points["flops"], level), chosen=chosen)
    _check_inputs(fit, tuple(points))
    found = forecast_at(fit, level=level, check=tested(fit, level), **points)
    if "flops" in points and "flops" not in fit.law.inputs:
        # N or D follows from the budget: both stand next to it.
        flops = np.broadcast_to(points["flops"], np.shape(found.loss))
        found = replace(found, at={"flops": flops if flops.ndim else float(flops), **found.at})
    return replace(found, chosen=chosen)


def fit_of(asked: Asked, points: Mapping[str, Array]) -> tuple[Fit, Chosen | None]:
    """The fit that is given or of the law that is named, or else that of the best law and why."""
    if asked.given:
        if asked.every:
            raise InputError("a fit is of one law", "leave --law out, or name the table")
        fit = asked.given[0]
        check_given(fit, asked, but=("level",))
        return fit, None
    runs = read_for(asked)
    in_two = set(points) == {"flops"} or (len(points) == 2 and set(points) <= _IN_TWO)
    if not asked.laws and set(points) <= _IN_TWO and not in_two:
        _check_two(asked, runs, points)
    if asked.every and not in_two:
        raise InputError(
            f"all laws in N and D are asked for, and {_given(points)}",
            "give --params and --tokens, or --flops; or leave --law out",
        )
    if asked.laws or not in_two:
        return fits_of(asked, runs, first=True, holdout="none")[0], None
    return best_fit(asked, runs, points)


def _check_two(asked: Asked, runs: RunTable, points: Mapping[str, Array]) -> None:
    """Raise InputError if runs that tell a law in N and D are not asked for in both."""
    in_one = "variable" in asked.options or default_laws(runs)[0] != "chinchilla"
    if in_one:
        return
    raise InputError(
        f"a law in N and D predicts from params and tokens, and {_given(points)}",
        "give --params and --tokens, or --flops; or name a law in one: --law power-floor"
        f"{'' if 'params' in points else f' --variable {next(iter(points))}'}",
    )


def _given(points: Mapping[str, Array]) -> str:
    """`--params was given`."""
    were = "was" if len(points) == 1 else "were"
    return f"{both([f'--{name}' for name in points])} {were} given"


def _points(spec: PredictSpec) -> dict[str, Array]:
    """What is asked for, by column, in shapes that go together. Raises InputError."""
    counts = {"params": spec.params, "flops": spec.flops, "tokens": spec.tokens}
    given = {name: value for name, value in counts.items() if value is not None}
    others = spec.inputs or {}
    assert not isinstance(others, str)
    for name in others:
        if name in given:
            raise InputError(f"{name} is given twice, once in inputs", "give it once")
    tokens = given.pop("tokens", None)
    points = points_asked({**given, **others})
    if tokens is not None:
        points = points_asked({**points, "tokens": tokens_asked(tokens, points.get("params"))})
    return points


def _nothing_asked(source: Any, spec: PredictSpec) -> InputError:
    """What a law predicts from, of the fit at hand if there is one."""
    problem = "nothing was asked for"
    if isinstance(source, Fit):
        return InputError(problem, _wanted(source))
    table = (source,) if isinstance(source, (str, Path)) else ()
    options = stated_options(spec)
    example = command_line("llmscale", "predict", *table, *options, "--flops", "1e23")
    return InputError(problem, f"give --params and --tokens, or --flops: {example}")


def _wanted(fit: Fit) -> str:
    """`give --params and --tokens`, or what else gives all that the law takes."""
    needed = fit.law.inputs
    either = ", or --flops" if set(needed) == {"params", "tokens"} else ""
    return f"give {_options_of(needed)}{either}"


def _options_of(names: Sequence[str]) -> str:
    """The options that give what a law takes: `--params and --inputs n_experts=...`."""
    own = [f"--{name}" for name in names if name in _OWN_OPTIONS]
    others = ",".join(f"{name}=..." for name in names if name not in _OWN_OPTIONS)
    return both([*own, f"--inputs {others}"] if others else own)


def _check_inputs(fit: Fit, given: tuple[str, ...]) -> None:
    """Raise InputError unless `given` is what the law predicts from, naming the options that give
    it."""
    needed = fit.law.inputs
    one_of_two = set(given) in ({"params", "flops"}, {"tokens", "flops"})
    if set(given) == set(needed) or (one_of_two and {"params", "tokens"} == set(needed)):
        return
    asked = both([f"--{name}" if name in _OWN_OPTIONS else name for name in given])
    fix = f"give {_options_of(needed)}, and nothing else; or name another --law"
    were = "was" if len(given) == 1 else "were"
    raise InputError(f"{fit.law.name} predicts from {both(needed)}, and {asked} {were} given", fix)
