"""Approach 1: the lowest loss that any run has at each compute, and a power law through the sizes
that reach it.
"""

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.explain.allocation import _final_losses, _frontier, _training_curves
from llmscale.explain.allocation._allocation import Allocation, bias_note, interval, measure_bias
from llmscale.explain.allocation._final_losses import FinalLosses
from llmscale.explain.allocation._frontier import Frontier
from llmscale.explain.allocation._training_curves import Curves
from llmscale.explain.estimation.levels import levels
from llmscale.explain.fit import Options
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import MID_SCHEDULE, NO_INTERVAL
from llmscale.notes.predicting import (
    ENVELOPE_ENDS,
    ENVELOPE_OF_FINAL_LOSSES,
    ENVELOPE_SIZES,
    REFITS_WITHOUT_OPTIMUM,
)
from llmscale.quantity import format_count
from llmscale.runs.curve_file import Curves as CurveRows

SOURCE = "Hoffmann et al. 2022, approach 1"
_LEAST = 3


def allocate(
    table: RunTable,
    options: Options,
    *,
    law: str | type[Law] | None = "chinchilla",
    curves: CurveRows | None = None,
) -> Allocation:
    """N*(C) from the envelope of the training curves, or else the convex hull of final losses.

    `curves` has a row a logged step: run_id, tokens, flops (or 6ND), and loss where evaluated or
    train_loss. Left out, those of a results folder are read. Raises InputError if fewer than 3
    sizes give an optimum."""
    frame = table.frame
    factor, notes = _frontier.flops_factor(frame)
    evidence, more = _evidence(table, curves, factor)
    notes += more
    log_flops, log_params, weight, reasons = evidence.optima(evidence.loss, np.ones(evidence.units))
    count = int((weight > 0).sum())
    if count < _LEAST:
        sizes = map(format_count, np.exp(log_params))
        ends = [f"{size}: {why}" for size, why in zip(sizes, reasons, strict=True) if why]
        left = f" (left out: {listed(ends, separator='; ')})" if ends else ""
        raise InputError(
            f"the envelope needs {_LEAST} sizes that are passed by a larger one, and has "
            f"{count}{left}",
            "train more sizes, each on until the next larger one is better; or take llmscale fit "
            "TABLE --method parametric",
        )
    a, log_prefactor = _frontier.regress(log_flops[None], log_params[None], weight[None])[0]
    frontier = Frontier(float(a), float(log_prefactor), factor)

    flops = np.exp(log_flops)
    rng = np.random.default_rng(options.seed)
    refits, low, high, more = _refits(evidence, options.bootstrap, rng, flops, options.level)
    notes += more

    def again(_: Array, surface: Law) -> Frontier:
        x, y, w, _reasons = evidence.optima(evidence.losses_of(surface), np.ones(evidence.units))
        if (w > 0).sum() < 2:
            raise InputError(
                "on the fitted surface fewer than 2 sizes give an optimum", "train more sizes"
            )
        slope, start = _frontier.regress(x[None], y[None], w[None])[0]
        return Frontier(float(slope), float(start), factor)

    bias, bias_notes = measure_bias(evidence.table(table), law, options, factor, again)
    if bias:
        bias_notes = (bias_note("envelope", frontier, bias, float(frame["flops"].max())),)
    budgets = pd.DataFrame(
        {
            "flops": flops,
            "params": np.exp(log_params),
            "tokens": flops / (factor * np.exp(log_params)),
            "loss": evidence.at(log_flops),
            "low": low,
            "high": high,
            "n_runs": evidence.runs_at(log_params),
            "n_sizes": 1,
            "used": weight > 0,
            "reason": reasons,
            "weight": weight,
        }
    )
    return Allocation(
        method="envelope",
        source=SOURCE,
        table=table,
        frontier=frontier,
        refits=refits,
        level=options.level,
        budgets=budgets,
        notes=(*table.notes, *notes, *_notes(budgets, evidence), *bias_notes),
        bias=bias,
    )


def _evidence(
    table: RunTable, curves: CurveRows | None, factor: float
) -> tuple[Curves | FinalLosses, tuple[Note, ...]]:
    """The curves given or of a results folder, else the final losses; and what to say of them."""
    frame = table.frame
    given = _training_curves.of_results(table) if curves is None else curves
    if given is None:
        message = (
            "no training curves: the envelope is the lower convex hull of the runs' final losses"
        )
        return _final_losses.from_frame(frame), (ENVELOPE_OF_FINAL_LOSSES.note(message),)
    evidence = _training_curves.from_frame(frame, given, factor)
    if "schedule" in frame and (frame["schedule"] == "constant").all():
        return evidence, ()
    message = (
        "the envelope is made of losses in mid-schedule, before the learning rate has come down: "
        "they are too high, the more so the further from a run's end, which as a rule favours "
        "small sizes"
    )
    return evidence, (MID_SCHEDULE.note(message),)


def _refits(
    evidence: Curves | FinalLosses, count: int, rng: np.random.Generator, flops: Array, level: float
) -> tuple[Array, Array, Array, tuple[Note, ...]]:
    """Power laws through envelopes of runs (curves) or sizes (points) drawn with replacement;
    the interval of N* at each of `flops`; notes."""
    nothing = np.full(len(flops), np.nan)
    if count == 0:
        return np.empty((0, 2)), nothing, nothing.copy(), ()
    found = np.full((count, 2), np.nan)
    for index in range(count):
        chosen = rng.integers(evidence.units, size=evidence.units)
        drawn = np.bincount(chosen, minlength=evidence.units).astype(float)
        x, y, weight, _ = evidence.optima(evidence.loss, drawn)
        if (weight > 0).sum() >= 2:
            found[index] = _frontier.regress(x[None], y[None], weight[None])[0]
    found = found[np.isfinite(found).all(axis=1)]
    if len(found) < count / 2:
        message = (
            f"only {len(found)} of {count} resampled envelopes have two optima or more: no "
            "interval is given (train more sizes)"
        )
        return np.empty((0, 2)), nothing, nothing.copy(), (NO_INTERVAL.note(message),)
    notes: tuple[Note, ...] = ()
    if len(found) < count:
        message = (
            f"{count - len(found)} of {count} resampled envelopes have too few optima and were "
            "left out"
        )
        notes = (REFITS_WITHOUT_OPTIMUM.note(message),)
    many = Frontier(found[:, 0], found[:, 1])
    ends = np.array([interval(many.params(at), level) for at in flops]).reshape(-1, 2)
    return found, ends[:, 0], ends[:, 1], notes


def _notes(budgets: pd.DataFrame, evidence: Curves | FinalLosses) -> list[Note]:
    notes = []
    number = int(evidence.size_R.max()) + 1
    used, left = budgets[budgets["used"]], budgets[~budgets["used"]]
    reached = len(np.unique(levels(budgets["params"].to_numpy())))
    names = ", ".join(dict.fromkeys(map(format_count, used["params"])))
    message = (
        f"{reached} of {number} sizes reach the envelope; the power law rests on those of {names}"
    )
    notes.append(ENVELOPE_SIZES.note(message))
    if len(left):
        ends = [
            f"{format_count(row.params)} at C = {row.flops:.3g}, {row.reason}"
            for row in left.itertuples()
        ]
        message = f"left out of the power law: {listed(ends, separator='; ')}"
        notes.append(ENVELOPE_ENDS.note(message))
    return notes
