"""Warm-up, constant, cooldown by 1 - √progress over the last share of steps."""

import math
from dataclasses import dataclass

from llmscale.measure.schedules import Schedule


@dataclass(frozen=True)
class WSD(Schedule):
    """One trunk serves many token budgets, each with a cooldown (Hägele et al. 2024)."""

    branches = True

    def after_warmup(self, step: int) -> float:
        """1 - √progress of the cooldown (Hägele et al. 2024, eq. 2)."""
        cooling = self.steps - self.cooldown_start
        if not cooling:
            return 1.0
        progress = (step - self.cooldown_start + 1) / (cooling + 1)
        return 1 - math.sqrt(min(max(progress, 0.0), 1.0))
