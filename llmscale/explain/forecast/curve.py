"""The curve of one run: what it has logged of its training loss."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.laws import Array

_WINDOW = 0.04
"""Of the planned tokens: training losses over the last of these are averaged."""
_FEWEST_STEPS = 3
"""From one logged loss to the next: over fewer, more tokens are averaged, up to three times."""
_SHARED = 10
"""Logged losses in common: noise of batches lets no two runs have so many."""
_SAME = 0.01
"""Planned tokens nearer than this are of one number."""
_ROUNDED = 2e-4
"""Of a loss: as where it is logged with three decimals."""


@dataclass(frozen=True)
class Curve:
    """A run with the training loss that it has logged: tokens and losses (S,), nats per token.

    `traits` are numbers of the run by column, its `params` and planned `tokens` among them. Runs of
    one `family` share a trunk. `loss` is its final one, if it has ended."""

    run_id: str
    traits: Mapping[str, float]
    tokens_S: Array
    train_loss_S: Array
    family: str = ""
    loss: float = math.nan

    @property
    def planned(self) -> float:
        return self.traits["tokens"]

    @property
    def trunk(self) -> str:
        """Its family, or itself if it shares nothing."""
        return self.family or self.run_id

    @property
    def share(self) -> float:
        """How much of the planned tokens it has seen."""
        return float(self.tokens_S[-1]) / self.planned if len(self.tokens_S) else 0.0

    def level(self, share: float) -> float:
        """Mean ln of the training loss just before that share of training; NaN if none is there.

        Places between logged ones count in part, so that a share a little larger, of a planned
        number of tokens a little smaller, changes little."""
        good = np.isfinite(self.train_loss_S) & (self.train_loss_S > 0)
        at, logs = self.tokens_S[good] / self.planned, np.log(self.train_loss_S[good])
        reached = int((at <= share * (1 + 1e-9)).sum())
        if not reached or at[reached - 1] <= share - 3 * _WINDOW:
            return math.nan
        places = np.arange(len(at), dtype=float)
        last = float(np.interp(share, at, places))
        earlier = float(np.interp(last - _FEWEST_STEPS, places, at))
        start = min(max(earlier, share - 3 * _WINDOW), share - _WINDOW)
        first = float(np.interp(start, at, places))
        if first >= last:
            return float(logs[reached - 1])
        inside = np.concatenate([[first], places[(places > first) & (places < last)], [last]])
        between = np.interp(inside, places, logs)
        return float(0.5 * (between[1:] + between[:-1]) @ np.diff(inside)) / (last - first)

    def begins_as(self, other: "Curve") -> bool:
        """Whether it has the losses of the other at the same tokens, from their first on: of the
        same run, or of one that shares its beginning."""
        alike = self._alike(other)
        return len(alike) >= _SHARED and bool(alike[:_SHARED].all())

    def is_part_of(self, other: "Curve") -> bool:
        """Whether it has all the losses that the other has at the same tokens, and is to be as
        long."""
        return bool(self._alike(other).all()) and abs(other.planned / self.planned - 1) < _SAME

    def _alike(self, other: "Curve") -> NDArray[np.bool_]:
        """For each number of tokens that both have logged, whether the losses are one."""
        _, own, its = np.intersect1d(
            np.round(self.tokens_S), np.round(other.tokens_S), return_indices=True
        )
        return np.isclose(
            self.train_loss_S[own], other.train_loss_S[its], rtol=_ROUNDED, atol=0, equal_nan=True
        )
