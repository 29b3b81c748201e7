"""The compute multiplier of recipes, from the posterior of their laws."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from llmscale.errors import InputError, Note, both, counted, listed
from llmscale.explain import digits
from llmscale.explain.laws import Array
from llmscale.explain.recipes.budgets import is_same_budget
from llmscale.explain.recipes.checks import (
    check_comparable,
    check_overlap,
    chosen_metric,
    notes_of,
)
from llmscale.explain.recipes.comparison import RecipeComparison
from llmscale.explain.recipes.differing import differences
from llmscale.explain.recipes.flops_counts import by_one_count
from llmscale.explain.recipes.frontiers import (
    Frontiers,
    along_ladder,
    best_splits,
    compute_optimal,
    noise_of,
)
from llmscale.explain.recipes.joined import LADDER, RECIPE, Joined, join
from llmscale.explain.recipes.loss_units import check_ratios, check_units, ratio_notes
from llmscale.explain.recipes.missed import missed_notes
from llmscale.explain.recipes.multiplier import Crossing, Multiplier, possessive
from llmscale.explain.recipes.outlying import Outlying, draws_of
from llmscale.explain.recipes.posterior import LawDraws
from llmscale.explain.recipes.power import power_of
from llmscale.explain.table import RunTable
from llmscale.notes.comparing import (
    COMPARISON_NOT_SETTLED,
    MULTIPLIER_FAR,
    RUN_OFF_LAW,
    RUNS_REPEATED,
    RUNS_THE_SAME,
    SPLIT_OUTSIDE_RUNS,
)

REACH = 100.0
"""Crossings are looked for up to so many times beyond the runs."""
_BUDGETS = 240
_LARGEST = 700.0
"""Of ln of a multiplier."""
_SAME_LOSS = 1e-9
"""Losses that differ by less were written in another way."""


def compare_recipes(
    tables: Mapping[str, RunTable],
    *,
    by: str | None = None,
    at: Sequence[float] = (),
    law: str | None = None,
    floor: float | None = None,
    metric: str | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> RecipeComparison:
    """How much of the compute of the first recipe each other one needs, at the largest compute that
    all have and at each of `at`. `by` is the column that tells recipes of one table apart. Raises
    InputError for recipes that do not compare."""
    notes = check_comparable(tables, by)
    check_units(tables, by)
    column, more = chosen_metric(tables, metric)
    tables, of_flops = by_one_count(tables)
    joined = join(tables, law, floor, column)
    check_overlap(joined)
    check_ratios(joined)
    settings = differences(joined, by)
    draws, outlying = draws_of(joined.runs, seed)
    draws = draws.of(joined.names)
    same = _with_runs_of_baseline(joined)
    places = [joined.names.index(name) for name in same]
    frontiers = _frontiers(joined, draws).with_one_law(places)
    today = joined.overlap[1]
    scales = (today, *(flops for flops in dict.fromkeys(at) if not is_same_budget(flops, today)))
    multipliers = tuple(
        multiplier for flops in scales for multiplier in _at(joined, frontiers, flops, level)
    )
    others = range(1, len(joined.names))
    cancels_B, rest_BR = noise_of(draws)
    all_B = cancels_B + rest_BR.mean(axis=1)
    return RecipeComparison(
        joined=joined,
        frontiers=frontiers,
        metric=column,
        level=level,
        today=today,
        scales=scales,
        multipliers=multipliers,
        crossings=tuple(
            _crossing(joined, frontiers, other, level) for other in others if other not in places
        ),
        settings=settings,
        same=same,
        by=by,
        shared=draws.shared,
        noise=float(np.median(np.sqrt(all_B))),
        paired_share=float(np.median(cancels_B / all_B)),
        power=tuple(
            power_of(
                frontiers,
                other,
                *_ends(multipliers, joined.names[other]),
                float(np.median(np.sqrt(rest_BR[:, 0] + rest_BR[:, other]))),
            )
            for other in others
            if joined.names[other] not in same
        ),
        notes=(
            *_of_tables(tables),
            *notes,
            *more,
            *of_flops,
            *_of_repeats(joined),
            *_of_same(joined, same),
            *ratio_notes(joined, multipliers[: len(joined.names) - 1]),
            *notes_of(joined, settings, by),
            *_of_splits(joined, draws, today),
            *_of_outlying(joined, outlying),
            *missed_notes(joined, draws),
            *_of_draws(draws, multipliers, today),
        ),
    )


def _frontiers(joined: Joined, draws: LawDraws) -> Frontiers:
    if joined.law == LADDER:
        return along_ladder(draws)
    return compute_optimal(draws, joined.flops_per_ND)


def _at(joined: Joined, frontiers: Frontiers, flops: float, level: float) -> Iterator[Multiplier]:
    """Every recipe's multiplier at one budget."""
    best = _chances(frontiers, flops)
    beyond = max(flops / joined.overlap[1], joined.overlap[0] / flops, 1.0)
    for place, name in enumerate(joined.names[1:], start=1):
        drawn = frontiers.log_multiplier(place, 0, np.array([math.log(flops)]))[:, 0]
        low, value, high = map(_factor, _quantiles(drawn, level))
        ends = (value, low, high)
        yield Multiplier(name, joined.names[0], flops, *ends, level, beyond, best[place])


