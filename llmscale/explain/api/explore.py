"""`llmscale.explore`: one page on which a reader moves a budget and sees what it buys."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError, both
from llmscale.explain.api.best_of_budget import best_of, check_told
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.fitted import Asked, read_for, tested
from llmscale.explain.api.lowest_points import lowest_points
from llmscale.explain.api.predict import asked_of, fit_of
from llmscale.explain.api.read import LawName
from llmscale.explain.api.settings import Given, asked_spec
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.page.contents import Evidence, build_page
from llmscale.explain.page.document import Page, check_place
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import IN_TWO
from llmscale.machine.gpus import gpu_named
from llmscale.settings import shows_keywords

_ANY_BUDGET = 1e20
"""What law is best is asked for at the largest budget of a table; a law of one of N and D has
none."""


@shows_keywords(ExploreSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs: the page is blank there
def explore(
    source: Any = None,
    *,
    gpu: str = "h100",
    price_per_hour: float | None = None,
    law: LawName | None = None,
    refit: bool = False,
    published: bool = False,
    output: Path | str | None = None,
    **settings: Unpack[Given],
) -> Page:
    """A page with sliders for compute, tokens, text, serving and price, on which the loss over
    size and tokens, the best run of every budget and the plan follow what a reader moves.

    It is one HTML file that asks the network for nothing: `output` writes it, as `save` of what is
    returned does, and `gpu` and `price_per_hour` are what is chosen on it at first. With
    `published` the law is Chinchilla's, as others published it, in place of a `source`; `source`,
    `law` and `settings` as `predict` takes them. Raises InputError, also if the law is not one in N
    and D, or the runs tell no best size."""
    keywords: dict[str, Any] = {"gpu": gpu, "price_per_hour": price_per_hour, "law": law}
    keywords |= {"refit": refit, "published": published, "output": output}
    spec = asked_spec(ExploreSpec, {**keywords, **settings})
    gpu_named(spec.gpu)
    if spec.output is not None:
        check_place(spec.output)
    page = build_page(
        _evidence(asked_of(source, spec, settings)), gpu=spec.gpu, price=spec.price_per_hour
    )
    return page if spec.output is None else page.save(spec.output)


def _evidence(asked: Asked) -> Evidence:
    """The law that is taken, and what it says of the largest budget of its runs."""
    largest = _largest_budget(asked)
    fit, chosen = fit_of(asked, {"flops": np.asarray(largest)})
    if fit.law.inputs != IN_TWO:
        raise InputError(
            f"{fit.law.name} predicts from {both(fit.law.inputs)}, and a page shows a law in N "
            "and D",
            law_in_both(None if asked.given else fit.runs, largest),
        )
    level = Options(level=asked.options.get("level", fit.level)).level
    check, points = tested(fit, level), lowest_points(fit)
    assert fit.reach.largest is not None
    told = best_of(fit, np.asarray(6.0 * np.exp(fit.reach.largest)), level)
    return Evidence(
        judge=Judge(fit, level, check),
        points=points,
        is_told=lambda best: _is_told(fit, best),
        told=replace(told, chosen=chosen),
    )


def _largest_budget(asked: Asked) -> float:
    """That of the runs of a table."""
    if asked.given:
        return _ANY_BUDGET
    frame: Mapping[str, Any] = read_for(asked).frame
    if not {"params", "tokens"} <= set(frame):
        return _ANY_BUDGET
    largest = 6.0 * float((frame["params"] * frame["tokens"]).max())
    return largest if largest > 0 else _ANY_BUDGET


def _is_told(fit: Fit, best: Optimum) -> bool:
    try:
        check_told(fit, best)
    except InputError:
        return False
    return True
