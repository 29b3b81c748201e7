"""IsoFLOP grids: for each compute budget some sizes on both sides of the expected optimum, and
their tokens.

The optimum is expected at a number of tokens a parameter, by default 20: what Hoffmann et al. 2022
found with their first two approaches, and what Besiroglu et al. 2024 find from their third one's
data, corrected. Budgets count the real FLOPs of each shape, attention included, as the tables do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmscale.errors import InputError
from llmscale.quantity import format_count
from llmscale.runs.shape import Shape, ladder, size_of

TOLERANCE = 0.01
"""A run's FLOPs may differ from its budget by this share: tokens come in whole sequences."""
_ROOM = 1.1
_VOCABULARIES = tuple(2**bits for bits in range(8, 19))


@dataclass(frozen=True)
class GridPoint:
    """One run of a grid: its size's name, its shape, and the tokens that meet the budget."""

    size: str
    shape: Shape
    tokens: int


def isoflop_grid(
    flops: Sequence[float],
    per_budget: int,
    optimum: float,
    spread: float,
    *,
    vocab_size: int,
    context: int,
    arch: str,
) -> list[GridPoint]:
    """`per_budget` shapes of the ladder for each of `flops`, evenly spaced in log N.

    They go from 1/`spread` to `spread` times the N at which `optimum` tokens a parameter cost the
    budget. Raises InputError if the ladder has no such shapes."""
    shapes = ladder(vocab_size=vocab_size, context=context, arch=arch)
    log_params = np.log([shape.params for shape in shapes])
    log_cost = np.log([float(shape.flops_per_token) * optimum * shape.params for shape in shapes])
    points = []
    for budget in flops:
        middle = float(np.interp(math.log(budget), log_cost, log_params))
        wanted = middle + math.log(spread) * np.linspace(-1, 1, per_budget)
        chosen = [int(np.argmin(np.abs(log_params - one))) for one in wanted]
        ends = math.exp(wanted[0]), math.exp(wanted[-1])
        least, most = shapes[0].params, shapes[-1].params
        within_cost = log_cost[0] < math.log(budget) < log_cost[-1]
        within = within_cost and ends[0] * _ROOM >= least and ends[1] <= most * _ROOM
        if not within or len(set(chosen)) < per_budget:
            fix = "choose smaller budgets, a smaller spread or fewer sizes a budget"
            if ends[0] < least:
                larger = f"choose larger budgets{_least_budget(log_params, log_cost, spread)}"
                fix = f"{larger}, or a smaller spread, context or vocabulary (tokenizer bpe:512)"
            raise InputError(
                f"a budget of {budget:g} FLOPs at {optimum:g} tokens a parameter asks for "
                f"{per_budget} sizes with N from {format_count(ends[0])} to "
                f"{format_count(ends[1])}; those of this vocabulary ({vocab_size}) and context "
                f"have from {format_count(least)} to {format_count(most)}",
                fix,
            )
        points += [_point(shapes[index], budget) for index in chosen]
    return points


def most_tokens(
    flops: Sequence[float],
    per_budget: int,
    optimum: float,
    spread: float,
    *,
    context: int,
    arch: str,
) -> int:
    """The tokens of a grid's longest run, with some room, for whatever vocabulary."""
    most, problem = 0, None
    asked = (flops, per_budget, optimum, spread)
    for vocab_size in _VOCABULARIES:
        try:
            grid = isoflop_grid(*asked, vocab_size=vocab_size, context=context, arch=arch)
        except InputError as error:
            problem = problem or error
            continue
        most = max(most, *(point.tokens for point in grid))
    if not most and problem:
        raise problem
    return round(_ROOM * most)


def _least_budget(log_params: np.ndarray, log_cost: np.ndarray, spread: float) -> str:
    """From which budget on the smallest size of a grid is one that there is, in words."""
    middle = log_params[0] + math.log(spread) - math.log(_ROOM)
    if middle >= log_params[-1]:
        return ""
    return f" (from {1.05 * math.exp(float(np.interp(middle, log_params, log_cost))):.2g} FLOPs on)"


def _point(shape: Shape, budget: float) -> GridPoint:
    tokens = max(1, round(budget / shape.flops_per_token / shape.context)) * shape.context
    reached = float(tokens) * shape.flops_per_token
    if abs(reached / budget - 1) > TOLERANCE:
        sequences = budget / shape.flops_per_token / shape.context
        raise InputError(
            f"a budget of {budget:g} FLOPs is {sequences:.3g} sequences of {shape.context} "
            f"tokens for N = {format_count(shape.params)}, and whole ones miss it by more than 1%",
            "choose larger budgets or a shorter context",
        )
    return GridPoint(size_of(shape), shape, tokens)