def _factor(log_k: float) -> float:
    """What is beyond all numbers has no end."""
    return math.exp(log_k) if log_k < _LARGEST else math.inf


def _ends(multipliers: Sequence[Multiplier], name: str) -> tuple[Multiplier, Multiplier]:
    """A recipe's multipliers at today's scale and at the largest."""
    own = [one for one in multipliers if one.recipe == name]
    return own[0], max(own, key=lambda one: one.flops)


def _chances(frontiers: Frontiers, flops: float) -> list[float]:
    """How often each recipe has the lowest loss of all at a budget."""
    loss_BR = frontiers.loss(np.array([math.log(flops)]))[:, :, 0]
    is_lowest = loss_BR <= loss_BR.min(axis=1, keepdims=True)
    # Recipes of the same runs have one law, and share the chance.
    share_BR = is_lowest / is_lowest.sum(axis=1, keepdims=True)
    return [float(share) for share in share_BR.mean(axis=0)]


def _crossing(joined: Joined, frontiers: Frontiers, other: int, level: float) -> Crossing:
    low, high = joined.overlap
    log_C = np.linspace(math.log(low), math.log(REACH * high), _BUDGETS)
    difference = frontiers.loss(log_C)
    sign = np.sign(difference[:, other] - difference[:, 0])
    crosses = sign[:, 1:] != sign[:, :-1]
    where = np.where(crosses, 0.5 * (log_C[1:] + log_C[:-1]), np.nan)
    inside = crosses[:, log_C[1:] <= math.log(high)].any(axis=1)
    any_of = crosses.any(axis=1)
    ends = (math.nan, math.nan, math.nan)
    if any_of.any():
        first = np.nanmin(where[any_of], axis=1)
        low_end, middle, high_end = (math.exp(value) for value in _quantiles(first, level))
        ends = (middle, low_end, high_end)
    return Crossing(
        joined.names[other],
        joined.names[0],
        float(inside.mean()),
        float((any_of & ~inside).mean()),
        REACH,
        0.5 + 0.5 * level,
        *ends,
    )


def _of_tables(tables: Mapping[str, RunTable]) -> list[Note]:
    """What is to be known of how the tables were read, each note once."""
    return list(dict.fromkeys(note for table in tables.values() for note in table.notes))


def _with_runs_of_baseline(joined: Joined) -> tuple[str, ...]:
    """The recipes whose runs are those of the baseline, loss for loss."""
    runs = {
        name: np.array(sorted(part[["flops", "loss"]].to_numpy(dtype=float).tolist()))
        for name, part in joined.frame.groupby(RECIPE, sort=False)
    }
    own = runs[joined.names[0]]
    return tuple(
        name
        for name in joined.names[1:]
        if own.shape == runs[name].shape and np.allclose(own, runs[name], rtol=_SAME_LOSS, atol=0.0)
    )


