"""`llmscale.advise`: what to train within limits of compute, text, and memory and speed of
serving."""

from dataclasses import replace
from typing import Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.api.advise_settings import AdviseSpec
from llmscale.explain.api.budget_asked import (
    amount_asked,
    budget_asked,
    check_one_budget,
    hardware_asked,
)
from llmscale.explain.api.fitted import Asked
from llmscale.explain.api.plan import forecast_of, judge_of, knowing_text
from llmscale.explain.api.predict import fit_of
from llmscale.explain.api.published import source_asked
from llmscale.explain.api.read import LawName, laws_of, read_runs
from llmscale.explain.api.settings import asked_spec, options_given, reading_given
from llmscale.explain.api.task import check_no_task, task_asked
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.task_score import Score
from llmscale.explain.fit.two_steps import with_score
from llmscale.explain.forecast.chosen import Chosen
from llmscale.explain.planning.advice import Advice
from llmscale.explain.planning.advising import Adviser
from llmscale.explain.planning.deployment import Deployment, Load, Server
from llmscale.explain.planning.limits import Limits
from llmscale.explain.planning.real_shape import Setting, setting_of
from llmscale.explain.planning.rounding import rounding_of
from llmscale.machine.gpus import gpu_named
from llmscale.quantity import parse_bytes
from llmscale.settings import shows_keywords

_SERVED_ON = ("serve_on", "serve_memory", "serve_bandwidth")
_OF_SERVING = (
    "rounded",
    "tokens_per_second", "streams", "serve_context", "bytes_per_weight", "bytes_per_kv",
    "heads_per_kv", "memory_share", "bandwidth_share",
)  # fmt: skip
_OF_LOAD = ("streams", "bytes_per_weight", "bytes_per_kv", "heads_per_kv")
_OF_SERVER = ("memory_share", "bandwidth_share")


@shows_keywords(AdviseSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def advise(
    source: Any = None, *, law: LawName | None = None, refit: bool = False, **settings: Any
) -> Advice:
    """What to train within limits: the shape and its tokens, the loss to expect, which limit binds,
    and what the alternatives cost.

    The budget is `flops`, or `gpu_hours` as `plan` takes them. There may be only so many
    `unique_tokens` of text. The model is served `serve_on` a GPU of the menu, or within
    `serve_memory` ("24GB") and `serve_bandwidth` ("300GB/s"), `streams` sequences at a time with
    `tokens_per_second` each at the least. `task` is a column with a score, to forecast by way of
    the loss. `source`, `law` and `settings` are as `predict` takes them; with `published` the law
    is Chinchilla's, as others fitted it. Raises InputError."""
    given: Any = settings
    spec = asked_spec(AdviseSpec, {"law": law, "refit": refit, **settings})
    hardware = hardware_asked(spec)
    check_one_budget(spec)
    if spec.task is None:
        check_no_task(spec)
    server = _server(spec)
    asked = Asked(
        source_asked(source, spec.published),
        laws_of(spec.law),
        reading_given(given),
        options_given(spec, given),
        spec.refit,
    )
    score: Score | None = None
    if spec.task is not None:
        asked, score = task_asked(asked, spec)
    unique = amount_asked("unique_tokens", spec.unique_tokens)
    if unique is not None:
        asked = knowing_text(asked)
    budget = budget_asked(spec, hardware)
    assert budget is not None
    adviser, chosen = _adviser(asked, spec, Limits(budget.flops.value, unique), server)
    adviser = replace(
        adviser,
        judge=replace(adviser.judge, hardware=hardware),
        served=amount_asked("inference_tokens", spec.inference_tokens),
    )
    judge = adviser.judge
    if spec.rounded is not None:
        rounding = rounding_of(read_runs(spec.rounded), judge.level)
        adviser = replace(adviser, rounding=rounding)
    if score is not None:
        options = Options(**{**asked.options, "level": judge.level})
        adviser = replace(adviser, steps=with_score(judge.fit, score, options))
    freely, _ = forecast_of(replace(judge, unique=None), budget.flops.value)
    return adviser.advice(replace(freely, chosen=chosen), budget.said)


def _adviser(
    asked: Asked, spec: AdviseSpec, limits: Limits, server: Server | None
) -> tuple[Adviser, Chosen | None]:
    """By the law that forecasts best at what it advises: a model that is far from the best of its
    budget may take another law than the best one."""
    fit, chosen = fit_of(asked, {"flops": np.asarray(limits.flops)}, every=False)
    found = _of(fit, asked, spec, limits, server)
    model = found.best_within(found.limits)
    is_best = model.params >= float(found.judge.surface.best(limits.flops)[0])
    if is_best or asked.given or asked.laws:
        return found, chosen
    at = found.judge.surface.inputs(np.asarray(model.params), np.asarray(model.tokens))
    fit, chosen = fit_of(asked, at, every=False)
    return _of(fit, asked, spec, limits, server), chosen


def _of(fit: Fit, asked: Asked, spec: AdviseSpec, limits: Limits, server: Server | None) -> Adviser:
    setting = setting_of(fit, spec.arch, spec.vocab_size, spec.context)
    deployment = None if server is None else _deployment(spec, server, setting)
    judge = judge_of(asked, fit, limits.unique)
    return Adviser(judge, replace(limits, deployment=deployment), setting)


def _server(spec: AdviseSpec) -> Server | None:
    """What the model is served on; None if nothing is said of it. Raises InputError."""
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
    memory = _bytes("serve_memory", spec.serve_memory)
    bandwidth = _bytes("serve_bandwidth", spec.serve_bandwidth, per_second=True)
    if spec.serve_on is None:
        server = Server("the server", memory, bandwidth, **given)
    else:
        gpu = gpu_named(spec.serve_on)
        server = Server(
            gpu.name,
            gpu.memory_bytes if memory is None else memory,
            gpu.memory_bytes_per_second if bandwidth is None else bandwidth,
            gpu.peak_flops,
            **given,
        )
    if spec.tokens_per_second is not None and server.bytes_per_second is None:
        raise InputError(
            "--tokens-per-second follows from the bandwidth of the memory, which is not given",
            "add --serve-bandwidth 300GB/s, or --serve-on l4",
        )
    return server


def _deployment(spec: AdviseSpec, server: Server, setting: Setting) -> Deployment:
    given = {name: getattr(spec, name) for name in _OF_LOAD if getattr(spec, name) is not None}
    load = Load(context=int(spec.serve_context or setting.context), **given)
    return Deployment(server, load, spec.tokens_per_second)


def _bytes(name: str, value: Any, *, per_second: bool = False) -> float | None:
    """Bytes that are given as a number or as a text such as 24GB, or 300GB/s."""
    if value is None:
        return None
    if not isinstance(value, str):
        return amount_asked(name, value)
    text = value.strip().removesuffix("/s" if per_second else "")
    return parse_bytes(text, f"--{name.replace('_', '-')}")
