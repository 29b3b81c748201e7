"""The runs that a loop begins with if there are none: the smallest grid that a law in N and D can
be fitted to."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from llmscale.errors import InputError, both
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.quantity import TokenBudget, parse_budget
from llmscale.runs.shape import shape_for

SIZES = 3
BUDGETS = 3
SHARE = 0.6
"""Of the budget of a loop, what a start may cost if there is a cheaper one. On the CPU ladder one
of up to 40 tokens a parameter told more than one of up to 20 and four runs for twice as much."""
_SHORTEST = 5.0
_LONGEST = (40.0, 20.0)
"""Tokens a parameter of the shortest and of the longest run of a size, around the 20 of Hoffmann et
al. (2022): runs of one ratio do not tell the effect of N from that of D."""


def start_designs(spec: SweepSpec, ratios: tuple[float, float]) -> Iterator[SweepSpec]:
    """What a loop can begin with, the dearest first: the three smallest of the sizes of `spec`,
    each on three token budgets. These are the first, the middle and the last of its own if it has
    as many, else from 5 to 40 or 20 tokens a parameter, within `ratios`. Of an IsoFLOP grid it
    is the three smallest budgets. Raises InputError."""
    if len(spec.variants) > 1:
        raise InputError(
            f"the sweep trains each run by several recipes or mixtures: {both([*spec.variants])}",
            "leave one: a forecast is of one recipe",
        )
    if spec.flops:
        yield replace(spec, flops=tuple(sorted(spec.flops)[:BUDGETS]), per_budget=SIZES, seeds=1)
        return
    if not spec.sizes or spec.epochs or spec.unique_tokens:
        yield spec  # single runs, or a text read again and again: as it was asked for
        return
    sizes = sorted(spec.sizes, key=lambda size: _params(size, spec))[:SIZES]
    if len(sizes) < SIZES:
        raise InputError(
            f"the sweep has {both(sizes)}, and a law in N and D takes {SIZES} sizes to begin with",
            'name the smallest ones: sizes = ["10k", "25k", "60k"]',
        )
    smallest = replace(spec, sizes=tuple(sizes), runs=(), seeds=1)
    own = _by_amount(spec.tokens)
    if len(own) >= BUDGETS:
        yield replace(smallest, tokens=(own[0], own[len(own) // 2], own[-1]))
        return
    for longest in _LONGEST:
        yield replace(smallest, tokens=_tokens(longest, ratios))


def _tokens(longest: float, ratios: tuple[float, float]) -> tuple[TokenBudget, ...]:
    """Three budgets, evenly spaced in their logarithms."""
    low, high = max(ratios[0], _SHORTEST), min(ratios[1], longest)
    if high <= low:
        low, high = ratios
    middle = math.sqrt(low * high)
    return tuple(parse_budget(f"{ratio:.3g}x") for ratio in (low, middle, high))


def _by_amount(budgets: Sequence[TokenBudget]) -> list[TokenBudget]:
    """From few to many tokens; none if some are tokens and others tokens a parameter."""
    if len({budget.per_param for budget in budgets}) > 1:
        return []
    return sorted(budgets, key=lambda budget: budget.amount)


def _params(size: str, spec: SweepSpec) -> int:
    shape = shape_for(size, vocab_size=1, context=spec.recipe.context, arch=spec.recipe.arch)
    return shape.params_non_embedding
