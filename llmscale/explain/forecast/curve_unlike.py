"""How the curve of a run under way differs from all that a forecast of its end rests on."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmscale.explain.laws import LETTERS, Array
from llmscale.notes.predicting import CURVE_UNLIKE

if TYPE_CHECKING:
    from llmscale.explain.forecast.curve import Curve
    from llmscale.explain.forecast.curve_fall import Asked

_RISEN = 0.05
"""In ln of the loss: more than noise."""
_HARDLY = 0.25
"""Of the least fall of finished runs: no run of ours fell by less than 0.37 of that of smaller
ones."""
_OFF, _TIMES_OFF = 0.2, 5.0
"""In ln, and times what finished runs are off a regression: no run of results/ was as far off, and
79% of their curves would be if they were in bits."""
_JUMP, _BEFORE = 2.0, 7
"""No run of results/ has logged a loss that high over the median of the seven before it."""
_BITS = -math.log(math.log(2.0))
_RATE = math.log(2.1)
"""Twice, and what rounding adds. Of results/learning-rate, forecast by one run of each size and
budget, 211 of 222 fell into 90% intervals at up to twice its rate or half of it, and 39 of 51
beyond."""


def unlike_finished(run: "Curve", finished: Sequence["Curve"], asked: "Asked") -> list[str]:
    """What is different, in words; nothing if it is one of the kind."""
    share = min(run.share, 1.0)
    now, before = run.level(share), run.level(0.5 * share)
    found = []
    if not math.isfinite(run.train_loss_S[-1]):
        found.append("its last training loss is no number")
    elif (jump := _last_jump(run.train_loss_S)) > _JUMP:
        found.append(
            f"its last training loss is {run.train_loss_S[-1]:.4g}, {jump:.2g} times those before"
        )
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
    off, usual = asked.level_apart()
    is_off = abs(off) > max(_OFF, _TIMES_OFF * usual)
    unit = "" if found else _as_in(now, off)
    if is_off or not low - apart <= now <= high + apart:
        found.append(
            f"its loss is {math.exp(now):.4g} at {share:.0%} of its training, where theirs was "
            f"{math.exp(low):.4g} to {math.exp(high):.4g} and its size and tokens tell "
            f"{math.exp(now - off):.4g}{unit}"
        )
    apart = _rate_apart(run, finished)
    if abs(apart) > _RATE:
        found.append(
            f"its learning rate is {math.exp(apart):.2g} times the nearest of theirs, as they go "
            "with N and D"
        )
    for name, value in run.traits.items():
        most = max((one.traits.get(name, math.nan) for one in finished), default=math.nan)
        if name in LETTERS and value > CURVE_UNLIKE.limit * most:
            found.append(f"its {LETTERS[name]} is {value / most:.2g} times the largest of theirs")
    return found


def _last_jump(losses_S: Array) -> float:
    """The last loss over the median of those just before it."""
    before = losses_S[-1 - _BEFORE : -1]
    before = before[np.isfinite(before)]
    return float(losses_S[-1] / np.median(before)) if len(before) else 1.0


def _as_in(now: float, off: float) -> str:
    """Which other unit would explain a level that is so far off."""
    if abs(off - _BITS) < 0.5 * _OFF:
        return " (in bits? a loss is taken in nats)"
    if now > 0 and abs(math.log(now) - (now - off)) < 0.5 * _OFF:
        return " (a perplexity? a loss is taken in nats)"
    return ""


def _rate_apart(run: "Curve", finished: Sequence["Curve"]) -> float:
    """ln of the learning rate above the highest of finished runs, or below the lowest, each next to
    a power law in N and D through theirs; 0 if it is among them, or if not all are known."""
    every = [one.traits for one in (*finished, run)]
    names = ("params", "tokens", "lr")
    if not all(traits.get(name, 0.0) > 0 for traits in every for name in names):
        return 0.0
    logs = np.log([[traits[name] for name in names] for traits in every])
    logs -= logs[:-1].mean(axis=0)
    slopes = np.linalg.lstsq(logs[:-1, :2], logs[:-1, 2], rcond=1e-3)[0]
    left = logs[:, 2] - logs[:, :2] @ slopes
    low, high = left[:-1].min(), left[:-1].max()
    return float(left[-1] - np.clip(left[-1], low, high))
