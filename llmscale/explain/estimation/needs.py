"""What the held-out runs of a table would have needed of the intervals that were given for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.laws import Array

_NAMES = ("low", "high", "horizon", "budget", "weight")
_AHEAD = 0.7
"""Evidence from nearer by than the forecast counts exp(-difference of h/0.7)."""


@dataclass(frozen=True)
class OwnNeeds:
    """What held-out runs of the table itself needed on either side, one value a run: how far ahead
    they were (h), which budget they are of, and how much they count."""

    low: Array
    high: Array
    horizon: Array
    budget: Array
    weight: Array

    def counted(self, h: float) -> Array:
        """How much every run counts at `h`, at most 1 a budget."""
        weight = self.weight * np.exp(-np.maximum(h - self.horizon, 0.0) / _AHEAD)
        _, index = np.unique(self.budget, return_inverse=True)
        total = np.bincount(index, weights=weight)
        return np.asarray(weight / np.maximum(total, 1.0)[index])

    def to_json(self) -> dict[str, list[float]]:
        return {name: getattr(self, name).tolist() for name in _NAMES}

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> "OwnNeeds":
        """From what `to_json` gave. Raises KeyError, ValueError."""
        return cls(**{name: np.asarray(payload[name], dtype=float) for name in _NAMES})
