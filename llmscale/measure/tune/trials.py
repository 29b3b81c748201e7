"""From the nodes of a rung's grid to jobs, as `llmscale sweep --lr --batch-tokens` trains them."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from llmscale.measure.sweep.jobs import jobs_of
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.job import Job
from llmscale.measure.tune.search import Grid, Node
from llmscale.quantity import TokenBudget

FEWEST_STEPS = 50
"""Batches that leave fewer optimiser steps than this are not tried."""


@dataclass(frozen=True)
class Rung:
    """A size at a budget, with the `lr` and `batch_tokens` of the rule in use: node 0, 0."""

    size: str
    budget: TokenBudget | None
    """None for one epoch of the text."""
    params: int
    tokens: int
    lr: float
    batch_tokens: int
    context: int

    def grid(self, grid: Grid) -> Grid:
        """`grid` within the batches that this rung can be trained with."""
        batch, sequences = self.batch_tokens // self.context, self.tokens // self.context
        halvings = (batch & -batch).bit_length() - 1
        doublings = math.floor(math.log2(max(1.0, sequences / (FEWEST_STEPS * batch))))
        return replace(
            grid,
            lowest_batch=max(grid.lowest_batch, -halvings),
            highest_batch=min(grid.highest_batch, doublings),
        )


def rungs_of(spec: SweepSpec, store: TokenStore) -> tuple[Rung, ...]:
    """Every size at every budget of `spec`, each once. Raises InputError."""
    asked = itertools.product(spec.sizes, spec.tokens or (None,))
    return each_once(rung_of(spec, store, size, budget) for size, budget in asked)


def each_once(rungs: Iterable[Rung]) -> tuple[Rung, ...]:
    """The rungs, of those of one size and budget the last."""
    return tuple({(rung.params, rung.tokens): rung for rung in rungs}.values())


def rung_of(spec: SweepSpec, store: TokenStore, size: str, budget: TokenBudget | None) -> Rung:
    """`size` at `budget` by the recipe of `spec`. Raises InputError."""
    job = _jobs(spec, store, size, budget)[0]
    shape = job.shape
    return Rung(size, budget, shape.params, job.tokens, job.lr, job.batch_tokens, shape.context)


def trial_jobs(spec: SweepSpec, store: TokenStore, rung: Rung, node: Node) -> tuple[Job, ...]:
    """The runs of one node, one for each seed of `spec`."""
    lr, batch_tokens = rung.lr * node.lr_factor, round(rung.batch_tokens * 2.0**node.batch)
    recipe = replace(spec.recipe, lr=lr, lr_scale=1.0, batch_tokens=batch_tokens, rule=None)
    return _jobs(replace(spec, recipe=recipe), store, rung.size, rung.budget)


def _jobs(
    spec: SweepSpec, store: TokenStore, size: str, budget: TokenBudget | None
) -> tuple[Job, ...]:
    tokens = () if budget is None else (budget,)
    return jobs_of(replace(spec, sizes=(size,), tokens=tokens, recipes={}), store)
