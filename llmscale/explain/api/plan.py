"""`llmscale.plan`: what to train with a budget, what it costs, and what may be chosen instead."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError, both
from llmscale.explain.api.best_of_budget import best_of, check_told, check_trend
from llmscale.explain.api.budget_asked import (
    budget_asked,
    check_one_budget,
    check_served,
    check_worth_training,
    hardware_asked,
)
from llmscale.explain.api.fitted import Asked, read_for, tested
from llmscale.explain.api.plan_settings import PlanSpec
from llmscale.explain.api.predict import asked_of, fit_of
from llmscale.explain.api.read import LawName
from llmscale.explain.api.settings import Given, asked_spec
from llmscale.explain.api.written_over import refuse_input
from llmscale.explain.estimation.identifiability import unusable, why_not
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import inputs_of, law_in_both
from llmscale.explain.figures._place import check_place
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.forecast.chosen import Chosen
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.laws import LAWS, law_named
from llmscale.explain.planning.budget import Budget
from llmscale.explain.planning.cost import Hardware
from llmscale.explain.planning.inverse import flops_for_loss
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.make import Wanted, make_plan
from llmscale.explain.planning.real_shape import setting_of
from llmscale.explain.planning.surface import IN_TWO, OF_TEXT, UNIQUE
from llmscale.explain.planning.target import target_in, target_of
from llmscale.explain.planning.training_plan import TrainingPlan
from llmscale.explain.table import RunTable
from llmscale.settings import shows_keywords

_KNOWS_TEXT = "data-constrained"
_LEAST_TEXT, _MOST_EPOCHS = 1e5, 1000.0
"""Text of fewer tokens than a short book, gone over more often, is one whose B was forgotten."""
_REPEATED = 1.01
"""Passes over the text from which on it is repeated: counts of tokens are rounded."""


@shows_keywords(PlanSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def plan(
    source: Any = None,
    *,
    flops: float | str | None = None,
    gpu_hours: float | str | None = None,
    hours: float | None = None,
    money: float | str | None = None,
    loss: float | None = None,
    gpu: str | None = None,
    gpus: int | None = None,
    mfu: float | None = None,
    price_per_hour: float | None = None,
    pue: float | None = None,
    within: float | str = 0.005,
    inference_tokens: float | str | None = None,
    unique_tokens: float | str | None = None,
    arch: str | None = None,
    vocab_size: int | None = None,
    context: int | None = None,
    law: LawName | None = None,
    refit: bool = False,
    published: bool = False,
    output: Path | str | None = None,
    **settings: Unpack[Given],
) -> TrainingPlan:
    """What to train with a budget: size and tokens with intervals, the loss to expect, the nearest
    model that can be built, time, money and energy, and what may be chosen instead.

    The budget is `flops` (C = 6ND), or `gpu_hours` or `hours` of `gpus` of a kind `gpu`, or `money`
    at a `price_per_hour` of one, or the least compute that reaches a `loss`. `within` is how much
    of the loss another size may cost. With `inference_tokens` to serve, the run that costs least
    over the model's life is told (Sardana et al. 2024); with `unique_tokens` of text, more are
    passes over it again (Muennighoff et al. 2023). With `published` the law is Chinchilla's, as
    others published it, in place of a `source`; `source`, `law` and `settings` as `predict` takes
    them. Raises InputError."""
    keywords: dict[str, Any] = {"flops": flops, "gpu_hours": gpu_hours, "hours": hours}
    keywords |= {"money": money, "loss": loss, "within": within}
    keywords |= {"gpu": gpu, "gpus": gpus, "mfu": mfu, "pue": pue}
    keywords |= {"price_per_hour": price_per_hour, "inference_tokens": inference_tokens}
    keywords |= {"unique_tokens": unique_tokens, "arch": arch, "vocab_size": vocab_size}
    keywords |= {"context": context, "law": law, "refit": refit, "output": output}
    keywords |= {"published": published, **settings}
    spec = asked_spec(PlanSpec, keywords)
    hardware = hardware_asked(spec)
    check_one_budget(spec)
    check_served(spec)
    budget = budget_asked(spec, hardware)
    place = None if spec.output is None else Path(spec.output).expanduser()
    if place is not None:
        check_place(place)
        refuse_input(place, source)
    asked = asked_of(source, spec, settings)
    check_laws(asked, None if budget is None else budget.flops.value)
    made = _made(asked, spec, hardware, budget)
    return made if place is None else replace(made, drawn=made.draw().save(place).path)


def _made(
    asked: Asked, spec: PlanSpec, hardware: Hardware | None, budget: Budget | None
) -> TrainingPlan:
    """The plan of a budget, or of the loss that is asked for."""
    unique = spec.unique_tokens
    if unique is not None:
        asked = knowing_text(asked)
    if budget is not None:
        fit, chosen = _fit_at(asked, budget.flops.value)
    else:
        assert spec.loss is not None
        budget, fit, chosen = _for_loss(asked, unique, spec.loss)
    flops = budget.flops.value
    judge = replace(judge_of(asked, fit, unique), hardware=hardware)
    forecast, optimum = forecast_of(judge, flops)
    wanted = Wanted(
        within=spec.within,
        setting=setting_of(fit, spec.arch, spec.vocab_size, spec.context),
        served=spec.inference_tokens,
    )
    return make_plan(judge, replace(forecast, chosen=chosen), budget, optimum, wanted)


def _for_loss(asked: Asked, unique: float | None, loss: float) -> tuple[Budget, Fit, Chosen | None]:
    """The least compute that reaches a loss, by the law that is taken at that compute."""
    usual = 1.0
    if not asked.given:
        runs = read_for(asked)
        target_in(runs.loss_unit, runs.metric, loss)  # refused before anything is fitted
        usual = _usual_flops(runs)
    fit, chosen = _fit_at(asked, usual)
    target = target_of(fit, loss)
    found = flops_for_loss(judge_of(asked, fit, unique), target)
    again, chosen = _fit_at(asked, found.value)
    if again.law.name != fit.law.name:
        found = flops_for_loss(judge_of(asked, again, unique), target)
    check_worth_training(found.value, "ask for a lower loss")
    return Budget(found, target.said, target.loss), again, chosen


def _usual_flops(runs: RunTable) -> float:
    """A budget that the table knows: its largest."""
    frame = runs.frame
    largest = float((6.0 * frame["params"] * frame["tokens"]).max())
    return largest if largest > 0 else 1.0


def _fit_at(asked: Asked, flops: float) -> tuple[Fit, Chosen | None]:
    """The fit that is taken at a budget, and why."""
    return fit_of(asked, {"flops": np.asarray(flops)})


def check_laws(asked: Asked, flops: float | None = None) -> None:
    """Raise InputError for a law that is given or named and is none in N and D, before anything is
    fitted; about so many FLOPs are asked for."""
    for fit in asked.given[:1]:
        _check_in_two(fit.law.name, fit.law.inputs, law_in_both(None))
    for kind in map(law_named, asked.laws):
        if tuple(inputs_of(kind)) not in (IN_TWO, OF_TEXT):
            runs = read_for(asked)
            told = law_in_both(runs, _usual_flops(runs) if flops is None else flops)
            _check_in_two(kind.name, inputs_of(kind), told)


def _check_in_two(name: str, inputs: Sequence[str], fix: str) -> None:
    if tuple(inputs) not in (IN_TWO, OF_TEXT):
        raise InputError(
            f"{name} predicts from {both(list(inputs))}, and a plan takes a law in N and D",
            fix,
        )


def judge_of(asked: Asked, fit: Fit, unique: float | None) -> Judge:
    """How runs are judged by a fit. Raises InputError if it tells no best size."""
    _check_in_two(fit.law.name, fit.law.inputs, law_in_both(None))
    check_trend(fit)
    level = Options(level=asked.options.get("level", fit.level)).level
    return Judge(fit, level, tested(fit, level), unique)


def knowing_text(asked: Asked) -> Asked:
    """Asks for the law that knows what repeated text is worth, if none is named and the table has
    runs that repeat theirs."""
    if asked.given or asked.laws or asked.every:
        return asked
    runs = read_for(asked)
    return replace(asked, laws=(_KNOWS_TEXT,)) if _tells_repetition(runs) else asked


def check_text(judge: Judge, flops: float) -> None:
    """Raise InputError if the runs tell no best size, or for text that is too short for one."""
    fit, unique = judge.fit, judge.unique
    freely = replace(judge, unique=None).surface
    if unique is None or not freely.knows_text:
        params, tokens = map(float, freely.best(flops))
        check_told(fit, Optimum(flops, params, tokens, float(freely.loss(params, tokens))))
    if unique is None:
        return
    epochs = float(judge.surface.best(flops)[1]) / unique
    if unique < _LEAST_TEXT and epochs > _MOST_EPOCHS:
        raise InputError(
            f"{unique:,.6g} unique tokens are too few: the best run of {flops:.3g} FLOPs would go "
            f"over them {epochs:.3g} times",
            f"give them in tokens, as in --unique-tokens {unique:g}B",
        )


def _tells_repetition(runs: RunTable) -> bool:
    frame, law = runs.frame, LAWS.find(_KNOWS_TEXT)
    if UNIQUE not in frame or not (frame["tokens"] > _REPEATED * frame[UNIQUE]).any():
        return False
    return unusable(law, frame, OF_TEXT) is None and why_not(law, frame, OF_TEXT) is None


def forecast_of(judge: Judge, flops: float) -> tuple[Forecast, Optimum | None]:
    """The forecast of the best run of a budget, as `predict` gives it unless text is repeated; and
    the best run if no text was, None by a law that is one of repeated text."""
    fit, optimum = judge.fit, None
    check_text(judge, flops)
    if not judge.surface.knows_text:
        freely = best_of(fit, np.asarray(flops), judge.level)
        optimum = freely.optima[0]
        if judge.unique is None or optimum.tokens <= judge.unique:
            return freely, optimum
    params, tokens = map(float, judge.surface.best(flops))
    loss = float(judge.surface.loss(params, tokens))
    check_told(fit, Optimum(flops, params, tokens, loss))
    told = forecast_at(fit, **judge.asked(params, tokens))
    return replace(told, at={"flops": flops, "params": params, "tokens": tokens}), optimum
