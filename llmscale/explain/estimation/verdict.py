"""A fit in one sentence: what was found, how it did on the runs held out, and how far to use it."""

import math
from typing import TYPE_CHECKING

import numpy as np

from llmscale.errors import both
from llmscale.explain import digits
from llmscale.notes import Weight, heaviest_first, weight_of
from llmscale.notes.fitting import (
    FLOOR_UNCERTAIN,
    GROUP_OFF_LAW,
    HOLDOUT_ONE_SIDED,
    MISFIT_EXCEEDS_NOISE,
    NO_INTERVAL,
    REPEATED_DATA,
    RESIDUAL_TREND,
)

if TYPE_CHECKING:
    from llmscale.explain.estimation.result import Fit

_MOST_EXPONENTS = 2
_SMALL = 0.095
"""Smaller exponents are shown with two more decimals."""
_MOST_CODES = 2
_NEAR_ONLY = tuple(
    kind.code
    for kind in (
        HOLDOUT_ONE_SIDED,
        GROUP_OFF_LAW,
        RESIDUAL_TREND,
        REPEATED_DATA,
        NO_INTERVAL,
        FLOOR_UNCERTAIN,
    )
)
"""Notes that say nothing against the law near its runs, and much against it beyond them."""
_OF_FORM = (RESIDUAL_TREND.code, MISFIT_EXCEEDS_NOISE.code)
"""Notes on the law's form, which the held-out runs have tested."""


def verdict(fit: "Fit") -> str:
    """`alpha = 0.34 [0.31, 0.37] from 24 runs; predicts the 3 held out to 0.4%: usable to 10x`."""
    return f"{_found(fit)}; {_checked(fit)}: {_use(fit)}"


def _found(fit: "Fit") -> str:
    exponents = [_with_interval(fit, name) for name in fit.law.exponents[:_MOST_EXPONENTS]]
    runs = "run" if fit.table.runs == 1 else "runs"
    if not exponents:
        return f"fitted to {fit.table.runs} {runs}"
    return f"{', '.join(exponents)} from {fit.table.runs} {runs}"


def _with_interval(fit: "Fit", name: str) -> str:
    value, ends = fit.law.coefficients()[name], fit.intervals.get(name)
    places = 2 if abs(value) >= _SMALL else 4
    if ends and ends[1] > ends[0]:
        places = max(places, -math.floor(math.log10(ends[1] - ends[0])))
    interval = f" [{ends[0]:.{places}f}, {ends[1]:.{places}f}]" if ends else ""
    return f"{name} = {value:.{places}f}{interval}"


def _checked(fit: "Fit") -> str:
    check = fit.holdout
    if check is None:
        return "no run was held out to test it on"
    number = check.size.removesuffix(" runs") if " of " not in check.size else check.size
    which = "the one held out" if len(check.runs) == 1 else f"the {number} held out"
    # With fewer runs the check may be of another law, such as one without a floor.
    by_another = "" if check.law.name == fit.law.name else f"{check.law.name} "
    return f"{by_another}predicts {which} to {check.error_text}"


def _use(fit: "Fit") -> str:
    """How far to believe it: not at all, near its runs, or as far beyond as was tested."""
    notes = heaviest_first(fit.notes)
    grave_notes = (note for note in notes if weight_of(note) is Weight.WRONG)
    wrong = list(dict.fromkeys(note.code for note in grave_notes))
    untested = fit.holdout is None or _missed(fit)
    of_runs = [code for code in wrong if code not in _OF_FORM or untested]
    if of_runs:
        grave = sorted(of_runs, key=lambda code: code not in _OF_FORM)
        are = "is" if len(grave) == 1 else "are"
        return f"not to be relied on before {both(grave[:_MOST_CODES])} {are} settled"
    if fit.holdout is None:
        return "do not extrapolate"
    if _missed(fit):
        return "that is outside of its interval, so do not extrapolate"
    doubts = (note for note in fit.notes if weight_of(note) > Weight.NEWS)
    near = [note.code for note in doubts if note.code in _NEAR_ONLY]
    if near:
        return f"usable near these runs ({near[0]})"
    but = f", but mind {wrong[0]}" if wrong else ""
    far = digits.times(_tested(fit), 2)
    return f"usable to {far} the largest run, as far as it was tested{but}"


def _missed(fit: "Fit") -> bool:
    check = fit.holdout
    if check is None or check.inside_interval is None:
        return False
    return check.inside_interval < 0.5 * len(check.runs)


def _tested(fit: "Fit") -> float:
    """How much larger the largest run is than the largest that was left to predict it."""
    assert fit.holdout is not None
    frame = fit.table.frame
    amount = frame["flops"].to_numpy(dtype=float)
    if not np.isfinite(amount).all():
        amount = np.prod(fit.inputs, axis=0)
    left = ~frame["run_id"].isin(fit.holdout.runs["run_id"]).to_numpy()
    if not left.any():
        return 1.0
    return max(float(amount.max() / amount[left].max()), 1.0)
