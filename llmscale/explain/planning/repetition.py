"""What a budget is worth if text is limited: how often to repeat it, and when that ends to help
(Muennighoff et al. 2023)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.search import crossing
from llmscale.explain.planning.surface import LossSurface
from llmscale.quantity import MOST

_ENDLESS = float(MOST) / 100.0
"""FLOPs beyond which nothing is left to gain of any text."""
_ROUNDING = 1e-9
"""Of a loss: text that is enough costs nothing."""


@dataclass(frozen=True)
class Repetition:
    """The best run of a budget on `unique` tokens of text.

    `epochs` is how often it goes over them, below 1 if it does not need them all. `costs` is the
    loss above what as much compute would reach on new text. No compute gets below `least_loss`, and
    beyond `enough_flops` (`enough_epochs` in the best run) all compute that there is gains less
    than a share `within` of it."""

    unique: float
    epochs: float
    costs: Estimate
    least_loss: Estimate
    enough_flops: float
    enough_epochs: float
    within: float
    published: bool
    """Whether what repeated text is worth is as published, and not told by these runs."""

    def to_json(self) -> dict[str, Any]:
        return {
            "unique_tokens": self.unique,
            "epochs": self.epochs,
            "costs": self.costs.to_json(),
            "least_loss": self.least_loss.to_json(),
            "enough_flops": self.enough_flops,
            "enough_epochs": self.enough_epochs,
            "within": self.within,
            "worth_of_repeated_text": "published" if self.published else "fitted",
        }


def repetition_of(judge: Judge, flops: float, within: float) -> Repetition:
    """What the unique tokens of a judge do to a budget."""
    unique, surface = judge.unique, judge.surface
    assert unique is not None
    least = judge.estimate(lambda one: one.lowest_loss(_ENDLESS))
    enough = _enough_flops(surface, least.value, within)
    return Repetition(
        unique=unique,
        epochs=float(surface.best(flops)[1]) / unique,
        costs=judge.estimate(lambda one: _costs(one, flops)),
        least_loss=least,
        enough_flops=enough,
        enough_epochs=float(surface.best(enough)[1]) / unique,
        within=within,
        published=not surface.knows_text,
    )


def _costs(surface: LossSurface, flops: float) -> Any:
    on_new_text = LossSurface(surface.law).lowest_loss(flops)
    cost = surface.lowest_loss(flops) - on_new_text
    return np.where(cost > _ROUNDING * np.abs(on_new_text), cost, 0.0)


def _enough_flops(surface: LossSurface, least: float, within: float) -> float:
    allowed = least + within * abs(least)

    def above(log_C: Any) -> Any:
        return surface.lowest_loss(np.exp(log_C)) - allowed

    return float(np.exp(crossing(above, np.log(6.0), np.log(_ENDLESS))))
