"""What is believed of the laws of recipes before their runs are looked at.

Recipes often share the exponent and the floor of their laws and differ in the amplitude (Volkova et
al. 2026), which is a constant multiple of compute; often enough they do not. Few runs cannot tell
which, and a law that is told to share says too much far from its runs. So each coefficient of each
recipe is the common one or not, with a chance, and intervals are averaged over both, weighed by how
well each does on the runs (spike and slab: George & McCulloch 1993). No recipe is special: which
one is the baseline, or what else it is compared with, changes nothing.

Everything is a function of standard normal numbers, whose quantiles become those of the prior."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import gamma, gammainc, ndtr, ndtri, stdtr

from llmscale.explain.laws import Array

_DEGREES = 3.0
"""Of the t distribution of what is not shared: rarely it is far more."""


@dataclass(frozen=True)
class Sharing:
    """A coefficient of a recipe that is the common one with a `chance`, to within `near`, and else
    within about `far` of it."""

    near: float
    far: float
    chance: float

    def off_common(self, normal_WR: Array) -> Array:
        """How far recipes are from what is common."""
        quantiles, off = self._quantiles
        return np.sign(normal_WR) * np.interp(np.abs(normal_WR), quantiles, off)

    def scale(self, normal_WR: Array) -> Array:
        """How far recipes may be from what is common, as a standard deviation: if that is given,
        how far they are is normal."""
        quantiles, scales = self._scale_quantiles
        return np.interp(normal_WR, quantiles, scales, left=self.near)

    def shared(self, normal_WR: Array) -> Array:
        """How likely each recipe has what is common, if that is how far it is."""
        off = self.off_common(normal_WR)
        shared = self.chance * _normal_density(off / self.near) / self.near
        apart = (1.0 - self.chance) * _student_density(off / self.far) / self.far
        return np.asarray(shared / (shared + apart))

    def shared_scale(self, normal_WR: Array) -> Array:
        """Whether each recipe has what is common, if that is how far it may be."""
        return np.asarray(ndtr(normal_WR) < self.chance).astype(float)

    @cached_property
    def _quantiles(self) -> tuple[Array, Array]:
        """Normal numbers from 0 up, and what has the same quantiles."""
        off = np.concatenate([[0.0], np.geomspace(1e-4 * self.near, 1e3 * self.far, 1000)])
        shared = ndtr(-off / self.near)
        apart = stdtr(_DEGREES, -off / self.far)
        return -ndtri(self.chance * shared + (1.0 - self.chance) * apart), off

    @cached_property
    def _scale_quantiles(self) -> tuple[Array, Array]:
        """The same of the standard deviations of what is not shared: normal numbers of which these
        are the standard deviations are Student's t."""
        scales = np.geomspace(0.2, 1e3, 500)
        larger = gammainc(0.5 * _DEGREES, 0.5 * _DEGREES / scales**2)
        return -ndtri((1.0 - self.chance) * larger), self.far * scales


def _normal_density(values: Array) -> Array:
    return np.asarray(np.exp(-0.5 * values**2) / np.sqrt(2.0 * np.pi))


def _student_density(values: Array) -> Array:
    """Of Student's t with _DEGREES degrees of freedom."""
    half = 0.5 * (_DEGREES + 1.0)
    height = gamma(half) / (gamma(0.5 * _DEGREES) * np.sqrt(_DEGREES * np.pi))
    return np.asarray(height * (1.0 + values**2 / _DEGREES) ** -half)


@dataclass(frozen=True)
class RecipePrior:
    """Means and standard deviations; exponents and the noise in logarithms."""

    exponent_of_compute: tuple[float, float] = (0.15, 0.6)
    """Published frontiers have 0.05 (without a floor) to 0.2."""
    exponent: tuple[float, float] = (0.33, 0.5)
    """Of alpha and beta: see estimation/anchor_prior.py."""
    exponents: Sharing = Sharing(near=0.008, far=0.12, chance=0.7)
    """Of ln of an exponent. Two recipes share it with a chance of 0.5."""
    floor: tuple[float, float] = (0.6, 0.35)
    """Of what is common of the floors, in units of the lowest loss, as are these:"""
    floors: Sharing = Sharing(near=0.0005, far=0.012, chance=0.775)
    noise: tuple[float, float] = (0.003, 1.2)
    """Of ln L of a run."""
    factor: float = 0.7
    """Of how much noisier a recipe is than others, if there are more than two: the noise of a
    difference of two is one number, which needs no factors."""
    shares: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {"point": (0.0, 2.0), "recipe": (-2.0, 2.0), "seed": (0.0, 2.0)}
    )
    """Of ln of the share of the noise that is common over what is a run's own: anything from none
    to all, but of one recipe at one point there is mostly little."""


PRIOR = RecipePrior()
