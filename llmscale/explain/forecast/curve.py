"""The curve of one run: what it has logged of its training loss."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmscale.explain.laws import Array

_WINDOW = 0.04
"""Of the planned tokens: training losses over the last of these are averaged."""


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
        """Mean ln of the training loss just before that share of training; NaN if none is there."""
        at = self.tokens_S / self.planned
        good = np.isfinite(self.train_loss_S) & (self.train_loss_S > 0) & (at <= share * (1 + 1e-9))
        recent = good & (at > share - _WINDOW)
        if recent.sum() < 3:
            recent[np.flatnonzero(good)[-3:]] = True
            recent &= good & (at > share - 3 * _WINDOW)
        return float(np.log(self.train_loss_S[recent]).mean()) if recent.any() else math.nan
