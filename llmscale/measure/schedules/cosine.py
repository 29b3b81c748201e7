"""Warm-up, then half a cosine down to a tenth of the peak."""

import math
from dataclasses import dataclass

from llmscale.measure.schedules import Schedule

FINAL = 0.1


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 to a tenth (Hoffmann et al. 2022, appendix B)."""

    def after_warmup(self, step: int) -> float:
        progress = min(self.progress(step), 1.0)
        return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * progress))
