"""`llmscale.advise`: what to train within limits of compute, text, and memory and speed of
serving."""

from dataclasses import replace
from typing import Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.api.advise_settings import AdviseSpec
from llmscale.explain.api.budget_asked import (
    budget_asked,
    check_one_budget,
    check_served,
    hardware_asked,
)
from llmscale.explain.api.fitted import Asked
from llmscale.explain.api.plan import check_laws, check_text, forecast_of, judge_of, knowing_text
from llmscale.explain.api.predict import asked_of, fit_of
from llmscale.explain.api.read import LawName, read_runs
from llmscale.explain.api.settings import asked_spec
from llmscale.explain.api.task import check_no_task, task_asked
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.task_score import Score
from llmscale.explain.fit.two_steps import TwoSteps, with_score
from llmscale.explain.forecast.chosen import Chosen
from llmscale.explain.planning.advice import Advice
from llmscale.explain.planning.advising import Adviser
from llmscale.explain.planning.deployment import Deployment, Load, Server
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.limits import Limits, best_within
from llmscale.explain.planning.real_shape import (
    USUAL_CONTEXT,
    USUAL_VOCABULARY,
    Setting,
    setting_of,
)
from llmscale.explain.planning.rounding import rounding_of
from llmscale.explain.table import RunTable
from llmscale.machine.gpus import gpu_named
from llmscale.settings import shows_keywords

_SERVED_ON = ("serve_on", "serve_memory", "serve_bandwidth")
_OF_SERVING = (
    "rounded",
    "tokens_per_second", "streams", "serve_context", "bytes_per_weight", "bytes_per_kv",
    "heads_per_kv", "memory_share", "bandwidth_share",
)  # fmt: skip
_LEAST: dict[str, tuple[float, str, str]] = {
    "serve_memory": (1e6, "", ""),
    "serve_bandwidth": (1e9, " a second", "/s"),
}
"""Bytes that any machine has: a number without a unit was meant in GB."""
_OF_LOAD = ("streams", "bytes_per_weight", "bytes_per_kv", "heads_per_kv")
_OF_SERVER = ("memory_share", "bandwidth_share")


