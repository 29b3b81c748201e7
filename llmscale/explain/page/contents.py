"""What a page says of a fit: its law on a grid, its frontier, its runs, and what to know of it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.errors import Note, counted
from llmscale.explain import digits
from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.page.document import Page, assembled
from llmscale.explain.page.frontier import Frontier, frontier
from llmscale.explain.page.loss_grid import loss_grid
from llmscale.explain.page.remarks import remarks
from llmscale.machine.gpus import GPUS, GPUModel
from llmscale.quantity import format_count
from llmscale.runs.shape import ladder

_MOST_RUNS = 2000
"""Dots on a page; of more runs every so many are drawn."""
_BEYOND, _BEFORE = 1e6, 10.0
"""Budgets from a tenth of the smallest run's to this many times the largest run's."""
_SMALLER, _LARGER = 1e3, 30.0
"""How far the grid goes below and above the best sizes, and the other way round in tokens."""
_VOCABULARY, _CONTEXT = 50_000, 8192
"""Of the models that are served."""
_CACHE_BYTES = 2 * 2
"""A key and a value in bfloat16, of each channel of each layer."""


@dataclass(frozen=True)
class Evidence:
    """A fit of a law in N and D, and what makes its forecasts: `best` gives the best run of a
    budget, and `is_told` whether the runs tell one. `said` are sentences with a name each."""

    fit: Fit
    level: float
    tested: Tested | None
    best: Callable[[float], Optimum]
    is_told: Callable[[Optimum], bool]
    said: Sequence[tuple[str, str]]
    notes: Sequence[Note]


def build_page(evidence: Evidence, gpu: str, price: float) -> Page:
    """The page of a law, on which a GPU of this name at this price an hour is chosen at first."""
    fit = evidence.fit
    line = frontier(evidence.best, _budgets(evidence))
    N, D = line.ends_of("params"), line.ends_of("tokens")
    grid = loss_grid(
        fit,
        (N[0] / _SMALLER, N[1] * _LARGER),
        (D[0] / _LARGER, D[1] * _SMALLER),
        level=evidence.level,
        check=evidence.tested,
    )
    gpus = _gpus(gpu)
    start = _start(line, evidence, gpus[0], price)
    found = evidence.best(start["flops"])
    sentence = _sentence(fit, found, evidence.level)
    data = {
        "metric": fit.metric,
        "grid": grid,
        "frontier": line.to_json(),
        "runs": list(_runs(fit)),
        "gpus": gpus,
        "shapes": list(_shapes(N)),
        "repetition": {"params": 5.31, "tokens": 15.39},
        "start": start,
    }
    texts = {
        "title": f"{fit.law.name}, {fit.origin.path.name}",
        "heading": f"{fit.origin.path.name}: what a budget buys",
        "law": fit.law.name,
        "formula": fit.formula,
        "size": fit.origin.size,
        "metric": fit.metric,
        "level": f"{100 * evidence.level:g}%",
        "sentence": sentence,
    }
    html = assembled(texts, remarks(evidence.said, evidence.notes, _lacking(fit)), data)
    return Page(html, fit, sentence, tuple(evidence.notes))


def _budgets(evidence: Evidence) -> tuple[float, float]:
    """From the least to the largest budget whose best run the runs tell."""
    reach = evidence.fit.reach
    assert reach.largest is not None
    largest = 6.0 * math.exp(reach.largest)
    smallest = 6.0 * math.exp(sum(reach.ranges[name][0] for name in ("params", "tokens")))
    return smallest, largest * _last_told(evidence, largest)


def _last_told(evidence: Evidence, largest: float) -> float:
    """How many times the largest run's budget is the last that the runs tell the best run of."""
    times = 1.0
    while times < _BEYOND and evidence.is_told(evidence.best(largest * times * 10.0)):
        times *= 10.0
    return times


def _start(
    line: Frontier, evidence: Evidence, gpu: Mapping[str, Any], price: float
) -> dict[str, Any]:
    """What the sliders say before anybody moves them: a budget ten times the largest run's."""
    assert evidence.fit.reach.largest is not None
    flops = min(60.0 * math.exp(evidence.fit.reach.largest), line.flops[1])
    return {
        "flops": float(f"{flops:.0e}"),
        "ratio": None,
        "unique": None,
        "served": None,
        "bytes": 2,
        "context": _CONTEXT,
        "gpu": gpu["key"],
        "gpus": 8,
        "mfu": gpu["mfu"],
        "price": price,
    }


def _sentence(fit: Fit, best: Optimum, level: float) -> str:
    """`With 1e22 FLOPs: 8.1B parameters [...], 205B tokens [...], loss 2.03 [...] (90%)`."""
    low, high = best.intervals.get("loss", (math.nan, math.nan))
    ends = {
        name: " [{}, {}]".format(*map(format_count, best.intervals[name]))
        if name in best.intervals
        else ""
        for name in ("params", "tokens")
    }
    certain = f" ({100 * level:g}%)" if math.isfinite(low) else ""
    return (
        f"With {best.flops:.3g} FLOPs: {format_count(best.params)} parameters{ends['params']}, "
        f"{format_count(best.tokens)} tokens{ends['tokens']}, {fit.metric} "
        f"{digits.with_ends(best.loss, low, high)}{certain}"
    )


def _runs(fit: Fit) -> Iterator[dict[str, float]]:
    """The runs as dots; of a kept fit without its table none."""
    if fit.runs is None:
        return
    frame = fit.table.frame[["params", "tokens", "loss"]].astype(float)
    for row in frame.iloc[:: math.ceil(len(frame) / _MOST_RUNS)].itertuples(index=False):
        if np.isfinite(row).all():
            yield {name: float(f"{value:.6g}") for name, value in row._asdict().items()}


def _lacking(fit: Fit) -> Iterator[str]:
    """What the page does not show, and why."""
    if not len(fit.replicates):
        yield "There are no intervals: the law was fitted without refits (--bootstrap 0)."
    if fit.runs is None:
        yield "The runs are not drawn: the fit was kept without them."
    elif len(fit.table.frame) > _MOST_RUNS:
        drawn = sum(1 for _ in _runs(fit))
        yield f"{counted(drawn, 'run')} of {len(fit.table.frame):,} are drawn."


def _gpus(first: str) -> list[dict[str, Any]]:
    """The menu with the GPU `first` at its head. Raises InputError if there is no such GPU."""
    keys = dict.fromkeys([first, *GPUS])
    return [{"key": key, **_of_gpu(GPUS.find(key))} for key in keys]


def _of_gpu(gpu: GPUModel) -> dict[str, Any]:
    wanted = ("name", "peak_flops", "memory_bytes", "memory_bytes_per_second", "power_watts", "mfu")
    return {name: getattr(gpu, name) for name in wanted}


def _shapes(params: tuple[float, float]) -> Iterator[dict[str, Any]]:
    """The built-in shapes that may be served, with bytes of keys and values for each token."""
    last = 0.0
    for shape in ladder(vocab_size=_VOCABULARY, context=_CONTEXT):
        if shape.params > 1.05 * last and params[0] / 10 < shape.params < params[1] * 10:
            last = shape.params
            cache = _CACHE_BYTES * shape.n_layer * shape.d_model
            counts = {"params": shape.params, "params_total": shape.params_total}
            yield {"name": shape.name, **counts, "cache_bytes": cache}
