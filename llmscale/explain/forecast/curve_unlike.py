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
_HARDLY = 0.25
"""Of the least fall of finished runs: no run of ours fell by less than 0.37 of that of smaller
ones."""


def unlike_finished(run: "Curve", finished: Sequence["Curve"]) -> list[str]:
    """What is different, in words; nothing if it is one of the kind."""
    share = min(run.share, 1.0)
    now, before = run.level(share), run.level(0.5 * share)
    found = []
    if not math.isfinite(run.train_loss_S[-1]):
        found.append("its last training loss is no number")
    least = min(one.level(0.5 * share) - one.level(share) for one in finished)
    if now > before + _RISEN:
        found.append(f"its loss has risen, from {math.exp(before):.4g} to {math.exp(now):.4g}")
    elif before - now < _HARDLY * least:
        found.append(
            f"its loss went from {math.exp(before):.3f} to {math.exp(now):.3f} between "
            f"{0.5 * share:.0%} and {share:.0%} of its training, and theirs fell by "
            f"{-math.expm1(-least):.1%} at the least"
        )
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
