"""How far the runs of a fit reach, and how well the law meets them: what forecasts widen by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable

_SIZES = ("params", "params_active")


@dataclass(frozen=True)
class Reach:
    """The range of the runs in each input of the law that is positive in all of them, natural logs.

    `largest` is the largest ln N + ln D, if the law takes both. `misfit` is the typical
    |ln measured - ln law| (of a plain law |measured - law|) of the runs as a standard deviation,
    outliers aside, corrected for the number of coefficients. `off` is the share of its excess over
    the best of its budget by which the law misses a run off the optimum, if the law says one."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    largest: float | None = None
    misfit: float = math.nan
    off: float = 0.0

    def beyond(self, names: Sequence[str], at: Sequence[Array]) -> Array:
        """ln of how many times beyond the runs each point lies, or 0 inside: in FLOPs 6ND or in
        any input, whichever is most."""
        beyond = np.maximum(*self._outside(names, at))
        return np.asarray(np.where(beyond > 1e-9, beyond, 0.0))

    def below(self, names: Sequence[str], at: Sequence[Array]) -> Array:
        """Whether each point lies further below the smallest runs than beyond the largest."""
        above, below = self._outside(names, at)
        return np.asarray(below > above)

    def _outside(self, names: Sequence[str], at: Sequence[Array]) -> tuple[Array, Array]:
        """ln of how many times above the runs and below them each point lies, 0 or more."""
        with np.errstate(divide="ignore", invalid="ignore"):
            log_at = {name: np.log(values) for name, values in zip(names, at, strict=True)}
        above = below = np.zeros(np.broadcast_shapes(*(values.shape for values in at)))
        for name, (low, high) in self.ranges.items():
            above = np.maximum(above, log_at[name] - high)
            below = np.maximum(below, low - log_at[name])
        size = self.size
        if size is not None and self.largest is not None:
            above = np.maximum(above, log_at[size] + log_at["tokens"] - self.largest)
        return above, below

    @property
    def size(self) -> str | None:
        """The column that says how large a model is."""
        return next((name for name in _SIZES if name in self.ranges), None)


def reach_of(law: Law, table: RunTable, unknowns: int) -> Reach:
    """The reach of the runs that `law` was fitted to, which had to tell so many coefficients."""
    inputs = [table.frame[name].to_numpy(dtype=float) for name in law.inputs]
    logs = {
        name: np.log(values)
        for name, values in zip(law.inputs, inputs, strict=True)
        if (values > 0).all()
    }
    ranges = {name: (float(values.min()), float(values.max())) for name, values in logs.items()}
    found = Reach(ranges, None, _misfit(law, table, inputs, unknowns))
    if found.size is None or "tokens" not in logs:
        return found
    largest = float((logs[found.size] + logs["tokens"]).max())
    return Reach(ranges, largest, found.misfit)


def _misfit(law: Law, table: RunTable, inputs: Sequence[Array], unknowns: int) -> float:
    loss = table.frame["loss"].to_numpy(dtype=float)
    with np.errstate(all="ignore"):
        residual = np.abs(law.level_of(loss) - law.level_of(law.loss(*inputs)))
    if "weight" in table.columns:
        residual = residual[table.frame["weight"].to_numpy(dtype=float) > 0]
    keys = np.round(np.log(np.maximum(np.stack(inputs, axis=1), 1e-300)), 2)
    number = len(pd.DataFrame(keys).drop_duplicates())
    free = max(number - unknowns, 1)
    return float(1.4826 * np.median(residual) * math.sqrt(max(number / free, 1.0)))
