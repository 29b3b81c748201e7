"""Makes the plan of a budget by a law."""

from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.planning.basin import SMALLER, Basin, basin_of, smaller_models
from llmscale.explain.planning.budget import Budget
from llmscale.explain.planning.choice import Choice, Run
from llmscale.explain.planning.doubts import doubts
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.real_shape import Setting, real_shape
from llmscale.explain.planning.repetition import repetition_of
from llmscale.explain.planning.serving import Serving, serving_of
from llmscale.explain.planning.training_plan import TrainingPlan
from llmscale.quantity import format_count

_NAMES = ("1/2 N, same loss", "1/4 N, same loss")


@dataclass(frozen=True)
class Wanted:
    """What a plan is asked for besides its budget."""

    within: float
    setting: Setting
    served: float | None = None


def make_plan(
    judge: Judge, forecast: Forecast, budget: Budget, optimum: Optimum | None, wanted: Wanted
) -> TrainingPlan:
    """The plan of a budget whose best run has this forecast; `optimum` is what `predict` says of
    its size, None if the law is one of limited text."""
    flops = budget.flops.value
    with np.errstate(all="ignore"):
        params, tokens = _sizes(judge, flops, optimum)
        basin = basin_of(judge, flops, wanted.within)
        smaller = smaller_models(judge, flops, SMALLER)
        serving = None
        if wanted.served is not None:
            serving = _as_wide(serving_of(judge, flops, wanted.served), optimum)
        repetition = None
        if judge.unique is not None:
            repetition = repetition_of(judge, flops, wanted.within)
        runs = _other_runs(judge, flops, basin, serving)
        for one, name in zip(smaller, _NAMES, strict=True):
            if np.isfinite(one.tokens):
                runs.append(Run(name, one.share * params.value, one.tokens))
        shape = real_shape(judge, params.value, flops, wanted.setting, budget.loss)
        alternatives = judge.choices(runs)
        if repetition is not None and repetition.epochs > 1:
            alternatives += _on_new_text(judge, flops)
    return TrainingPlan(
        budget=budget,
        params=params,
        tokens=tokens,
        forecast=forecast,
        basin=basin,
        smaller=smaller,
        alternatives=alternatives,
        setting=wanted.setting,
        judge=judge,
        shape=shape,
        serving=serving,
        repetition=repetition,
        notes=doubts(judge, budget, params.value, tokens.value, serving, shape),
    )


def _sizes(judge: Judge, flops: float, optimum: Optimum | None) -> tuple[Estimate, Estimate]:
    """N and D of the best run; if it repeats its text, with the intervals of the refits, widened as
    those of `predict` are."""
    if optimum is not None and (judge.unique is None or optimum.tokens <= judge.unique):
        return _of(optimum, "params"), _of(optimum, "tokens")
    params, tokens = judge.estimates(lambda surface: surface.best(flops))
    return widened(params, optimum, "params"), widened(tokens, optimum, "tokens")


def widened(by_refits: Estimate, optimum: Optimum | None, name: str) -> Estimate:
    """An estimate of N or D with its interval widened as much as that of the best size is, beyond
    what refits say of it."""
    if optimum is None or not {name, "law_params"} <= set(optimum.intervals):
        return by_refits
    low, high = optimum.intervals["law_params"]
    if name == "tokens":
        # 6ND = C in every refit.
        low, high = (optimum.params * optimum.tokens / end for end in (high, low))
    told = optimum.intervals[name]
    return replace(
        by_refits, low=by_refits.low * told[0] / low, high=by_refits.high * told[1] / high
    )


def _of(optimum: Optimum, name: str) -> Estimate:
    ends = optimum.intervals.get(name)
    value = float(getattr(optimum, name))
    return Estimate(value) if ends is None else Estimate(value, *ends)


def _as_wide(serving: Serving, optimum: Optimum | None) -> Serving:
    return replace(
        serving,
        params=widened(serving.params, optimum, "params"),
        tokens=widened(serving.tokens, optimum, "tokens"),
    )


def _other_runs(judge: Judge, flops: float, basin: Basin, serving: Serving | None) -> list[Run]:
    """Less and more compute, and smaller and larger models at equal compute."""
    best = judge.surface.best
    runs = [
        _run("half the compute", *best(0.5 * flops), 0.5 * flops),
        _run("twice the compute", *best(2 * flops), 2.0 * flops),
    ]
    params, tokens = map(float, best(flops))
    for name, share in basin.edges.items():
        runs.append(Run(f"{name}, same C", share * params, tokens / share, flops))
    if serving is not None:
        served = f"to serve {format_count(serving.served)}"
        runs.append(Run(served, serving.params.value, serving.tokens.value))
        if serving.in_budget is not None:
            runs.append(Run(f"{format_count(serving.served)} served in C", *serving.in_budget))
    return runs


def _run(name: str, params: float, tokens: float, flops: float) -> Run:
    return Run(name, float(params), float(tokens), flops)


def _on_new_text(judge: Judge, flops: float) -> tuple[Choice, ...]:
    freely = replace(judge, unique=None)
    return freely.choices([_run("on new text", *freely.surface.best(flops), flops)])
