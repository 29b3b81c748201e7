"""What is believed of the laws of recipes before their runs are looked at.

Recipes often share the exponent and the floor of their laws and differ in the amplitude (Volkova et
al. 2026), which is a constant multiple of compute; often enough they do not. Few runs cannot tell
which, and a law that is told to share says too much far from its runs. So each coefficient is
shared or not, with a chance, and intervals are averaged over both, weighed by how well each does
on the runs (spike and slab: George & McCulloch 1993)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from llmscale.explain.laws import Array

_DEGREES = 3.0
"""Of the t distribution of what is not shared: rarely it is far more."""


@dataclass(frozen=True)
class Sharing:
    """A coefficient that recipes share with a `chance`, to within `near`, and else have within
    about `far`.

    It is sampled as a switch, a normal number by which it is shared or not, and R - 1 contrasts
    between recipes in units of either."""

    near: float
    far: float
    chance: float

    @cached_property
    def below(self) -> float:
        """Switches below this share the coefficient."""
        return float(ndtri(self.chance))

    def off_mean(self, switch_W: Array, contrasts_WQ: Array) -> Array:
        """How far each recipe is from the mean of all: (W, R)."""
        size = np.where(switch_W < self.below, self.near, self.far)
        return np.asarray(size[:, None] * (contrasts_WQ @ _contrasts(contrasts_WQ.shape[1] + 1)))

    def density(self, switch_W: Array, contrasts_WQ: Array) -> Array:
        """ln of the prior density, but for a constant."""
        squares, number = (contrasts_WQ**2).sum(axis=1), contrasts_WQ.shape[1]
        heavy = -0.5 * (_DEGREES + number) * np.log1p(squares / _DEGREES)
        return np.asarray(heavy - 0.5 * switch_W**2)


def _contrasts(recipes: int) -> Array:
    """Helmert's orthonormal contrasts: (R - 1, R)."""
    rows = np.tril(np.ones((recipes - 1, recipes)), 0)
    rows[np.arange(recipes - 1), np.arange(1, recipes)] = -np.arange(1.0, recipes)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@dataclass(frozen=True)
class RecipePrior:
    """Means and standard deviations; exponents in logarithms."""

    exponent_of_compute: tuple[float, float] = (0.15, 0.6)
    """Published frontiers have 0.05 (without a floor) to 0.2."""
    exponent: tuple[float, float] = (0.33, 0.5)
    """Of alpha and beta: see estimation/anchor_prior.py."""
    exponents: Sharing = Sharing(near=0.008, far=0.1, chance=0.5)
    """Of ln of an exponent."""
    floors: Sharing = Sharing(near=0.0005, far=0.01, chance=0.75)
    """Of the floor, in units of the lowest loss."""
    noise: float = 0.001
    """A standard deviation of ln L, which counts as much as one run does."""
    of_shares: Mapping[str, float] = field(
        default_factory=lambda: {"point": 0.5, "recipe": 0.15, "seed": 0.5, "own": 0.5}
    )
    """Dirichlet's exponents of the shares of the noise: anything from none to all may be in common
    (Jeffreys), but of one recipe at one point there is mostly little."""


PRIOR = RecipePrior()
