"""What the noise of runs has in common: of one point, of one recipe there, of one seed.

The noise of ln L of a run is a sum of what all runs of a point (a size and its tokens) share, what
only those of its recipe share, what runs of one seed share across recipes, and what is its own. The
first and third cancel in the difference of two recipes: that is what pairs are for. The others may
be larger in one recipe than in another, as of one whose runs fit its law less well. Which shares
can be told hangs on the design; each design has a covariance of a block (the runs of a point) that
is linear in the shares."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.explain.laws import Array

Index = NDArray[np.int_]
POINT, RECIPE, SEED, OWN = "point", "recipe", "seed", "own"
"""What runs of a point may share, and what is each run's own."""
_LEAST_OWN = 1e-4
"""Runs that have all in common to the last digit, as of a table and a copy of it times a number,
would tell their difference without limit."""
_ROUNDING = 1e-5
"""Of ln L: losses are mostly written with four decimals."""


@dataclass(frozen=True)
class Block:
    """Points of one make-up: the rows of each (B, M), the recipes of its runs (M,), and for each
    share which of them have it in common (S, M, M)."""

    rows_BM: Index
    recipe_M: Index
    common_SMM: Array

    @cached_property
    def recipes(self) -> list[tuple[int, slice]]:
        """Every recipe of its runs, and which of them these are."""
        found, first = np.unique(self.recipe_M, return_index=True)
        ends = [*first[1:], len(self.recipe_M)]
        return [(int(q), slice(a, b)) for q, a, b in zip(found, first, ends, strict=True)]


@dataclass(frozen=True)
class Blocks:
    """The points of a comparison. `shares` are what runs may have in common in this design."""

    blocks: tuple[Block, ...]
    shares: tuple[str, ...]
    rows: int

    def products(
        self, shares_WS: Array, factor_WQ: Array, noise_W: Array, values_WRK: Array
    ) -> tuple[Array, Array]:
        """The products of all columns of `values` of every recipe with those of every other, each
        weighed by the inverse of the covariance of the noise, (W, Q, K, Q, K); and half of ln of
        the determinant of the covariance, (W,).

        `shares_WS` are the shares of the variance; what they leave is each run's own. What does not
        cancel between recipes is so many times as large in each as `factor_WQ` says."""
        walkers, _, columns = values_WRK.shape
        recipes = factor_WQ.shape[1]
        total = np.zeros((walkers, recipes, columns, recipes, columns))
        log_det = np.zeros(walkers)
        for block in self.blocks:
            points, size = block.rows_BM.shape
            inverse_WMM, half_log_det = self._inverse(block, shares_WS, factor_WQ, noise_W)
            log_det += points * half_log_det
            values = values_WRK[:, block.rows_BM.T]
            weighed = np.zeros((walkers, size, points, recipes, columns))
            for recipe, rows in block.recipes:
                part = inverse_WMM[:, :, rows] @ values[:, rows].reshape(
                    walkers, -1, points * columns
                )
                weighed[:, :, :, recipe] = part.reshape(walkers, size, points, columns)
            for recipe, rows in block.recipes:
                own = values[:, rows].reshape(walkers, -1, columns)
                others = weighed[:, rows].reshape(walkers, own.shape[1], -1)
                product = np.swapaxes(own, 1, 2) @ others
                total[:, recipe] += product.reshape(walkers, columns, recipes, columns)
        return total, log_det

    def precision(self, shares_WS: Array, factor_WQ: Array, noise_W: Array) -> Array:
        """The inverse of the covariance of all runs (W, R, R)."""
        total = np.zeros((len(noise_W), self.rows, self.rows))
        for block in self.blocks:
            inverse_WMM, _ = self._inverse(block, shares_WS, factor_WQ, noise_W)
            for rows in block.rows_BM:
                total[:, rows[:, None], rows] = inverse_WMM
        return total

    @property
    def cancels(self) -> Array:
        """1 for every share that cancels between recipes, 0 for others."""
        return np.array([float(name != RECIPE) for name in self.shares])

    def _inverse(
        self, block: Block, shares_WS: Array, factor_WQ: Array, noise_W: Array
    ) -> tuple[Array, Array]:
        """The inverse of the covariance of a point (W, M, M), and half of ln of its determinant."""
        of_point = np.einsum("ws,smn->wmn", shares_WS * self.cancels, block.common_SMM)
        of_recipe = np.einsum("ws,smn->wmn", shares_WS * (1.0 - self.cancels), block.common_SMM)
        identity = np.eye(len(block.recipe_M))
        of_recipe += own_share(shares_WS)[:, None, None] * identity
        factor_WM = factor_WQ[:, block.recipe_M]
        share_WMM = of_point + factor_WM[:, :, None] * factor_WM[:, None, :] * of_recipe
        cov_WMM = noise_W[:, None, None] ** 2 * share_WMM + _ROUNDING**2 * identity
        _, log_det = np.linalg.slogdet(cov_WMM)
        return np.linalg.inv(cov_WMM), 0.5 * log_det


def own_share(shares_WS: Array) -> Array:
    """The share of the variance that is each run's own."""
    return np.maximum(1.0 - shares_WS.sum(axis=1), _LEAST_OWN)


def blocks_of(point_R: Index, recipe_R: Index, seed_R: Index | None) -> Blocks:
    """The points of a table, and what its design can tell of what their runs share."""
    frame = pd.DataFrame({"point": point_R, "recipe": recipe_R, "seed": -1})
    if seed_R is not None:
        frame["seed"] = seed_R
    frame["row"] = np.arange(len(frame))
    shares = _told(frame, has_seeds=seed_R is not None)
    makes: dict[tuple[tuple[int, int], ...], list[list[int]]] = {}
    for _, runs in frame.sort_values(["point", "recipe", "seed"], kind="stable").groupby("point"):
        seeds = pd.factorize(runs["seed"])[0]
        make = tuple(zip(runs["recipe"].tolist(), seeds.tolist(), strict=True))
        makes.setdefault(make, []).append(runs["row"].tolist())
    blocks = tuple(_block(make, rows, shares) for make, rows in makes.items())
    return Blocks(blocks, shares, len(frame))


def _block(
    make: tuple[tuple[int, int], ...], rows: list[list[int]], shares: tuple[str, ...]
) -> Block:
    recipe, seed = (np.array(part) for part in zip(*make, strict=True))
    alike = {
        POINT: np.ones((len(make), len(make))),
        RECIPE: (recipe[:, None] == recipe).astype(float),
        SEED: (seed[:, None] == seed).astype(float),
    }
    common = [alike[share] for share in shares]
    stacked = np.array(common) if common else np.zeros((0, len(make), len(make)))
    return Block(np.array(rows), recipe, stacked)


def _told(frame: pd.DataFrame, *, has_seeds: bool) -> tuple[str, ...]:
    """What the design tells of what runs share: a part that always comes with another one is left
    to that."""
    of_point = frame.groupby("point")
    several_recipes = bool((of_point["recipe"].nunique() > 1).any())
    repeats = bool((frame.groupby(["point", "recipe"]).size() > 1).any())
    paired = has_seeds and bool((frame.groupby(["point", "seed"])["recipe"].nunique() > 1).any())
    found = []
    if several_recipes:
        found.append(POINT)
    if repeats:
        found.append(RECIPE)
    if repeats and paired:
        found.append(SEED)
    return tuple(found)
