"""What laws of mixtures share, whatever the number of sources, and the law of given sources."""

from collections.abc import Iterable, Sequence
from dataclasses import make_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.laws import Array, Law

if TYPE_CHECKING:
    import pandas as pd

SHARE = "share_"
"""What the columns of shares begin with: `share_code`."""
DATA = ("data", "dataset", "corpus", "data_fingerprint")
"""Columns in which runs on different mixtures differ, as the law says."""
_SLOPE = "t_"
_STEEPEST = (-10.0, 10.0)
_MADE = "MixtureOfSources"
"""What a law is called that has a slope for each of the sources of a table."""
_ROUNDING = 1e-3


class OfShares(Law):
    """L(r) = c + k exp(sum_j t_j r_j), of which the first two coefficients are c and k, and the
    others slopes in the shares that are its inputs."""

    def loss(self, *inputs: Any) -> Any:
        c, k, *slopes = self.coefficients().values()
        exponent: Any = 0.0
        for slope, share in zip(slopes, inputs, strict=True):
            exponent = exponent + slope * share
        return c + k * np.exp(exponent)

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """A floor below the lowest loss, and slopes by which the shares matter up to e^10."""
        low, high = _STEEPEST
        raw_SK = low + (high - low) * unit_SK
        raw_SK[:, :2] = loss.min() * unit_SK[:, :2]
        return raw_SK

    @classmethod
    def suited_to(cls, frame: "pd.DataFrame") -> type[Law]:
        """The law of the columns `share_NAME` of a table, if it has several. Raises InputError if
        the shares of a run do not add up to 1."""
        names = sources_of(frame)
        is_made = cls.__name__ == _MADE
        if is_made or len(names) < 2:
            return cls
        total = frame[[SHARE + name for name in names]].astype(float).sum(axis=1).to_numpy()
        wrong = np.flatnonzero(~(np.abs(total - 1.0) <= _ROUNDING))
        if len(wrong):
            first = wrong[0]
            raise InputError(
                f"the shares of {' and '.join(names)} in run {frame['run_id'].iloc[first]} add up "
                f"to {total[first]:g}, and not to 1, as in {len(wrong)} of {len(frame)} runs",
                "give the share of every source, or leave these runs out with --where",
            )
        return _of_slopes(cls.__module__, tuple(_SLOPE + name for name in names[:-1]))

    @classmethod
    def with_coefficients(cls, names: Iterable[str]) -> type[Law]:
        """The law that has the coefficients of these names."""
        slopes = tuple(name for name in names if name.startswith(_SLOPE))
        return _of_slopes(cls.__module__, slopes) if slopes else cls


def sources_of(frame: "pd.DataFrame") -> list[str]:
    """The sources whose shares a table has, in the order of its columns."""
    return [str(name)[len(SHARE) :] for name in frame if str(name).startswith(SHARE)]


@cache
def _of_slopes(module: str, slopes: tuple[str, ...]) -> type[Law]:
    """The law with a slope for the share of each source but the last, whose slope is 0."""
    inputs = tuple(SHARE + slope.removeprefix(_SLOPE) for slope in slopes)
    terms = " + ".join(f"{slope} {share}" for slope, share in zip(slopes, inputs, strict=True))
    own = {
        "__module__": module,
        "equation": f"L = c + k exp({terms})",
        "source": "Ye et al. 2024, eq. 6",
        "inputs": inputs,
        "may_be_zero": inputs,
        "floor": "c",
        "signed": slopes,
        "explained": DATA,
        "ranges": dict.fromkeys(slopes, _STEEPEST),
    }
    fields = [(name, float) for name in ("c", "k", *slopes)]
    return make_dataclass(_MADE, fields, bases=(OfShares,), frozen=True, namespace=own)
