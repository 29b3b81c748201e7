"""The objective of many problems at once, with its gradient and Hessian, in blocks of problems and
of runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.estimation.objective import Objective
from llmscale.explain.laws import Array, Surface

MANY_ROWS = 2**15
"""Of more rows, sums are made in blocks."""
_BLOCK = 2**14
"""Problems × runs in a block: what the cache holds."""


@dataclass(frozen=True)
class Expansion:
    """Objective (B,), gradient (B, P) and Hessian (B, P, P) of every problem, and what steps are
    measured by.

    `scale` (B,) is the size that the Hessian would have under squared error: if no residual is
    within delta the Hessian is next to nothing, and Huber's reweighting, which bounds the objective
    from above, still has a size to damp by. `metric` (B, P, P), for surfaces that are not centred,
    is how far a step moves ln L, squared and summed."""

    objective: Array
    gradient: Array
    hessian: Array
    scale: Array
    metric: Array | None

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Expansion":
        metric = None if self.metric is None else self.metric[rows]
        return Expansion(
            self.objective[rows], self.gradient[rows], self.hessian[rows], self.scale[rows], metric
        )

    def replaced(self, rows: NDArray[np.bool_], other: "Expansion") -> "Expansion":
        """This one with the rows of another where `rows` says so."""
        metric = None
        if self.metric is not None and other.metric is not None:
            metric = np.where(rows[:, None, None], other.metric, self.metric)
        return Expansion(
            np.where(rows, other.objective, self.objective),
            np.where(rows[:, None], other.gradient, self.gradient),
            np.where(rows[:, None, None], other.hessian, self.hessian),
            np.where(rows, other.scale, self.scale),
            metric,
        )


def expand(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    rows: NDArray[np.int_],
    theta: Array,
    objective: Objective,
    wide: NDArray[np.bool_] | None = None,
) -> Expansion:
    """The problems `rows` of the batch at theta, in blocks that stay in the cache."""
    most = max(_BLOCK // weight_BR.shape[1], 1)
    blocks = []
    for first in range(0, len(rows), most):
        part = slice(first, first + most)
        target = log_loss_BR[rows[part]] if len(log_loss_BR) > 1 else log_loss_BR
        weight, reach = weight_BR[rows[part]], None if wide is None else wide[part]
        blocks.append(_expand_block(surface, target, weight, theta[part], objective, reach))
    if len(blocks) == 1:
        return blocks[0]
    metrics = [block.metric for block in blocks if block.metric is not None]
    return Expansion(
        np.concatenate([block.objective for block in blocks]),
        np.concatenate([block.gradient for block in blocks]),
        np.concatenate([block.hessian for block in blocks]),
        np.concatenate([block.scale for block in blocks]),
        np.concatenate(metrics) if metrics else None,
    )


def _expand_block(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    theta_BP: Array,
    objective: Objective,
    wide_B: NDArray[np.bool_] | None,
) -> Expansion:
    runs = weight_BR.shape[1]
    sums: tuple[Array, ...] = ()
    if runs <= MANY_ROWS:
        sums = _sums(surface, log_loss_BR, weight_BR, theta_BP, objective, wide_B)
    else:
        for first in range(0, runs, MANY_ROWS):
            rows = np.arange(first, min(first + MANY_ROWS, runs))
            part, target, weight = surface.of_rows(rows), log_loss_BR[:, rows], weight_BR[:, rows]
            block = _sums(part, target, weight, theta_BP, objective, wide_B)
            sums = tuple(map(np.add, sums, block)) if sums else block
    total, gradient, hessian, metric = sums
    total = np.where(np.isnan(total), np.inf, total)  # outside the formula's domain
    scale = weight_BR.sum(axis=1)
    if objective.name != "squared":
        # objective / (delta scale) is the mean residual, about: the reweighting is delta over it
        with np.errstate(over="ignore"):
            scale = scale * (objective.delta**2 * scale / (objective.delta**2 * scale + total))
    return Expansion(total, gradient, hessian, scale, None if surface.centred else metric)


def _sums(
    surface: Surface,
    log_loss_BR: Array,
    weight_BR: Array,
    theta_BP: Array,
    objective: Objective,
    wide_B: NDArray[np.bool_] | None,
) -> tuple[Array, ...]:
    """Sums over runs: objective (B,), gradient (B, P), Hessian (B, P, P), metric unless centred."""
    value, parts = surface.evaluate(theta_BP)
    residual = value - log_loss_BR
    rho, first, second = objective.expand(residual)
    if objective.name == "huber" and wide_B is not None and wide_B.any():
        second[wide_B] = np.abs(residual[wide_B]) <= 2 * objective.delta
    total = np.einsum("br,br->b", weight_BR, rho)
    first *= weight_BR
    second *= weight_BR
    if surface.centred:
        return total, *surface.derivatives(parts, first, second), np.zeros(1)
    return total, *surface.with_metric(parts, first, second, weight_BR)
