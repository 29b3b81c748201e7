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
from scipy.special import gamma, ndtr, ndtri, stdtr

from llmscale.explain.laws import Array

_DEGREES = 3.0
"""Of the t distribution of what is not shared: rarely it is far more."""


@dataclass(frozen=True)
class Sharing:
    """A coefficient that recipes share with a `chance`, to within `near`, and else have within
    about `far`.

    Each recipe but the baseline is sampled as a normal number, whose quantile is that of the
    contrast with the baseline: what is shared and what is not are then equally wide, and a walker
    goes from one to the other in a step. Whether it is shared is told from the contrast."""

    near: float
    far: float
    chance: float

    def contrast(self, normal_WQ: Array) -> Array:
        """How far recipes are from the baseline, in units of `far`."""
        quantiles, contrasts = self._quantiles
        return np.sign(normal_WQ) * np.interp(np.abs(normal_WQ), quantiles, contrasts)

    def off_mean(self, normal_WQ: Array) -> Array:
        """How far each recipe is from the mean of all: (W, R)."""
        baseline = np.zeros((len(normal_WQ), 1))
        contrast = np.sqrt(2.0) * self.far * self.contrast(normal_WQ)
        off = np.concatenate([baseline, contrast], axis=1)
        return np.asarray(off - off.mean(axis=1, keepdims=True))

    def shared(self, normal_WQ: Array) -> float:
        """The chance that all recipes share it, given draws."""
        contrast = self.contrast(normal_WQ)
        shared = self.chance * _normal_density(contrast, self.near / self.far)
        apart = (1.0 - self.chance) * _student_density(contrast)
        return float((shared / (shared + apart)).prod(axis=1).mean())

    @cached_property
    def _quantiles(self) -> tuple[Array, Array]:
        """Normal numbers from 0 up, and contrasts of the same quantiles."""
        contrasts = np.concatenate([[0.0], np.geomspace(1e-4 * self.near / self.far, 1e3, 1000)])
        shared = ndtr(-contrasts * self.far / self.near)
        apart = stdtr(_DEGREES, -contrasts)
        return -ndtri(self.chance * shared + (1.0 - self.chance) * apart), contrasts


def _normal_density(values: Array, scale: float) -> Array:
    return np.asarray(np.exp(-0.5 * (values / scale) ** 2) / (scale * np.sqrt(2.0 * np.pi)))


def _student_density(values: Array) -> Array:
    """Of Student's t with _DEGREES degrees of freedom."""
    half = 0.5 * (_DEGREES + 1.0)
    height = gamma(half) / (gamma(0.5 * _DEGREES) * np.sqrt(_DEGREES * np.pi))
    return np.asarray(height * (1.0 + values**2 / _DEGREES) ** -half)


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
