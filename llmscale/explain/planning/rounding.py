"""What rounding weights cost the models of a table that `llmscale quantize` wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from llmscale.errors import InputError
from llmscale.explain.laws import Array
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.table import RunTable
from llmscale.quantity import format_count

FULL_BITS = 16.0
"""Of weights that are not rounded after training."""
_NEEDED = ("parent", "bits", "loss")


@dataclass(frozen=True)
class Rounding:
    """By bits of a weight the rise of the loss above that of the same model in its most bits: the
    mean over `models` and its interval (Student's t)."""

    place: str
    models: int
    largest: float
    """N of the largest of them."""
    rises: Mapping[float, Estimate]

    def more(self, bits: float, fewer: float) -> Estimate | None:
        """What `fewer` bits cost beyond these; None if either was not measured."""
        if fewer not in self.rises or not (bits in self.rises or bits >= FULL_BITS):
            return None
        own = self.rises.get(bits, Estimate(0.0))
        return self.rises[fewer].minus(own)

    def said(self, bits: float) -> str:
        """`8 bits cost 0.0002 [0.0001, 0.0003]`; empty if none were rounded to so many."""
        if bits not in self.rises:
            return ""
        return f"{bits:g} bits cost {self.rises[bits].written(lambda value: f'{value:.4f}')}"

    def __str__(self) -> str:
        return (
            f"mean of {self.models} models of N up to {format_count(self.largest)} in {self.place}"
        )

    def to_json(self) -> dict[str, Any]:
        rises = {f"{bits:g}": one.to_json() for bits, one in self.rises.items()}
        return {"table": self.place, "models": self.models, "largest": self.largest, "bits": rises}


def rounding_of(table: RunTable, level: float) -> Rounding:
    """What rounding cost in a table. Raises InputError if it does not say."""
    frame = table.frame
    missing = [name for name in _NEEDED if name not in frame]
    fix = "name a results folder that llmscale quantize wrote"
    if missing:
        raise InputError(
            f"{table.path} does not say what rounding costs: it has no column {missing[0]}", fix
        )
    known = frame.dropna(subset=list(_NEEDED))
    loss = known.pivot_table(index="parent", columns="bits", values="loss")
    most = float(loss.columns.max()) if len(loss.columns) else 0.0
    if len(loss.columns) < 2 or most < FULL_BITS:
        raise InputError(
            f"{table.path} does not say what rounding costs: no model is there in "
            f"{FULL_BITS:g} bits and in fewer",
            fix,
        )
    rises = {}
    for bits in loss.columns:
        rise = (loss[bits] - loss[most]).dropna().to_numpy(dtype=float)
        if bits < most and len(rise):
            rises[float(bits)] = _mean(rise, level)
    return Rounding(str(table.path), len(loss), float(known["params"].max()), rises)


def _mean(rise: Array, level: float) -> Estimate:
    mean = float(rise.mean())
    if len(rise) < 2:
        return Estimate(mean)
    half = float(stdtrit(len(rise) - 1, 0.5 + 0.5 * level) * rise.std(ddof=1) / np.sqrt(len(rise)))
    return Estimate(mean, mean - half, mean + half)
