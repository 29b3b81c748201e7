"""The curve of one run: what it has logged of its training loss."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmscale.explain.laws import Array

_WINDOW = 0.04
"""Of the planned tokens: training losses over the last of these are averaged."""

_SHARED = 10
"""Logged losses in common: noise of batches lets no two runs have so many."""
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

        Of the straight lines between logged losses, not of the points: so a share a little larger,
        of a planned number of tokens a little smaller, says little else."""
        good = np.isfinite(self.train_loss_S) & (self.train_loss_S > 0)
        at, logs = self.tokens_S[good] / self.planned, np.log(self.train_loss_S[good])
        if not len(at) or at[0] > share * (1 + 1e-9):
            return math.nan
        apart = float(np.median(np.diff(at))) if len(at) > 1 else 0.0
        window = min(max(_WINDOW, 3 * apart), 3 * _WINDOW)
        if at[np.searchsorted(at, share * (1 + 1e-9), side="right") - 1] < share - 3 * _WINDOW:
            return math.nan
        start = max(share - window, float(at[0]))
        if start >= share:
            return float(logs[0])
        inside = (at > start) & (at < share)
        x = np.concatenate([[start], at[inside], [share]])
        y = np.interp(x, at, logs)
        return float(0.5 * (y[1:] + y[:-1]) @ np.diff(x)) / (share - start)

    def begins_as(self, other: "Curve") -> bool:
        """Whether it has the losses of the other at the same tokens, from their first on: of the
        same run, or of one that shares its beginning."""
        _, own, theirs = np.intersect1d(
            np.round(self.tokens_S), np.round(other.tokens_S), return_indices=True
        )
        mine, its = self.train_loss_S[own][:_SHARED], other.train_loss_S[theirs][:_SHARED]
        return len(mine) == _SHARED and bool(np.allclose(mine, its, rtol=_ROUNDED, atol=0))