@shows_keywords(AdviseSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def advise(
    source: Any = None, *, law: LawName | None = None, refit: bool = False, **settings: Any
) -> Advice:
    """What to train within limits: the shape and its tokens, the loss to expect, which limit binds,
    and what the alternatives cost.

    The budget is `flops`, or `gpu_hours` or `money` as `plan` takes them. There may be only so many
    `unique_tokens` of text. The model is served `serve_on` a GPU of the menu, or within
    `serve_memory` ("24GB") and `serve_bandwidth` ("300GB/s"), `streams` sequences at a time with
    `tokens_per_second` each at the least. `task` is a column with a score, to forecast by way of
    the loss. `source`, `law` and `settings` are as `predict` takes them; with `published` the law
    is Chinchilla's, as others fitted it. Raises InputError."""
    given: Any = settings  # those of Given among them are read
    spec = asked_spec(AdviseSpec, {"law": law, "refit": refit, **settings})
    hardware = hardware_asked(spec)
    check_one_budget(spec)
    check_served(spec)
    budget = budget_asked(spec, hardware)
    assert budget is not None
    if spec.task is None:
        check_no_task(spec)
    server = _server(spec)
    _check_heads(spec)
    asked = asked_of(source, spec, given)
    check_laws(asked)
    rounded = _rounded(spec)
    score: Score | None = None
    if spec.task is not None:
        asked, score = task_asked(asked, spec)
    unique = spec.unique_tokens
    if unique is not None:
        asked = knowing_text(asked)
    asked_for = Limits(budget.flops.value, unique)
    fit, chosen = _fit_for(asked, spec, asked_for, server)
    limits, setting = _within(fit, spec, asked_for, server)
    judge = replace(judge_of(asked, fit, unique), hardware=hardware)
    adviser = Adviser(
        judge,
        limits,
        setting,
        served=spec.inference_tokens,
        steps=_steps(score, judge, asked),
        rounding=None if rounded is None else rounding_of(rounded, judge.level),
    )
    best, _ = forecast_of(replace(judge, unique=None), limits.flops)
    return adviser.advice(replace(best, chosen=chosen), budget.said)


def _fit_for(
    asked: Asked, spec: AdviseSpec, asked_for: Limits, server: Server | None
) -> tuple[Fit, Chosen | None]:
    """The law that is named, or that forecasts best what it advises: far off the best of a budget
    that may be another law than at the best."""
    fit, chosen = fit_of(asked, {"flops": np.asarray(asked_for.flops)})
    judge = judge_of(asked, fit, asked_for.unique)
    check_text(judge, asked_for.flops)
    limits, setting = _within(fit, spec, asked_for, server)
    model = best_within(judge, limits, setting)
    if asked.given or asked.laws or model == best_within(judge, asked_for, setting):
        return fit, chosen
    at = judge.surface.inputs(np.asarray(model.params), np.asarray(model.tokens))
    return fit_of(asked, at)


def _within(
    fit: Fit, spec: AdviseSpec, asked_for: Limits, server: Server | None
) -> tuple[Limits, Setting]:
    """All limits, and what a shape depends on."""
    setting = setting_of(fit, spec.arch, spec.vocab_size, spec.context)
    if server is None:
        return asked_for, setting
    given = {name: getattr(spec, name) for name in _OF_LOAD if getattr(spec, name) is not None}
    setting = replace(setting, heads_per_kv=given.get("heads_per_kv", 1))
    load = Load(context=int(spec.serve_context or setting.context), **given)
    deployment = Deployment(server, load, spec.tokens_per_second)
    return replace(asked_for, deployment=deployment), setting


def _steps(score: Score | None, judge: Judge, asked: Asked) -> TwoSteps | None:
    """Both laws on the way to a score."""
    if score is None:
        return None
    return with_score(judge.fit, score, Options(**{**asked.options, "level": judge.level}))


def _rounded(spec: AdviseSpec) -> RunTable | None:
    """The table that says what rounding costs. Raises InputError for one that does not."""
    if spec.rounded is None:
        return None
    table = read_runs(spec.rounded)
    rounding_of(table, Options().level)  # refused before anything is fitted
    return table


def _server(spec: AdviseSpec) -> Server | None:
    """What the model is served on; None if nothing is said of it. Raises InputError."""
    _check_machine(spec)
    if spec.serve_gpus is not None and spec.serve_on is None:
        raise InputError("--serve-gpus are of no kind", "name one: --serve-on l4")
    if all(getattr(spec, name) is None for name in _SERVED_ON):
        named = [name for name in _OF_SERVING if getattr(spec, name) is not None]
        if named:
            raise InputError(
                f"--{named[0].replace('_', '-')} is about serving, and nothing is said of what the "
                "model is served on",
                "add --serve-on l4, or --serve-memory 24GB --serve-bandwidth 300GB/s",
            )
        return None
    given = {name: getattr(spec, name) for name in _OF_SERVER if getattr(spec, name) is not None}
    if spec.serve_on is not None:
        return replace(_of_gpus(spec), **given)
    if spec.tokens_per_second is not None and spec.serve_bandwidth is None:
        raise InputError(
            "--tokens-per-second follows from the bandwidth of the memory, which is not given",
            "add --serve-bandwidth 300GB/s, or --serve-on l4",
        )
    return Server("the server", spec.serve_memory, spec.serve_bandwidth, **given)


def _check_machine(spec: AdviseSpec) -> None:
    """Raise InputError for fewer bytes than any machine has."""
    for name, (least, each, per) in _LEAST.items():
        value, flag = getattr(spec, name), f"--{name.replace('_', '-')}"
        if value is not None and value < least:
            raise InputError(
                f"{flag} is {value:,.6g} bytes{each}, less than any machine has",
                f"give it with its unit: {flag} {value:g}GB{per}",
            )


def _check_heads(spec: AdviseSpec) -> None:
    """Raise InputError if no built-in shape has heads that share their keys like that."""
    if spec.heads_per_kv is not None:
        # The heads of shapes do not depend on the vocabulary, nor on the context.
        arch = spec.arch or "llama"
        _ = Setting(arch, USUAL_VOCABULARY, USUAL_CONTEXT, int(spec.heads_per_kv)).shapes


def _of_gpus(spec: AdviseSpec) -> Server:
    """One GPU of the menu, or several that read their parts of a model at a time. Raises
    InputError."""
    assert spec.serve_on is not None
    gpu, number = gpu_named(spec.serve_on), spec.serve_gpus or 1
    for name in ("serve_memory", "serve_bandwidth"):
        if getattr(spec, name) is not None:
            raise InputError(
                f"--serve-on says what the {gpu.name} has, and --{name.replace('_', '-')} is given "
                "as well",
                "give one of them; several GPUs are --serve-gpus 8",
            )
    return Server(
        gpu.name if number == 1 else f"{number:,} x {gpu.name}",
        number * gpu.memory_bytes,
        number * gpu.memory_bytes_per_second,
        number * gpu.peak_flops,
    )
