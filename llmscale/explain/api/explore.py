"""`llmscale.explore`: one page on which a reader moves a budget and sees what it buys."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError, both
from llmscale.explain.api.best_of_budget import check_told
from llmscale.explain.api.choosing import contest
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.fitted import Asked, read_for
from llmscale.explain.api.lowest_points import lowest_points
from llmscale.explain.api.plan import check_text, forecast_of, judge_of, knowing_text
from llmscale.explain.api.predict import asked_of, fit_of
from llmscale.explain.api.read import LawName
from llmscale.explain.api.settings import Given, asked_spec
from llmscale.explain.api.written_over import refuse_input
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.forecast.chosen import Chosen
from llmscale.explain.page.contents import Evidence, build_page
from llmscale.explain.page.document import Page, check_place
from llmscale.explain.page.other_laws import LawAt
from llmscale.explain.page.text_law import FORMULAS
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import IN_TWO, OF_TEXT
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
    returned does, and `gpu` and `price_per_hour` are what is chosen on it at first. Runs that
    repeat their text give the page of the law that knows what that is worth. With
    `published` the law is Chinchilla's, as others published it, in place of a `source`; `source`,
    `law` and `settings` as `predict` takes them. Raises InputError, also if the law is not one in N
    and D (and unique tokens), or the runs tell no best size."""
    keywords: dict[str, Any] = {"gpu": gpu, "price_per_hour": price_per_hour, "law": law}
    keywords |= {"refit": refit, "published": published, "output": output}
    spec = asked_spec(ExploreSpec, {**keywords, **settings})
    gpu_named(spec.gpu)
    if spec.output is not None:
        refuse_input(check_place(spec.output), source)
    asked = asked_of(source, spec, settings)
    page = build_page(_evidence(asked), gpu=spec.gpu, price=spec.price_per_hour)
    return page if spec.output is None else page.save(spec.output)


def _evidence(given: Asked) -> Evidence:
    """The law that is taken, and what it says of the largest budget of its runs."""
    asked = knowing_text(given)
    fit, chosen, others = _taken(asked)
    _check_law(fit, asked)
    judge, points = judge_of(asked, fit, None), lowest_points(fit)
    assert fit.reach.largest is not None
    told, _ = forecast_of(judge, float(6.0 * np.exp(fit.reach.largest)))
    return Evidence(
        judge=judge,
        points=points,
        is_told=lambda best: _is_told(judge, best),
        told=replace(told, chosen=chosen),
        law_at=others,
        for_text=asked.laws != given.laws,
    )


def _taken(asked: Asked) -> tuple[Fit, Chosen | None, LawAt | None]:
    """The law at the largest budget of the runs, why it is taken, and which is taken at others;
    None for both if it is the one that was named or given."""
    largest = {"flops": np.asarray(_largest_budget(asked))}
    if asked.given or asked.laws:
        return *fit_of(asked, largest), None
    laws = contest(asked, read_for(asked), largest)
    fit, chosen = laws.taken(largest)

    def at(flops: float) -> tuple[str, str]:
        other, why = laws.taken({"flops": np.asarray(flops)})
        return other.law.name, dict(why.left_out).get(fit.law.name, "")

    return fit, chosen, at


def _check_law(fit: Fit, asked: Asked) -> None:
    """Raise InputError for a law that no page can show."""
    law = fit.law
    if law.inputs == OF_TEXT and law.name not in FORMULAS:
        raise InputError(
            f"{law.name} predicts from {both(law.inputs)}, and a page knows only {both(FORMULAS)} "
            "of such laws",
            "name one: --law data-constrained",
        )
    if law.inputs not in (IN_TWO, OF_TEXT):
        raise InputError(
            f"{law.name} predicts from {both(law.inputs)}, and a page shows a law in N and D",
            law_in_both(None if asked.given else fit.runs, _largest_budget(asked)),
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


def _is_told(judge: Judge, best: Optimum) -> bool:
    try:
        if judge.surface.knows_text:
            check_text(judge, best.flops)
        else:
            check_told(judge.fit, best)
    except InputError:
        return False
    return True
