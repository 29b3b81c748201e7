"""Learning-rate schedules: the fraction of the peak rate at a step, as pure functions of the
step.
"""

import math
from dataclasses import dataclass

SCHEDULES = ("wsd", "cosine")
COSINE_FINAL = 0.1


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then `wsd` (constant, cooled down over the last `cooldown` share of steps) or
    `cosine`.
    """

    name: str
    steps: int
    warmup: int
    cooldown: float = 0.2

    @property
    def cooldown_start(self) -> int:
        """First step of WSD's cooldown: up to here a shorter and a longer run are the same run."""
        return self.steps - round(self.cooldown * self.steps)

    def fraction(self, step: int) -> float:
        """Share of the peak learning rate at `step`, counted from 0; above 0 at every step."""
        warm = min(1.0, (step + 1) / (self.warmup + 1))
        if self.name == "cosine":
            return warm * _cosine((step - self.warmup) / max(1, self.steps - self.warmup))
        cooling = self.steps - self.cooldown_start
        return warm * (
            _one_minus_sqrt((step - self.cooldown_start + 1) / (cooling + 1)) if cooling else 1.0
        )


def _cosine(progress: float) -> float:
    """Half a cosine from 1 to a tenth (Hoffmann et al. 2022, appendix B)."""
    clipped = min(max(progress, 0.0), 1.0)
    return COSINE_FINAL + (1 - COSINE_FINAL) * 0.5 * (1 + math.cos(math.pi * clipped))


def _one_minus_sqrt(progress: float) -> float:
    """1 - √progress (Hägele et al. 2024, eq. 2)."""
    return 1 - math.sqrt(min(max(progress, 0.0), 1.0))
