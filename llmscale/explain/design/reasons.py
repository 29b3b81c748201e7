"""Why a run is proposed, in a sentence: what it does to the forecast that others would not."""

import numpy as np

from llmscale.explain import digits
from llmscale.explain.design.batch import Bought
from llmscale.explain.design.candidates import Candidates
from llmscale.explain.design.standing import nearer, side_of
from llmscale.explain.estimation.result import Fit

_MOSTLY = 0.5
"""A part of the gain that is larger than this share of it is the reason."""
_SHORTER = 0.05
"""A distance that is shorter by less than this, in ln C, is as long."""
_OFF = 2.0
"""Tokens a parameter this many times those of the optimum, or less, are near it."""


def reason_of(one: Bought, candidates: Candidates, fit: Fit, *, again: bool) -> str:
    """Why this run, by how much of its gain is a shorter distance, and by where it lies; `again` if
    there is such a run already."""
    before, after = one.before.first, one.after.first
    gain = before.width - after.width
    by_reach = before.width - before.width_by_reach(one.run)
    side = side_of(before.reach, *np.exp(before.target).tolist())
    further = nearer(before.horizon, after.horizon, side)
    is_shorter = after.horizon < before.horizon - _SHORTER
    if by_reach > _MOSTLY * gain and is_shorter:
        return further
    shorter = f"; {further}" if is_shorter else ""
    if again:
        return f"again with another seed: tells the law from noise{shorter}"
    return f"{_where(one.run, candidates, fit)}{shorter}"


def _where(run: int, candidates: Candidates, fit: Fit) -> str:
    """Where the run lies, and what a run there tells."""
    N, D = float(candidates.params[run]), float(candidates.tokens[run])
    best = fit.law.optimal(6.0 * N * D)
    if best is None:
        return "narrows the law where the forecast is most uncertain"
    times = (D / N) / (float(best[1]) / float(best[0]))
    if 1.0 / _OFF <= times <= _OFF:
        return "near the optimum of its budget: tells how the loss falls with compute"
    side = "more" if times > 1 else "fewer"
    factor = digits.times(max(times, 1.0 / times), 2).removesuffix("x")
    what = "tells the effect of N from that of D"
    return f"{factor} times {side} tokens a parameter than are best for its FLOPs: {what}"
