"""What is believed of the laws of recipes before their runs are looked at.

Recipes often share the exponent and the floor of their laws and differ in the amplitude (Volkova et
al. 2026), which is a constant multiple of compute; often enough they do not. Few runs cannot tell
which, and a law that is told to share says too much far from its runs. So each coefficient is
shared or not with even odds, and the interval is the mean over both, weighed by how well each does
on the runs (spike and slab: George & McCulloch 1993)."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from llmscale.explain.laws import Array


@dataclass(frozen=True)
class Shared:
    """How far a coefficient of recipes may be apart: by `near` if they share it, and by a heavy
    tailed amount of about `far` if they do not."""

    near: float
    far: float

    def density(self, values_WR: Array) -> tuple[Array, Array]:
        """ln of the density of R recipes' values, but for their mean, and the chance that they
        share it: both (W,)."""
        apart = values_WR.shape[1] - 1
        off = values_WR - values_WR.mean(axis=1, keepdims=True)
        squares = (off**2).sum(axis=1)
        spike = -0.5 * squares / self.near**2 - apart * np.log(self.near * np.sqrt(2.0 * np.pi))
        tail = gammaln(0.5 * (_DEGREES + apart)) - gammaln(0.5 * _DEGREES)
        tail -= 0.5 * apart * np.log(_DEGREES * np.pi) + apart * np.log(self.far)
        slab = tail - 0.5 * (_DEGREES + apart) * np.log1p(squares / (_DEGREES * self.far**2))
        both = np.logaddexp(spike, slab)
        return both - np.log(2.0), np.exp(spike - both)


_DEGREES = 3.0
"""Of the t distribution of what is not shared: rarely it is far more."""


@dataclass(frozen=True)
class RecipePrior:
    """Means and standard deviations; exponents in logarithms."""

    exponent_of_compute: tuple[float, float] = (0.15, 0.6)
    """Published frontiers have 0.05 (without a floor) to 0.2."""
    exponent: tuple[float, float] = (0.33, 0.5)
    """Of alpha and beta: see estimation/anchor_prior.py."""
    exponents_shared: Shared = Shared(near=0.01, far=0.12)
    """Of ln of an exponent."""
    floors_shared: Shared = Shared(near=0.001, far=0.02)
    """Of the floor, in units of the lowest loss."""
    noise: float = 0.001
    """A standard deviation of ln L, which counts as much as one run does."""
    common_noise: float = 0.5
    """Of every share that runs may have in common: Dirichlet's exponent. Each run's own has 1."""


PRIOR = RecipePrior()
