"""What a page says of a fit: its law on a grid, its frontier, its runs, and what to know of it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.errors import counted
from llmscale.explain.estimation.lowest_points import LowestPoints
from llmscale.explain.estimation.result import Fit
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.forecast.optimum import optimum
from llmscale.explain.page.document import Page, assembled
from llmscale.explain.page.frontier import Frontier, frontier
from llmscale.explain.page.loss_grid import loss_grid
from llmscale.explain.page.machines import gpus_of, serving_of, shapes_of
from llmscale.explain.page.other_laws import LawAt, other_laws
from llmscale.explain.page.remarks import remarks, sentence
from llmscale.explain.page.text_law import text_law
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.real_shape import setting_of
from llmscale.explain.planning.surface import R_D_STAR, R_N_STAR
from llmscale.notes.kind import Kind
from llmscale.notes.predicting import (
    EXTRAPOLATES_FAR,
    LOSS_RISES_BY_TOKENS,
    OVER_TRAINED_BEYOND_RUNS,
    REPETITION_PUBLISHED,
    ROUNDING_NOT_COUNTED,
    SERVED_BEYOND_CONTEXT,
    TEXT_REPEATED,
)

_MOST_RUNS = 2000
"""Dots on a page; of more runs every so many are drawn."""
_BEYOND = 1e6
"""Times the largest run's budget that the page goes to, as far as the runs tell."""
_FURTHER, _NEARER = 1e3, 30.0
"""How many times the grid goes beyond the best sizes and tokens: to smaller models on more tokens,
and to larger ones on fewer."""
_CAUTIONS = {
    "far": ("", EXTRAPOLATES_FAR),
    "text": ("", TEXT_REPEATED),
    "repetition": (
        "The text is repeated, and these runs do not tell what that is worth. ",
        REPETITION_PUBLISHED,
    ),
    "rises": ("", LOSS_RISES_BY_TOKENS),
    "served": (
        "The run that is cheapest to train and serve has many more tokens a parameter than any run "
        "of the table. ",
        OVER_TRAINED_BEYOND_RUNS,
    ),
    "rounded": ("", ROUNDING_NOT_COUNTED),
    "context": (
        "Longer texts are served than the model is trained on. ",
        SERVED_BEYOND_CONTEXT,
    ),
}
"""Notes that depend on the sliders, with what a reader has to know before."""


@dataclass(frozen=True)
class Evidence:
    """A fit of a law in N and D and what judges its forecasts, with what the budgets of its table
    say themselves (`points`), whether the runs tell a best size, and the forecast of the largest
    budget that was measured.

    If no law was named, `law_at` is the one that a plan of a budget takes and, if that is another,
    why not this one; and the law may have been taken `for_text` that is limited."""

    judge: Judge
    points: LowestPoints | None
    is_told: Callable[[Optimum], bool]
    told: Forecast
    law_at: LawAt | None = None
    for_text: bool = False

    @property
    def fit(self) -> Fit:
        return self.judge.fit

    @property
    def largest(self) -> float:
        """FLOPs of the largest run."""
        assert self.fit.reach.largest is not None
        return 6.0 * math.exp(self.fit.reach.largest)

    def best(self, flops: float) -> Optimum:
        """The best run of a budget, as `plan` has it."""
        judge = self.judge
        if judge.surface.knows_text:
            return _best_on_text(judge, flops)
        return optimum(judge.fit, flops, level=judge.level, check=judge.check, points=self.points)


def _best_on_text(judge: Judge, flops: float) -> Optimum:
    """The best run by a law that knows what repeated text is worth, of text that is not."""
    params, tokens = judge.estimates(lambda surface: surface.best(flops))
    told = forecast_at(judge.fit, **judge.asked(params.value, tokens.value))
    ends = {"params": params, "tokens": tokens}
    intervals = {name: (one.low, one.high) for name, one in ends.items()}
    intervals["loss"] = (told.low, told.high)
    return Optimum(flops, params.value, tokens.value, told.loss, intervals)


def build_page(evidence: Evidence, *, gpu: str, price: float | None) -> Page:
    """The page of a law, on which this GPU at this price an hour is chosen at first."""
    fit, level = evidence.fit, evidence.judge.level
    line = frontier(evidence.best, _budgets(evidence))
    surface = _surface(evidence, line)
    gpus = gpus_of(gpu)
    setting = setting_of(fit, None, None, None)
    start = {**_start(line, evidence), "context": setting.context}
    start |= {"gpu": gpus[0]["key"], "price": None if price is None else float(price)}
    said = sentence(fit.metric, evidence.best(start["flops"]), level)
    others = list(other_laws(evidence.law_at, fit.law.name, line)) if evidence.law_at else []
    data = {
        "metric": fit.metric,
        "unit": "loss, nats per token" if fit.metric == "loss" else fit.metric,
        "law": fit.law.name,
        "level": f"{100 * level:g}%",
        **surface,
        "frontier": line.to_json(),
        "runs": list(_runs(fit)),
        "gpus": gpus,
        "serving": serving_of(),
        "shapes": shapes_of(fit, setting),
        "repetition": {"params": R_N_STAR, "tokens": R_D_STAR},
        "most_ratio": _most_ratio(fit),
        "cautions": {name: _caution(*one) for name, one in _CAUTIONS.items()},
        "others": others,
        "start": start,
    }
    name = fit.origin.path.name
    texts = {
        "title": f"{name}: what a budget buys",
        "law": fit.law.name,
        "formula": fit.formula,
        "size": fit.origin.size,
        "metric": fit.metric,
        "level": f"{100 * level:g}%",
        "sentence": said,
    }
    notes = evidence.told.all_notes
    about = (*_said(evidence.told), *_of_other_laws(evidence, others))
    shown = remarks(about, notes, _lacking(fit, _lost(fit, surface)), fit.origin.path)
    return Page(assembled(texts, shown, data), said, fit, notes)


