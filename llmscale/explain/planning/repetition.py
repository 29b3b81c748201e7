"""What a budget is worth if text is limited: how often to repeat it, and when that ends to help
(Muennighoff et al. 2023)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.enough import Enough, enough_of
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.surface import LossSurface

_ROUNDING = 1e-9
"""Of a loss: text that is enough costs nothing."""


@dataclass(frozen=True)
class Repetition:
    """The best run of a budget on `unique` tokens of text.

    `epochs` is how often it goes over them, below 1 if it does not need them all. `costs` is the
    loss above what as much compute would reach on new text, and `enough` how much compute is worth
    spending."""

    unique: float
    epochs: float
    costs: Estimate
    enough: Enough
    published: bool
    """Whether what repeated text is worth is as published, and not told by these runs."""

    def to_json(self) -> dict[str, Any]:
        return {
            "unique_tokens": self.unique,
            "epochs": self.epochs,
            "costs": self.costs.to_json(),
            **self.enough.to_json(),
            "enough_epochs": self.enough.tokens / self.unique,
            "worth_of_repeated_text": "published" if self.published else "fitted",
        }


def repetition_of(judge: Judge, flops: float, within: float) -> Repetition:
    """What the unique tokens of a judge do to a budget."""
    unique, surface = judge.unique, judge.surface
    assert unique is not None
    enough = enough_of(judge, within)
    return Repetition(
        unique=unique,
        epochs=float(surface.best(flops)[1]) / unique,
        costs=judge.estimate(lambda one: _costs(one, flops)),
        enough=enough,
        published=not surface.knows_text,
    )


def _costs(surface: LossSurface, flops: float) -> Any:
    on_new_text = LossSurface(surface.law).lowest_loss(flops)
    cost = surface.lowest_loss(flops) - on_new_text
    return np.where(cost > _ROUNDING * np.abs(on_new_text), cost, 0.0)
