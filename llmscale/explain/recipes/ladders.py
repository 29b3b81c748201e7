"""Which tables are ladders, with about one number of tokens at each size, and which runs of the
others compare with them.

Along a ladder a recipe has a law in compute. Of a grid, with several numbers of tokens at each
size, the runs that are trained for too long or too short lie above that law: fitted with the others
they would raise it, and let any ladder seem better. So of a grid only those runs count that have
about the ladder's tokens per parameter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, both
from llmscale.explain.estimation.levels import count_levels, levels, numbers
from llmscale.explain.laws import Array

Mask = NDArray[np.bool_]

NEAR = 1.5
"""Tokens per parameter that differ by less are about the same."""
_ONE_NUMBER = 1.2
"""Tokens of one size that differ by less are one number."""
_REPEATS = 0.02
"""Repeats of a run differ by less in ln of the tokens per parameter."""
_MOST_ASIDE, _SHARE_ASIDE = 2, 0.2
"""Runs of a ladder that may be aside of it."""
_LEAST_SLOPE = -0.5
"""Of ln D in ln N: with -1 all runs have one budget."""
_LEAST_BUDGETS = 3


@dataclass(frozen=True)
class Counted:
    """How many runs of a recipe count, which have about the tokens per parameter of `ladders`."""

    recipe: str
    runs: int
    of: int
    ratios: tuple[float, float]
    ladders: tuple[str, ...]

    def __str__(self) -> str:
        whose = "" if self.recipe in self.ladders else f", as {both(self.ladders)}"
        return (
            f"of {self.recipe} {self.runs} runs of {self.of} count, which have "
            f"{_ratios_said(self.ratios)} tokens per parameter{whose}"
        )


def on_ladder(frame: pd.DataFrame) -> Mask | None:
    """The runs of a table that are on its ladder: all but a few, if its tokens are about a power of
    its size. None for other tables, and for those that do not give N and D."""
    log_N, log_D = np.log(numbers(frame, "params")), np.log(numbers(frame, "tokens"))
    if not np.isfinite(log_N + log_D).all():
        return None
    size_R = levels(np.exp(log_N))
    if 1 in (count_levels(np.exp(log_N)), count_levels(np.exp(log_D))):
        return np.ones(len(frame), dtype=bool)
    slope = _slope(log_N, log_D, size_R)
    if slope < _LEAST_SLOPE:
        return None
    off = log_D - slope * log_N
    on: Mask = np.abs(off - np.median(off)) <= math.log(NEAR)
    if (~on).sum() > _allowed(len(on)):
        return None
    tokens = pd.Series(log_D[on]).groupby(size_R[on])
    several = tokens.max() - tokens.min() > math.log(_ONE_NUMBER)
    return on if several.sum() <= _allowed(len(several)) else None


def _allowed(count: int) -> int:
    return min(_MOST_ASIDE, int(_SHARE_ASIDE * count))


def _slope(log_N: Array, log_D: Array, size_R: NDArray[np.int_]) -> float:
    """Of ln D in ln N: the median over all pairs of sizes (Theil 1950), which a few cannot move."""
    sizes = pd.DataFrame({"N": log_N, "D": log_D}).groupby(size_R).median().sort_values("N")
    N, D = sizes["N"].to_numpy(), sizes["D"].to_numpy()
    one, other = np.triu_indices(len(N), 1)
    return float(np.median((D[other] - D[one]) / (N[other] - N[one])))


def along_ladders(
    parts: Mapping[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], tuple[Counted, ...]]:
    """The runs of each recipe that count where recipes are compared along compute: all if none is
    a ladder, else those on a ladder or with about its tokens per parameter. Raises InputError if
    too few of a recipe are."""
    on = {name: on_ladder(part) for name, part in parts.items()}
    ladders = {name: parts[name][mask] for name, mask in on.items() if mask is not None}
    grids = [name for name in parts if on[name] is None and _has_ratios(parts[name])]
    unknown = [name for name, part in parts.items() if not _has_ratios(part)]
    if unknown and grids:
        raise _not_known(unknown[0], grids[0])
    if not ladders:
        return dict(parts), ()
    kept = ladders | {name: _near(parts[name], list(ladders.values())) for name in grids}
    for name in grids:
        if count_levels(numbers(kept[name], "flops")) < _LEAST_BUDGETS:
            raise _too_few(name, kept[name], ladders)
    counted = tuple(
        Counted(name, len(kept[name]), len(parts[name]), _ends(kept[name]), _others(name, ladders))
        for name in parts
        if name in kept and len(kept[name]) < len(parts[name])
    )
    return {name: kept.get(name, part) for name, part in parts.items()}, counted


def _others(name: str, ladders: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """The ladders that a recipe's runs were chosen by: its own if it is one."""
    return (name,) if name in ladders else tuple(ladders)


