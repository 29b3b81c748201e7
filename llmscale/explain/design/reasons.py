"""Why a run is proposed, in a sentence: what it does to the forecast that others would not."""

import math
from collections.abc import Sequence

from llmscale.explain import digits
from llmscale.explain.design.batch import Bought
from llmscale.explain.design.believed import Believed
from llmscale.explain.design.candidates import Candidates
from llmscale.explain.estimation.result import Fit

_MOSTLY = 0.5
"""A part of the gain that is larger than this share of it is the reason."""
_OFF = 2.0
"""Tokens a parameter this many times those of the optimum, or less, are near it."""


def reason_of(one: Bought, candidates: Candidates, laws: Sequence[Believed], *, again: bool) -> str:
    """Why this run, by what of its gain is a shorter distance, what tells laws apart, and what
    narrows a law; `again` if there is such a run already."""
    names = [law.fit.law.name for law in laws]
    outlook, run = one.before, one.run
    gain = outlook.width - one.after.width
    by_reach = outlook.width - outlook.width_by_reach(run)
    if by_reach > _MOSTLY * gain:
        return _further(outlook.horizon, one.after.horizon)
    told = outlook.told
    if len(names) > 1 and told.within[run] < _MOSTLY * told.total[run]:
        return f"tells {' from '.join(names)}"
    shorter = ""
    if one.after.horizon < outlook.horizon - 0.05:
        shorter = f"; {_further(outlook.horizon, one.after.horizon)}"
    if again:
        return f"again with another seed: tells the law from noise{shorter}"
    return f"{_where(run, candidates, laws[0].fit)}{shorter}"


def _further(before: float, after: float) -> str:
    beyond = digits.times(math.exp(before), 2)
    if after <= 0:
        return f"reaches the target, from {beyond} short of it"
    return f"shortens the extrapolation from {beyond} to {digits.times(math.exp(after), 2)}"


def _where(run: int, candidates: Candidates, fit: Fit) -> str:
    """Where the run lies, and what a run there tells."""
    N, D = float(candidates.params[run]), float(candidates.tokens[run])
    best = fit.law.optimal(6.0 * N * D)
    if best is None:
        return "narrows the law where the forecast is most uncertain"
    times = (D / N) / (float(best[1]) / float(best[0]))
    if 1.0 / _OFF <= times <= _OFF:
        return "near the optimum of its budget: tells how the loss falls with compute"
    side = "longer" if times > 1 else "shorter"
    factor = digits.times(max(times, 1.0 / times), 2)
    what = "tells the effect of N from that of D"
    return f"{factor} {side} than the optimum of its budget: {what}"
