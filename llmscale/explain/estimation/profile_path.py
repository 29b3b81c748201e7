"""The lowest objective along one coefficient: what fits with that coefficient held reach, from many
places.

With few runs the objective has many valleys, and a fit that starts at a far value may end in the
wrong one, settled. So each value is started from the best fit, from neighbours on both sides and
from places found without either, and then each solution is handed to its neighbours until none of
them finds anything lower. A value that costs more than what a neighbour's solution reaches is
therefore never kept."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.estimation import newton
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.estimation.pinned import Pinned
from llmscale.explain.laws import Array

_FRESH, _FRESH_OF_MANY = 8, 4
"""Places that a held fit is started from besides the best fit, of few runs and of many."""
_FEW_RUNS = 60
_HOPEFUL = 2
"""Of the places, those that are followed to the end."""
_ROUNDS = 60
_LONGEST = 3.0
"""A line through two solutions is followed this many times their distance."""
_LOWER = 1e-9
"""A neighbour's solution that lowers the objective by a smaller share changes nothing."""


_NOTHING = newton.Solutions(np.empty((0, 0)), np.empty(0), np.empty(0, dtype=bool))


@dataclass
class Path:
    """Held values, in order, with the lowest objective found at each and where: filled by `add`."""

    surface: Pinned
    log_loss_R: Array
    weight_R: Array
    objective: Objective
    best_P: Array
    along_P: Array
    """How all coordinates move, to first order, when the held one moves by one."""
    held: Array = field(default_factory=lambda: np.empty(0))
    ends: newton.Solutions = _NOTHING

    def add(self, held_G: Array, *, fresh: bool) -> None:
        """More values, each solved from the best fit, with `fresh` from new places, and from its
        neighbours."""
        held_G = np.setdiff1d(held_G, self.held)
        if not len(held_G):
            return
        index = self.surface.index
        near = self.best_P + (held_G - self.best_P[index])[:, None] * self.along_P
        starts, owner = [near, np.tile(self.best_P, (len(held_G), 1))], [np.arange(len(held_G))] * 2
        count = _FRESH if len(self.log_loss_R) <= _FEW_RUNS else _FRESH_OF_MANY
        for place, held in enumerate(held_G if fresh else ()):
            found = self.surface.starts_at(float(held), self.best_P, count)
            starts.append(found)
            owner.append(np.full(len(found), place))
        start_BP, owner_B = np.concatenate(starts), np.concatenate(owner)
        start_BP[:, index] = held_G[owner_B]
        # Places far from any optimum see a smooth valley first.
        far = np.arange(len(start_BP)) >= 2 * len(held_G)
        every = self._solve(start_BP[~far], [self.objective])
        if far.any():
            hopeful, whose = self._hopeful(start_BP[far], owner_B[far])
            every = newton.joined([every, self._solve(hopeful, [self.objective])])
            owner_B = np.concatenate([owner_B[~far], whose])
        new = _lowest(every, owner_B, len(held_G))
        order = np.argsort(np.concatenate([self.held, held_G]), kind="stable")
        self.ends = (newton.joined([self.ends, new]) if len(self.held) else new)[order]
        self.held = np.concatenate([self.held, held_G])[order]
        self._share(np.isin(self.held, held_G))

    def _hopeful(
        self, start_BP: Array, owner_B: NDArray[np.int_]
    ) -> tuple[Array, NDArray[np.int_]]:
        """Where each owner's starts that lie lowest after a few steps have come to, and whose."""
        weight_BR = np.broadcast_to(self.weight_R, (len(start_BP), len(self.weight_R)))
        stages = self.objective.graduated()
        place = self.surface, self.log_loss_R, weight_BR, start_BP
        ends = newton.minimise(*place, stages, coarse=True)
        order = np.lexsort([ends.objective, owner_B])
        rank = np.arange(len(order)) - np.searchsorted(owner_B[order], owner_B[order])
        kept = order[rank < _HOPEFUL]
        return ends.theta[kept], owner_B[kept]

    def _share(self, new: NDArray[np.bool_]) -> None:
        """Start the new values from their neighbours' solutions; hand on what is lower."""
        count = len(self.held)
        moved = new
        for _ in range(_ROUNDS):
            to, start = self._handed_on(moved, new)
            if not len(to):
                return
            found = _lowest(self._solve(start, [self.objective]), to, count)
            lower = found.objective < self.ends.objective * (1 - _LOWER)
            equal = found.objective <= self.ends.objective * (1 + _LOWER)
            taken = lower | (equal & found.settled & ~self.ends.settled)
            self.ends.put(taken, found[taken])
            moved, new = lower, np.zeros(count, dtype=bool)

    def _handed_on(
        self, moved: NDArray[np.bool_], new: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int_], Array]:
        """Who starts from a neighbour's solution that moved, and where: there, and beyond it."""
        index, theta = self.surface.index, self.ends.theta
        to, start = [], []
        for side in (1, -1):
            giver = np.arange(max(-side, 0), len(moved) - max(side, 0))
            giver = giver[moved[giver] | new[giver + side]]
            taker = giver + side
            to.append(taker)
            start.append(theta[giver])
            behind = giver - side
            straight = (behind >= 0) & (behind < len(moved))
            giver, taker, behind = giver[straight], taker[straight], behind[straight]
            share = (self.held[taker] - self.held[giver]) / (self.held[giver] - self.held[behind])
            share = np.minimum(share, _LONGEST)
            to.append(taker)
            start.append(theta[giver] + share[:, None] * (theta[giver] - theta[behind]))
        taker_B, start_BP = np.concatenate(to), np.concatenate(start)
        start_BP[:, index] = self.held[taker_B]
        return taker_B, start_BP

    def _solve(self, start_BP: Array, objectives: list[Objective]) -> newton.Solutions:
        table = self.log_loss_R, self.weight_R
        return newton.resolve_each(self.surface, *table, start_BP, objectives)


def _lowest(ends: newton.Solutions, owner_B: NDArray[np.int_], count: int) -> newton.Solutions:
    """The lowest solution of each owner; one that nobody solved for is infinitely high."""
    theta = np.zeros((count, ends.theta.shape[1]))
    objective, settled = np.full(count, np.inf), np.zeros(count, dtype=bool)
    order = np.lexsort([~ends.settled, ends.objective])[::-1]  # the last one written is the lowest
    lowest = newton.Solutions(theta, objective, settled)
    lowest.put(owner_B[order], ends[order])
    return lowest
