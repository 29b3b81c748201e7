"""How much wider than its plain interval a forecast has to be, from what forecasts needed: those of
public tables, and more and more those of the table at hand.

In ln L each half-width d becomes sqrt(d² + (m s g)²), where s is the typical residual of the law on
its own runs, h is how far beyond the runs the forecast lies, in natural logs of FLOPs or of the
law's own variable, and g = sqrt(h² + 0.6 h). What a run that was predicted in a backtest needed is
the least m, on its side, for which it would have been inside. The m of a forecast is a quantile of
these: of the public tables (experiments/league measures them), and of the earlier origins of the
table itself. A budget of the table counts as much as an eighth of all public ones if it was held
out as far ahead as the forecast lies, and less if it was nearer: that a law held for a factor of
two says little of a factor of ten. So a table on which plain intervals hold gets narrower ones, and
one whose runs keep falling on one side wider ones on that side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.laws import Array, Law

LawOrKind: TypeAlias = Law | type[Law]
NEAR_WEIGHT = 0.6
"""How soon the misfit sets in: g = sqrt(h² + 0.6 h)."""
PUBLIC_WEIGHT = 8.0
"""How many held-out budgets of a table count as much as the public tables."""
PROBABILITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.98, 0.99, 0.995)
"""At which the quantiles below are."""
TAIL = 0.7
"""An end is taken at this share of its tail of the distribution, since tables differ."""
_MOST_HORIZONS = 64
"""Between so many distances m is a straight line."""
_PIECES = 400
"""Equal parts in which the public distribution is laid out."""


@dataclass(frozen=True)
class PublicNeeds:
    """What forecasts of public tables needed, as quantiles at PROBABILITIES: below the forecast and
    above it."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    most: float
    """The misfit moves neither end by more than this many plain half-widths."""
    scale: float | None
    """The s that is multiplied; None takes the law's own."""
    held: str
    """What 90% forecasts held on public tables, each family judged by the others."""

    def spread(self, side: str) -> Array:
        """The distribution of one side as equally likely values, lowest first."""
        share = (np.arange(_PIECES) + 0.5) / _PIECES
        return np.interp(share, (0.0, *PROBABILITIES), (0.0, *getattr(self, side)))


def growth(h: Array) -> Array:
    """g(h), the shape of the misfit."""
    return np.asarray(np.sqrt(h * h + NEAR_WEIGHT * h))


def public_needs(law: Law) -> PublicNeeds:
    """Those measured for `anchored`, for laws in several variables, or for laws in one."""
    if law.estimator == "anchor":
        return ANCHORED
    return ONE_VARIABLE if len(law.inputs) == 1 else SEVERAL_VARIABLES


def multipliers(
    public: PublicNeeds, own: OwnNeeds | None, h: Array, level: float
) -> tuple[Array, Array]:
    """m below and above the forecast at every h, in the shape of `h`."""
    share = 1.0 - TAIL * 0.5 * (1.0 - level)
    asked = np.unique(np.ravel(h))
    if len(asked) > _MOST_HORIZONS:
        asked = np.linspace(asked[0], asked[-1], _MOST_HORIZONS)
    sides = []
    for side in ("low", "high"):
        spread = public.spread(side)
        if own is None or not len(own.low):
            found = np.full(len(asked), np.quantile(spread, share))
        else:
            needs = getattr(own, side)
            found = np.array([_mixed(spread, needs, own.counted(x), share) for x in asked])
        sides.append(np.interp(h, asked, found))
    return sides[0], sides[1]


def _mixed(spread: Array, own: Array, weight: Array, share: float) -> float:
    """The quantile at `share` of both distributions together."""
    values = np.concatenate([spread, own])
    weights = np.concatenate([np.full(len(spread), PUBLIC_WEIGHT / len(spread)), weight])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    middles = (reached - 0.5 * weights[order]) / reached[-1]
    return float(np.interp(share, middles, values[order]))


def needed(
    law: LawOrKind, loss: Array, predicted: Array, low: Array, high: Array, unit: Array
) -> tuple[Array, Array]:
    """The least m below and above with which runs of this loss would have been inside; `unit` is
    s g."""
    middle = law.level_of(predicted)
    error = law.level_of(loss) - middle
    sides = []
    for sign, end in ((-1.0, low), (1.0, high)):
        half = np.maximum(sign * (law.level_of(end) - middle), 0.0)
        short = np.sqrt(np.maximum(error**2 - half**2, 0.0))
        sides.append(
            np.where((sign * error > 0) & (unit > 0), short / np.maximum(unit, 1e-300), 0.0)
        )
    return sides[0], sides[1]


def widened(
    law: LawOrKind,
    loss: Array,
    low: Array,
    high: Array,
    extra: Sequence[ArrayLike],
    most: float,
) -> tuple[Array, Array]:
    """The interval with these amounts of ln L (below, above; of a plain law of L) added in
    quadrature, as far as `most` half-widths."""
    below_by, above_by = (np.asarray(amount, dtype=float) for amount in extra)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = law.level_of(loss)
        below, above = middle - law.level_of(low), law.level_of(high) - middle
        limit = most * 0.5 * (below + above)
        below = _added(below, np.minimum(below_by, limit))
        above = _added(above, np.minimum(above_by, limit))
    # What is not widened stays as it is, to the last bit.
    ends = law.moved(loss, -below), law.moved(loss, above)
    below_end = np.where(below_by > 0, np.minimum(ends[0], low), low)
    return below_end, np.where(above_by > 0, np.maximum(ends[1], high), high)


def _added(half: Array, extra: Array) -> Array:
    """In quadrature; a plain interval that leaves out the law itself (half < 0) moves by
    `extra`."""
    return np.where(half > 0, np.hypot(half, extra), half + extra)


ANCHORED = PublicNeeds(
    low=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.06, 1.754, 2.349, 2.736, 5.185),
    high=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3075, 1.397, 1.971, 3.088, 5.013),
    most=np.inf,
    scale=None,
    held="not tested on this table; on 26 public ones 90% forecasts of near-optimal runs held 98% "
    "up to 3x beyond the runs, 93% at 3 to 10x and 91% at 10 to 100x (plain intervals 96%, "
    "89%, 83%)",
)
"""From `anchored` on 26 tables of 10 families."""
SEVERAL_VARIABLES = PublicNeeds(
    low=(0.0, 0.0, 0.0, 1.762, 2.508, 3.35, 3.859, 4.458, 5.032, 5.764, 7.087, 21.45),
    high=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6049, 1.65, 2.538, 3.401),
    most=8.0,
    scale=None,
    held="not tested on this table; on 26 public ones 90% forecasts of Chinchilla for near-optimal "
    "runs held 92% up to 3x beyond the runs, 91% at 3 to 10x and 84% at 10 to 100x (plain "
    "intervals 75%, 64%, 59%)",
)
"""From Chinchilla's law on the same tables."""
ONE_VARIABLE = PublicNeeds(
    low=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.295, 3.319, 6.261, 8.602, 12.37),
    high=(0.0, 0.0, 0.0, 0.0, 0.0, 0.8974, 3.3, 7.196, 10.76, 20.75, 58.66, 73.9),
    most=3.0,
    scale=0.003,
    held="not tested on this table; on 313 slices of public ones 90% forecasts in one variable "
    "held 92% of the runs at the next size or budget and 86% further (plain intervals 87% "
    "and 79%)",
)
"""From power-floor in N, D or C on 313 slices of the same tables."""
