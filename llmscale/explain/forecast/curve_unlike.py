"""How the curve of a run under way differs from all that a forecast of its end rests on."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmscale.explain.laws import LETTERS
from llmscale.notes.predicting import CURVE_UNLIKE

if TYPE_CHECKING:
    from llmscale.explain.forecast.curve import Curve

_RISEN = 0.05
"""In ln of the loss: more than noise."""


def unlike_finished(run: "Curve", finished: Sequence["Curve"]) -> list[str]:
    """What is different, in words; nothing if it is one of the kind."""
    share = min(run.share, 1.0)
    now, before = run.level(share), run.level(0.5 * share)
    found = []
    if now > before + _RISEN:
        found.append(f"its loss has risen, from {math.exp(before):.4g} to {math.exp(now):.4g}")
    there = [one.level(share) for one in finished]
    low, high = min(there), max(there)
    apart = max(high - low, _RISEN)
    if not low - apart <= now <= high + apart:
        found.append(
            f"its loss is {math.exp(now):.4g} at {share:.0%} of its training, where theirs was "
            f"{math.exp(low):.4g} to {math.exp(high):.4g}"
        )
    for name, value in run.traits.items():
        most = max((one.traits.get(name, math.nan) for one in finished), default=math.nan)
        if name in LETTERS and value > CURVE_UNLIKE.limit * most:
            found.append(f"its {LETTERS[name]} is {value / most:.2g} times the largest of theirs")
    return found