def _of_same(joined: Joined, same: Sequence[str]) -> Iterator[Note]:
    if same:
        have = "has" if len(same) == 1 else "have"
        yield RUNS_THE_SAME.note(
            f"{both(same)} {have} the runs of {joined.names[0]}, loss for loss: nothing is compared"
        )


def _of_repeats(joined: Joined) -> Iterator[Note]:
    """Rows that count once with others."""
    if joined.repeated:
        rows = counted(joined.repeated, "row")
        said = "repeats" if joined.repeated == 1 else "repeat"
        yield RUNS_REPEATED.note(
            f"{rows} {said} a run of the same recipe, size and tokens with the same loss to the "
            "last digit, and such runs count once"
        )


def _of_splits(joined: Joined, draws: LawDraws, today: float) -> Iterator[Note]:
    """Recipes whose best split of today's budget is far outside what was run."""
    if joined.law == LADDER:
        return
    said = []
    for name, N, D in zip(
        joined.names, *best_splits(draws, joined.flops_per_ND, today), strict=True
    ):
        own = joined.frame[joined.frame[RECIPE] == name]
        for value, column in ((N, "params"), (D, "tokens")):
            low, high = float(own[column].min()), float(own[column].max())
            if max(value / high, low / value) >= SPLIT_OUTSIDE_RUNS.limit:
                said.append(f"{name} {value:.2g} {column}, and runs of {low:.2g} to {high:.2g}")
    if said:
        yield SPLIT_OUTSIDE_RUNS.note(
            f"the best split of {today:.3g} FLOPs is outside the runs ({listed(said, 3, '; ')}): "
            "what is reached there was not measured"
        )


def _of_outlying(joined: Joined, found: Sequence[Outlying]) -> Iterator[Note]:
    """The runs that count less, by name."""
    if not found:
        return
    rows = joined.frame.iloc[[one.place for one in found]]
    named = [
        f"{recipe} {run_id} ({100 * one.off:+.2g}%, {one.deviations:.2g} standard deviations)"
        for recipe, run_id, one in zip(rows[RECIPE], rows["run_id"], found, strict=True)
    ]
    are = "run is" if len(named) == 1 else "runs are"
    yield RUN_OFF_LAW.note(
        f"{len(named)} {are} off the law of the others and counted less: {listed(named, 3)}"
    )


def _of_draws(draws: LawDraws, multipliers: Sequence[Multiplier], today: float) -> Iterator[Note]:
    farthest = max(one.flops for one in multipliers)
    if farthest / today > MULTIPLIER_FAR.limit:
        floors = [
            f"; {one.recipe} may have its floor above {possessive(one.baseline)} loss there, which "
            "no compute reaches then"
            for one in multipliers
            if one.flops == farthest and math.isinf(one.high)
        ]
        yield MULTIPLIER_FAR.note(
            f"{farthest:.3g} FLOPs are {digits.times(farthest / today)} beyond the runs: measure a "
            f"larger budget in between{''.join(floors[:1])}"
        )
    if draws.error > COMPARISON_NOT_SETTLED.limit:
        yield COMPARISON_NOT_SETTLED.note(
            f"the draws have not settled: ends of intervals may move by {draws.error:.0%} of the "
            "width from one --seed to another"
        )


def check_budgets(at: Sequence[float], joined: Joined) -> None:
    """Raise InputError for budgets below all runs."""
    low = min(first for first, _ in joined.reaches.values())
    for flops in at:
        if flops < low / REACH:
            raise InputError(
                f"{flops:.3g} FLOPs are far below the smallest run, of {low:.3g}",
                "name a budget at or beyond the runs: --at 1e21",
            )


def _quantiles(values: Array, level: float) -> list[float]:
    """The lower end, the middle and the upper end of values of which some are infinite; those of
    the same values with their signs changed are these from the last to the first."""
    ordered = np.sort(values)
    last = len(values) - 1
    low = round((0.5 - 0.5 * level) * last)
    middle = 0.5 * (ordered[last // 2] + ordered[last - last // 2])
    return [float(ordered[low]), float(middle), float(ordered[last - low])]
