"""Warm-up, then the peak learning rate to the end."""

from dataclasses import dataclass

from llmscale.measure.schedules import Schedule


@dataclass(frozen=True)
class Constant(Schedule):
    """What is left of `wsd` without a cooldown."""

    def after_warmup(self, step: int) -> float:
        return 1.0
