"""The runs that could be made next: new ones on a grid of sizes and budgets, longer ones of sizes
that are there, and repeats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array
from llmscale.runs.trunk_costs import tokens_trained

_STEP = 1.35
"""From one new size to the next, at least."""
_BUDGET_STEP, _BUDGETS = 1.6, 16
"""From one budget of a run to the next smaller one, and how many: the largest is what one may
cost."""
_SAME = 0.1
"""Runs whose ln N and ln D are nearer than this are one point of the grid."""
_ROUNDING = 1e-3
_MOST = 400
"""Candidates; of more the dearest are left, since they are the ones that differ."""


@dataclass(frozen=True)
class Size:
    """A size that can be trained: what a sweep calls it, its N and its training FLOPs a token.

    `measured` are the tokens of the runs that the table has of it, `saved` how many tokens of a
    trunk are there to go on from, and `cooldown` the share of a branch that is its own; None if
    runs of this size are trained from the start."""

    name: str
    params: float
    flops_per_token: float
    measured: tuple[float, ...] = ()
    saved: float = 0.0
    cooldown: float | None = None
    step: int = 1
    """Tokens come in multiples of this."""
    budgets: Mapping[float, str] = field(default_factory=dict)
    """By tokens of a run what the sweep was asked for, such as `20x`."""
    seeds: Mapping[float, int] = field(default_factory=dict)
    """By tokens how many seeds the table has."""

    def whole(self, flops: Array) -> list[float]:
        """The tokens that these budgets pay for, in whole steps."""
        steps = np.floor(flops / (self.flops_per_token * self.step))
        return sorted({float(count * self.step) for count in steps if count >= 1})


@dataclass(frozen=True)
class Limits:
    """What candidates may be: tokens a parameter, N, and FLOPs of a run; `lost` are points (N, D)
    whose runs diverged or failed, as they would again."""

    ratios: tuple[float, float]
    params: tuple[float, float]
    run_flops: float
    lost: tuple[tuple[float, float], ...] = ()

    def allow(self, size: Size, tokens: float) -> bool:
        """Whether a run is within all of them, but for N."""
        low, high = self.ratios
        inside = low * (1 - _ROUNDING) <= tokens / size.params <= high * (1 + _ROUNDING)
        if any(_is_at(size.params, tokens, point) for point in self.lost):
            return False
        return inside and tokens * size.flops_per_token <= self.run_flops * (1 + _ROUNDING)


@dataclass(frozen=True)
class Candidates:
    """K runs: which of the sizes, how many tokens, and 1 if the table has such a run, else 0."""

    sizes: tuple[Size, ...]
    of: NDArray[np.int_]
    tokens: Array
    repeats: Array

    @property
    def params(self) -> Array:
        return np.array([size.params for size in self.sizes])[self.of]

    @property
    def flops(self) -> Array:
        """What each costs by itself, from its first step."""
        return np.array([size.flops_per_token for size in self.sizes])[self.of] * self.tokens

    def __len__(self) -> int:
        return len(self.of)

    def prices(self, bought: tuple[int, ...]) -> Array:
        """What each would add to the FLOPs of a batch: of runs that begin alike the trunk is
        trained once. A repeat has another seed, and begins by itself."""
        price = self.flops
        for place, size in enumerate(self.sizes):
            if size.cooldown is None:
                continue
            mine = np.flatnonzero((self.of == place) & (self.repeats == 0))
            have = [float(self.tokens[one]) for one in bought if one in set(mine.tolist())]
            before = tokens_trained(have, size.cooldown, size.saved)
            for one in mine:
                tokens = float(self.tokens[one])
                if tokens not in have:
                    more = tokens_trained([*have, tokens], size.cooldown, size.saved) - before
                    price[one] = more * size.flops_per_token
        return price


def candidates_of(sizes: Sequence[Size], limits: Limits) -> Candidates:
    """Every run within the limits: repeats of what was measured, and of each size the tokens that
    a series of budgets pays for, unless next to a measured run. If the budgets are so large that
    they pay for more tokens than may be, they begin at the largest that does not."""
    found = _within(sizes, limits)
    inside = [size for size in sizes if limits.params[0] <= size.params <= limits.params[1]]
    if len(found) or not inside:
        return found
    dearest = max(limits.ratios[1] * size.params * size.flops_per_token for size in inside)
    return _within(sizes, replace(limits, run_flops=min(limits.run_flops, dearest)))


def _within(sizes: Sequence[Size], limits: Limits) -> Candidates:
    budgets: Array = limits.run_flops / _BUDGET_STEP ** np.arange(_BUDGETS, dtype=float)
    of, tokens, repeats = [], [], []
    for place, size in enumerate(sizes):
        if not limits.params[0] <= size.params <= limits.params[1]:
            continue
        asked = [(one, True) for one in size.measured]
        asked += [(one, False) for one in size.whole(budgets) if not _is_near(one, size.measured)]
        for count, again in asked:
            if limits.allow(size, count):
                of.append(place)
                tokens.append(count)
                repeats.append(again)
    found = Candidates(
        tuple(sizes), np.array(of, dtype=int), np.array(tokens), np.array(repeats, dtype=float)
    )
    return _dearest(found)


def _is_near(tokens: float, measured: Sequence[float]) -> bool:
    return any(abs(math.log(tokens / one)) < _SAME for one in measured)


def _is_at(params: float, tokens: float, point: tuple[float, float]) -> bool:
    return _is_near(params, point[:1]) and _is_near(tokens, point[1:])


def new_params(least: float, most: float, known: Sequence[float]) -> list[float]:
    """New sizes from `least` to `most`, evenly spaced in ln N and not next to known ones."""
    if most < least:
        return []
    if most == least:
        return [] if least in known else [least]
    number = max(math.floor(math.log(most / least) / math.log(_STEP)), 1)
    wanted = np.geomspace(least, most, number + 1)
    return [
        float(one)
        for one in wanted
        if not any(abs(math.log(one / other)) < 0.5 * math.log(_STEP) for other in known)
    ]


def _dearest(found: Candidates) -> Candidates:
    if len(found) <= _MOST:
        return found
    kept = np.sort(np.argsort(-found.flops, kind="stable")[:_MOST])
    return Candidates(found.sizes, found.of[kept], found.tokens[kept], found.repeats[kept])
