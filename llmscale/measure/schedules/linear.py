"""Warm-up, then a straight line down to nothing at the end."""

from dataclasses import dataclass

from llmscale.measure.schedules import Schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """From 1 in a line that would reach 0 one step after the last (Bergsma et al. 2025)."""

    def after_warmup(self, step: int) -> float:
        return 1 - self.progress(step)