def _near(grid: pd.DataFrame, ladders: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The runs of each size nearest to the ladders' tokens per parameter at their compute, if they
    are near; of ladders of one size all that are near."""
    log_C = np.log(numbers(grid, "flops"))
    wanted = np.mean([_log_ratio_at(ladder, log_C) for ladder in ladders], axis=0)
    off = np.abs(np.log(_ratio(grid)) - wanted)
    near: Mask = off <= math.log(NEAR)
    if max(count_levels(numbers(ladder, "params")) for ladder in ladders) > 1:
        nearest = pd.Series(off).groupby(levels(numbers(grid, "params"))).transform("min")
        near &= off <= nearest.to_numpy() + _REPEATS
    return grid[near]


def _log_ratio_at(ladder: pd.DataFrame, log_C: Array) -> Array:
    """ln of the tokens per parameter of a ladder at these budgets; beyond it on a straight line."""
    log_ratio = pd.Series(np.log(_ratio(ladder)))
    of_budget = log_ratio.groupby(np.log(numbers(ladder, "flops"))).mean()
    own_C, own_ratio = of_budget.index.to_numpy(dtype=float), of_budget.to_numpy(dtype=float)
    slope = np.polyfit(own_C, own_ratio, 1)[0]
    beyond = log_C - np.clip(log_C, own_C[0], own_C[-1])
    return np.asarray(np.interp(log_C, own_C, own_ratio) + slope * beyond)


def _ratio(frame: pd.DataFrame) -> Array:
    return numbers(frame, "tokens") / numbers(frame, "params")


def _has_ratios(frame: pd.DataFrame) -> bool:
    return bool(np.isfinite(_ratio(frame)).all())


def _ends(frame: pd.DataFrame) -> tuple[float, float]:
    ratio = _ratio(frame)
    return float(ratio.min()), float(ratio.max())


def _ratios_said(ends: tuple[float, float]) -> str:
    """`20`, or `16 to 28`."""
    low, high = (f"{one:.3g}" for one in ends)
    return low if low == high else f"{low} to {high}"


def _not_known(unknown: str, grid: str) -> InputError:
    return InputError(
        f"{unknown} does not say how many tokens its sizes have, and {grid} has several at each "
        "size: which of its runs compare is not known",
        f"give the columns of N and D of {unknown}, or of {grid} only runs of the same tokens per "
        "parameter: --where",
    )


def _too_few(name: str, kept: pd.DataFrame, ladders: Mapping[str, pd.DataFrame]) -> InputError:
    found = count_levels(numbers(kept, "flops")) if len(kept) else 0
    ratios = _ratios_said(_ends(pd.concat(ladders.values())))
    has = "has" if len(ladders) == 1 else "have"
    return InputError(
        f"{both(list(ladders))} {has} {ratios} tokens per parameter along a ladder, and {name} "
        f"has runs near that at {found} sizes: its others do not compare with them",
        f"measure {name} at {_LEAST_BUDGETS} sizes or more with about {ratios} tokens per "
        f"parameter, or {both(list(ladders))} on several numbers of tokens at each size",
    )
