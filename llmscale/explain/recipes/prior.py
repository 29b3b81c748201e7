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
from scipy.special import gammaln, ndtri

from llmscale.explain.laws import Array

_DEGREES = 3.0
"""Of the t distribution of what is not shared: rarely it is far more."""
_HEAVY = float(
    gammaln(0.5 * (_DEGREES + 1.0)) - gammaln(0.5 * _DEGREES) - 0.5 * np.log(_DEGREES / 2)
)
"""ln of that distribution at 0 over the normal one there."""


@dataclass(frozen=True)
class Sharing:
    """A coefficient that recipes share with a `chance`, to within `near`, and else have within
    about `far`.

    Each recipe but the baseline is sampled as a switch, a normal number by which it shares the
    baseline's or not, and a contrast with it in units of either."""

    near: float
    far: float
    chance: float

    @cached_property
    def below(self) -> float:
        """Switches below this share the coefficient."""
        return float(ndtri(self.chance))

    def off_mean(self, switch_WQ: Array, contrast_WQ: Array) -> Array:
        """How far each recipe is from the mean of all: (W, R)."""
        size_WQ = np.where(switch_WQ < self.below, self.near, self.far)
        baseline = np.zeros((len(switch_WQ), 1))
        off = np.concatenate([baseline, np.sqrt(2.0) * size_WQ * contrast_WQ], axis=1)
        return np.asarray(off - off.mean(axis=1, keepdims=True))

    def density(self, switch_WQ: Array, contrast_WQ: Array) -> Array:
        """ln of the prior density, but for a constant."""
        normal = -0.5 * contrast_WQ**2
        heavy = _HEAVY - 0.5 * (_DEGREES + 1.0) * np.log1p(contrast_WQ**2 / _DEGREES)
        of_contrast = np.where(switch_WQ < self.below, normal, heavy)
        return np.asarray((of_contrast - 0.5 * switch_WQ**2).sum(axis=1))


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
    factor: float = 0.7
    """A standard deviation of ln of how much noisier a recipe is than others, if there are more
    than two: the noise of a difference of two is one number, which needs no factors."""
    of_shares: Mapping[str, float] = field(
        default_factory=lambda: {"point": 0.5, "recipe": 0.15, "seed": 0.5, "own": 0.5}
    )
    """Dirichlet's exponents of the shares of the noise: anything from none to all may be in common
    (Jeffreys), but of one recipe at one point there is mostly little."""


PRIOR = RecipePrior()
