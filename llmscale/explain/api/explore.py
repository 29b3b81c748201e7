"""`llmscale.explore`: one page on which a reader moves a budget and sees what it buys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.fitted import Asked, check_variable, read_for, tested
from llmscale.explain.api.lowest_points import lowest_points
from llmscale.explain.api.predict import _check_told, _fit_of
from llmscale.explain.api.read import LawName, laws_of
from llmscale.explain.api.settings import Given, asked_spec, options_given, reading_given
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.trend import no_trend
from llmscale.explain.forecast.optimum import optimum
from llmscale.explain.page.contents import Evidence, build_page
from llmscale.explain.page.document import Page, check_place
from llmscale.settings import shows_keywords


@shows_keywords(ExploreSpec)
@np.errstate(all="ignore")
def explore(
    source: Any = None,
    *,
    output: Path | str | None = None,
    gpu: str = "h100",
    price_per_hour: float = 2.0,
    law: LawName | None = None,
    refit: bool = False,
    **settings: Unpack[Given],
) -> Page:
    """doc"""
    keywords = {"law": law, "refit": refit, "gpu": gpu, "price_per_hour": price_per_hour}
    spec = asked_spec(ExploreSpec, {**keywords, **settings})
    if output is not None:
        check_place(output)
    given = options_given(spec, settings)
    asked = Asked(source, laws_of(spec.law), reading_given(settings), given, spec.refit)
    fit, chosen = _fit_of(asked, {"flops": np.asarray(1e21)}, every=False)
    level = Options(level=given.get("level", fit.level)).level
    check, points = tested(fit, level), lowest_points(fit)
    def best(flops):
        return optimum(fit, flops, level=level, check=check, points=points)
    def is_told(one):
        try:
            _check_told(fit, one)
        except InputError:
            return False
        return True
    page = build_page(Evidence(fit, level, check, best, is_told, [("law",chosen.reason if chosen else ""),("coverage", check.coverage if check else "")], fit.notes), "h100", 2.0)
    return page if output is None else page.save(output)
