"""Which learning rates and batches to try next, and the optimum: pure functions of the losses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LR_STEP = math.log(2) / 2
"""ln of one step of the grid in the learning rate: √2."""
BATCH_STEP = math.log(2)


@dataclass(frozen=True, order=True)
class Node:
    """A place on the grid: the rule's batch times 2^batch, its learning rate times √2^lr."""

    batch: int = 0
    lr: int = 0

    @property
    def lr_factor(self) -> float:
        return float(2.0 ** (self.lr / 2))


@dataclass(frozen=True)
class Grid:
    """How far to look; the rung allows doublings of the batch from lowest to highest."""

    batch: bool = True
    """Whether the batch is searched too."""
    refine: bool = False
    """Whether the learning rate is tried at √2 around the best of the factors of 2."""
    doublings: int = 5
    """How many doublings each way, from where a search starts."""
    lowest_batch: int = -5
    highest_batch: int = 5


@dataclass(frozen=True)
class Line:
    """A search along one axis: what it needs next, or its best and whether both sides are worse."""

    wanted: tuple[int, ...]
    best: int
    bracketed: bool


@dataclass(frozen=True)
class Vertex:
    """The lowest point of a parabola in ln of a value: exp(`offset`) times that at node 0."""

    offset: float
    loss: float
    curvature: float | None
    """Second derivative of the loss in ln of the value, nats; None if the points make no valley."""


@dataclass(frozen=True)
class Search:
    """Where a rung's search stands. With nothing `wanted` it has ended."""

    wanted: tuple[Node, ...]
    best: Node
    lr_bracketed: bool = False
    batch_bracketed: bool | None = None
    """None if the batch was not searched."""
    lr: Vertex | None = None
    batch: Vertex | None = None


def search(losses: Mapping[Node, float], grid: Grid) -> Search:
    """Go on from the `losses` known, infinite for a trial that diverged.

    The learning rate first; then the batch, with the learning rate along by the square root of the
    batch (Malladi et al. 2022); then the learning rate again if the batch has moved."""
    line = _lr_line(losses, 0, 0, grid)
    if line.wanted:
        return Search(tuple(Node(0, lr) for lr in line.wanted), Node(0, line.best))
    batch, batch_line, along = 0, None, {}
    if grid.batch:
        start = line.best
        along = {node.batch: loss for node, loss in losses.items() if node.lr - node.batch == start}
        low, high = max(grid.lowest_batch, -grid.doublings), min(grid.highest_batch, grid.doublings)
        batch_line = bracket(along, 0, 1, low, high)
        if batch_line.wanted:
            return Search(tuple(Node(k, start + k) for k in batch_line.wanted), Node(0, start))
        batch = batch_line.best
        if batch:
            line = _lr_line(losses, batch, start + batch, grid)
            if line.wanted:
                return Search(tuple(Node(batch, lr) for lr in line.wanted), Node(batch, line.best))
    tried = _at_batch(losses, batch)
    best, bracketed = line.best, line.bracketed
    if grid.refine:
        missing = tuple(Node(batch, lr) for lr in (best - 1, best + 1) if lr not in tried)
        if missing:
            return Search(missing, Node(batch, best))
        best = min((best - 1, best, best + 1), key=lambda lr: (tried[lr], abs(lr - line.best)))
        bracketed = bracketed or (best - 1 in tried and best + 1 in tried)
    return Search(
        wanted=(),
        best=Node(batch, best),
        lr_bracketed=bracketed,
        batch_bracketed=batch_line.bracketed if batch_line else None,
        lr=vertex(tried, best, 2, LR_STEP),
        batch=vertex(along, batch, 1, BATCH_STEP) if batch_line else None,
    )


def bracket(losses: Mapping[int, float], start: int, step: int, low: int, high: int) -> Line:
    """Try `start` and a `step` to both sides, then on towards the lower loss, until the best has a
    worse one each side.

    A trial that diverged is worse. At the limits `low` and `high` the search ends without a
    bracket."""
    first = [place for place in (start, start - step, start + step) if low <= place <= high]
    missing = tuple(place for place in first if place not in losses)
    if missing:
        return Line(missing, start, False)
    lowest = highest = start
    while lowest - step in losses:
        lowest -= step
    while highest + step in losses:
        highest += step
    best = min(range(lowest, highest + 1, step), key=lambda place: (losses[place], place))
    if lowest < best < highest:
        return Line((), best, True)
    onwards = best - step if best == lowest else best + step
    return Line((onwards,) if low <= onwards <= high else (), best, False)


def vertex(losses: Mapping[int, float], best: int, reach: int, step: float) -> Vertex:
    """The parabola through the tried places within `reach` of the best, or else the three nearest
    to it.

    Its lowest point is kept between the neighbours of the best. Without a valley it is the best
    place itself."""
    finite = {place: loss for place, loss in losses.items() if math.isfinite(loss)}
    near = [place for place in finite if abs(place - best) <= reach]
    if len(near) < 3:
        near = sorted(finite, key=lambda place: (abs(place - best), place))[:3]
    alone = Vertex(best * step, losses[best], None)
    if len(near) < 3:
        return alone
    offsets = np.array([(place - best) * step for place in near])
    half_curvature, slope, loss = np.polyfit(offsets, [finite[place] for place in near], 2)
    if half_curvature <= 0:
        return alone
    below = [(place - best) * step for place in losses if place < best]
    above = [(place - best) * step for place in losses if place > best]
    lowest = max(-slope / (2 * half_curvature), max(below, default=0.0))
    lowest = min(lowest, min(above, default=0.0))
    at_lowest = loss + slope * lowest + half_curvature * lowest**2
    return Vertex(float(best * step + lowest), float(at_lowest), float(2 * half_curvature))


def _lr_line(losses: Mapping[Node, float], batch: int, start: int, grid: Grid) -> Line:
    reach = 2 * grid.doublings
    return bracket(_at_batch(losses, batch), start, 2, start - reach, start + reach)


def _at_batch(losses: Mapping[Node, float], batch: int) -> dict[int, float]:
    return {node.lr: loss for node, loss in losses.items() if node.batch == batch}