def _budgets(evidence: Evidence) -> tuple[float, float]:
    """From the budget of the smallest model on the fewest tokens to the largest budget that the
    runs tell the best run of."""
    ranges = evidence.fit.reach.ranges
    smallest = 6.0 * math.exp(ranges["params"][0] + ranges["tokens"][0])
    times = 1.0
    while times < _BEYOND and evidence.is_told(evidence.best(evidence.largest * times * 10.0)):
        times *= 10.0
    return smallest, evidence.largest * times


def _surface(evidence: Evidence, line: Frontier) -> dict[str, Any]:
    """The law, as a grid or, if it knows what repeated text is worth, by its formula."""
    judge = evidence.judge
    (least_N, most_N), (least_D, most_D) = line.ends_of("params"), line.ends_of("tokens")
    params = (least_N / _FURTHER, most_N * _NEARER)
    tokens = (least_D / _NEARER, most_D * _FURTHER)
    told: dict[str, Any] = {"level": judge.level, "check": judge.check}
    if judge.surface.knows_text:
        return {"text": text_law(judge.fit, params, tokens, **told)}
    return {"grid": loss_grid(judge.fit, params, tokens, **told)}


def _lost(fit: Fit, surface: Mapping[str, Any]) -> int:
    """How many refits are left out, since a grid has no place for what is no loss."""
    if "grid" not in surface:
        return 0
    refits = surface["grid"]["refits"]
    return len(fit.replicates) - (len(refits["noise"]) if refits else 0)


def _start(line: Frontier, evidence: Evidence) -> dict[str, Any]:
    """What the sliders say before anybody moves them: a budget ten times the largest run's, and
    nothing of what limits it."""
    flops = min(10.0 * evidence.largest, line.flops[1])
    rounded = float(f"{flops:.0e}")
    return {
        "flops": rounded if rounded <= line.flops[1] else float(f"{0.5 * flops:.0e}"),
        "ratio": None,
        "unique": None,
        "served": None,
        "bytes": 2,
        "gpus": 8,
        "mfu": None,
    }


def _runs(fit: Fit) -> Iterator[dict[str, float]]:
    """The runs as dots; of a kept fit without its table none."""
    if fit.runs is None:
        return
    frame = fit.table.frame[["params", "tokens", "loss"]].astype(float)
    every = math.ceil(len(frame) / _MOST_RUNS)
    for row in frame.iloc[::every].to_dict("records"):
        if all(map(np.isfinite, row.values())):
            yield {str(name): float(f"{value:.6g}") for name, value in row.items()}


def _most_ratio(fit: Fit) -> float | None:
    """The most tokens a parameter of any run."""
    if fit.runs is None:
        return None
    return float((fit.runs.frame["tokens"] / fit.runs.frame["params"]).max())


def _said(told: Forecast) -> Iterator[tuple[str, str]]:
    """What the forecast of the largest run's budget says of itself; what would be another at
    another budget, with that budget."""
    assert told.fit is not None
    for name, text in told.said():
        if name == "coverage":
            # That of public tables, which is of intervals that are not there.
            if len(told.fit.replicates):
                yield name, text
        else:
            yield f"{name} at {told.at['flops']:.3g} FLOPs, those of the largest run", text


def _of_other_laws(
    evidence: Evidence, others: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Whether a plan takes this law, too."""
    law = evidence.fit.law.name
    said = ""
    if evidence.for_text:
        said = (
            f"this page is by {law}, which llmscale plan takes with --unique-tokens, since these "
            "runs repeat their text; without that it takes a law in N and D, and --law NAME makes "
            "a page of it"
        )
    elif others:
        said = (
            f"this page is by {law} at every budget; llmscale plan takes another at some, and at "
            "these the page says so"
        )
    elif evidence.law_at is not None:
        said = f"llmscale plan takes {law} at every budget of this page, too"
    if said:
        yield "other laws", said


def _lacking(fit: Fit, lost: int) -> Iterator[str]:
    """What the page does not show, and why."""
    if not len(fit.replicates):
        yield "There are no intervals: the fit has no refits."
    elif lost:
        yield (
            f"{counted(lost, 'refit')} of {len(fit.replicates):,} that give no loss at some sizes "
            "and tokens of this page have no part in its intervals, which are about those of "
            "llmscale plan."
        )
    if fit.runs is None:
        yield "The runs are not drawn: the fit is without them."
    elif len(fit.table.frame) > _MOST_RUNS:
        drawn = sum(1 for _ in _runs(fit))
        yield f"{counted(drawn, 'run')} of {len(fit.table.frame):,} are drawn."


def _caution(first: str, kind: Kind) -> dict[str, Any]:
    limit = kind.limit if math.isfinite(kind.limit) else None
    return {"code": kind.code, "said": f"{first}{kind.means} {kind.remedy}", "limit": limit}
