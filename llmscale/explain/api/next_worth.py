"""What each proposed run is worth in its batch: how much of the narrowing would be lost without it.

The choice expects an interval after the whole batch. What it thinks of a part of one is less sure:
of a fit to all but one run, the weights and the errors on lower budgets are others. So the law is
fitted again, to the table and the losses that it gives the other runs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from llmscale.errors import LlmscaleError, counted
from llmscale.explain import digits
from llmscale.explain.api.fitted import tested
from llmscale.explain.design.batch import WORTH
from llmscale.explain.design.proposal import NextRuns, ProposedRun
from llmscale.explain.design.propose import Choice
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.laws import Law

_MOST = 16
"""Runs of a batch that are judged, each by a fit."""


def with_worth(choice: Choice, found: NextRuns) -> NextRuns:
    """What `choice` has `found`, judged, without the runs that a fit hardly misses."""
    found = judged = judged_by_fits(found)
    if found.width is not None:
        return judged  # its batch was chosen to reach that
    kept = list(range(len(found.runs)))
    while (place := _idle(judged)) is not None:
        del kept[place]
        fewer = choice.propose(kept)
        if len(fewer.runs) < len(kept):
            break
        judged = judged_by_fits(fewer)
    left_out = len(found.runs) - len(judged.runs)
    if not left_out:
        return judged
    more = counted(left_out, "more run")
    left = digits.share(1.0 - judged.flops / judged.budget)
    said = (
        f"of the narrowing less than {WORTH:.0%} is lost without {more}, as fits have it; {left} "
        "of the budget stays unspent"
    )
    return replace(judged, stop=said)


def _idle(found: NextRuns) -> int | None:
    """The place of the dearest run without which hardly any of the narrowing is lost."""
    idle = [
        place
        for place, run in enumerate(found.runs)
        if run.lost_without is not None and run.lost_without < WORTH
    ]
    return max(idle, key=lambda place: found.runs[place].flops, default=None)


def judged_by_fits(found: NextRuns) -> NextRuns:
    """The choice with the width of the interval of a fit to all of its runs, and, if that is
    narrower, with the share of the narrowing that is lost without each. Of a single run that is
    all, and of very many it would take long."""
    if not found.runs:
        return found
    now, then = _width(found.before), _width_after(found.forecast, found.runs)
    found = replace(found, refitted=then)
    if then is None or then >= now or not 1 < len(found.runs) <= _MOST:
        return found
    judged = []
    for one in found.runs:
        others = [run for run in found.runs if run is not one]
        without = _width_after(found.forecast, others)
        if without is None:
            return found
        lost = float(np.clip((without - then) / (now - then), 0.0, 1.0))
        judged.append(replace(one, lost_without=lost))
    return replace(found, runs=tuple(judged))


def _width_after(forecast: Forecast, runs: Sequence[ProposedRun]) -> float | None:
    """The width of the interval if these runs had the losses that the law gives them; None if there
    is none."""
    assert forecast.fit is not None
    fit, options = forecast.fit, replace(forecast.fit.options, holdout="none")
    frame = fit.table.frame
    frame = pd.concat([frame, _made(fit.law, runs, frame)], ignore_index=True)
    at = {"params": forecast.params, "tokens": forecast.tokens}
    try:
        again = bare_fit(replace(fit.table, frame=frame), type(fit.law), options)
        check = tested(again, forecast.level)
        told = forecast_at(again, level=forecast.level, check=check, **at)
    except LlmscaleError:
        return None
    width = _width((float(told.low), float(told.high)))
    return width if np.isfinite(width) else None


def _made(law: Law, runs: Sequence[ProposedRun], frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of these runs as the table would have them, with the losses of the law; in all else,
    such as the error of a loss, like its largest run."""
    like = frame.loc[frame["flops"].idxmax()].to_dict() if frame["flops"].notna().any() else {}
    rows = [
        {
            **like,
            "run_id": f"next-{place}",
            "params": run.params,
            "tokens": run.tokens,
            "flops": run.own_flops,
            "loss": float(law.loss(*(getattr(run, name) for name in law.inputs))),
        }
        for place, run in enumerate(runs, 1)
    ]
    return pd.DataFrame(rows)


def _width(ends: tuple[float, float]) -> float:
    return ends[1] - ends[0]
