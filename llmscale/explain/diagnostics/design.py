"""What the choice of runs keeps a law from knowing: collinear designs, few sizes, the meaning of
N."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import LlmscaleError, Note, listed
from llmscale.explain.diagnostics.evidence import Evidence, best_at_end, counted, groups, known
from llmscale.explain.estimation.advice import more_budgets, more_sizes, sweep_with
from llmscale.explain.estimation.levels import count_levels
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import Array
from llmscale.explain.table import COUNTS
from llmscale.notes.fitting import (
    COLLINEAR_DESIGN,
    COUNT_SENSITIVE,
    EMBEDDING_SHARE,
    FEW_SIZES,
    FLOOR_NOT_IDENTIFIED,
    FLOOR_UNCERTAIN,
    OPTIMUM_NOT_BRACKETED,
)
from llmscale.notes.kind import Weight
from llmscale.quantity import format_count

_SMALL_VOCABULARY = 512
"""Of a tokenizer to advise: the one that a sweep trains on less than 10 MB of text."""
_SAME_BUDGET = 0.2
"""Budgets within 20% of their neighbour are one: published IsoFLOP tables scatter by up to 8%, and
step by 2-3x."""
_SIZES_OF_A_PROFILE = 4
_SHARE_IN_PROFILES = 0.6
"""Share of the runs that are in such profiles, for the table to be a search for optima."""
_GRID = 0.6
"""Share of the cells of sizes × token budgets that are filled: 1 in a full grid, under a half in
IsoFLOP tables."""


def collinear_design(evidence: Evidence) -> Note | None:
    """Tokens that follow size, or its inverse: N's and D's terms trade off (arXiv 2605.08541)."""
    law, frame = evidence.fit.law, evidence.frame
    if not {"params", "tokens"} <= set(law.inputs) or len(frame) < 3:
        return None
    logs = np.log(frame[["params", "tokens"]].to_numpy(dtype=float)).T
    if (logs.std(axis=1) == 0).any():
        return None
    correlation = float(np.corrcoef(logs)[0, 1])
    if abs(correlation) < COLLINEAR_DESIGN.limit:
        return None
    of_design = np.sqrt((1 + abs(correlation)) / max(1 - abs(correlation), 1e-15))
    numbers = (
        f"correlation {correlation:.3f} of ln N and ln D; condition numbers {of_design:.2g}, and "
        f"{_condition(evidence):.2g} of the fit"
    )
    if correlation < 0:
        budget = format_count(float(np.median(frame["flops"])))
        return COLLINEAR_DESIGN.note(
            f"tokens shrink as size grows ({numbers}): the runs lie near one budget of {budget} "
            f"FLOPs, and say little about others. Add budgets: {more_budgets(frame)}"
        )
    exponents = " and ".join(law.exponents) or "the coefficients"
    ratio = format_count(float(np.median(frame["tokens"] / frame["params"])))
    return COLLINEAR_DESIGN.note(
        f"tokens grow with size ({numbers}): {exponents} trade off, and the law holds only near "
        f"{ratio} tokens a parameter. Add other ratios at each size: {more_budgets(frame)}"
    )


def few_sizes(evidence: Evidence) -> Note | None:
    """Sizes or budgets that the law's terms can pass through exactly, with nothing left to check
    them by."""
    law, frame = evidence.fit.law, evidence.frame
    if any(note.code == FLOOR_NOT_IDENTIFIED.code for note in evidence.fit.notes):
        return None
    number = {name: count_levels(frame[name].to_numpy()) for name in _WORDS if name in law.inputs}
    if len(law.inputs) == 1 and number:
        return _few_of_one(evidence, *next(iter(number.items())))
    few = [name for name in number if number[name] < FEW_SIZES.limit]
    if not few:
        return None
    have = " and ".join(counted(number[name], _WORDS[name]) for name in few)
    more = " and ".join(f"{_WORDS[name]}s" for name in few)
    return FEW_SIZES.note(
        f"{have} cannot tell a floor, a scale and an exponent apart, which takes "
        f"{FEW_SIZES.limit:g}: the exponents rest on the sum of terms being right. Add {more}: "
        f"{more_budgets(frame)}"
    )


_WORDS = {"params": "size", "tokens": "token budget", "flops": "budget"}


def _few_of_one(evidence: Evidence, name: str, number: int) -> Note | None:
    """A law in one variable with at most one size or budget more than coefficients."""
    coefficients = evidence.fit.free
    spare = number - coefficients
    if spare > 1:
        return None
    more = more_sizes(evidence.frame) if name == "params" else more_budgets(evidence.frame)
    return FEW_SIZES.note(
        f"{counted(number, _WORDS[name])} for {coefficients} coefficients leave {spare or 'none'} "
        f"to check the form by: measure two more at least, over 1.5 decades or more ({more})"
    )


def floor_uncertain(evidence: Evidence) -> Note | None:
    """A floor whose interval is wide against itself."""
    law = evidence.fit.law
    ends = evidence.fit.intervals.get(law.floor) if law.floor else None
    value = law.coefficients()[law.floor] if law.floor else 0.0
    if ends is None or value <= 0 or ends[1] - ends[0] < FLOOR_UNCERTAIN.limit * value:
        return None
    return FLOOR_UNCERTAIN.note(
        f"the floor {law.floor} = {value:.3g} may be anything from {ends[0]:.3g} to "
        f"{ends[1]:.3g}, and predictions far beyond the runs hang on it: add larger runs, or "
        f"compare laws without one ({evidence.other_laws})",
    )


def optimum_not_bracketed(evidence: Evidence) -> Note | None:
    """IsoFLOP tables whose lowest loss at a budget is at the smallest or largest size tried
    there."""
    frame = evidence.frame
    if not {"params", "tokens"} <= set(evidence.fit.law.inputs) or _is_grid(frame):
        return None
    profiles = _profiles(frame)
    if len(profiles) < 2 or sum(map(len, profiles)) < _SHARE_IN_PROFILES * len(frame):
        return None
    ends = (_open_end(evidence, rows) for rows in profiles)
    open_ended = [end for end in ends if end is not None]
    if not open_ended or len(open_ended) < OPTIMUM_NOT_BRACKETED.limit * len(profiles):
        return None
    return OPTIMUM_NOT_BRACKETED.note(
        f"at {len(open_ended)} of {counted(len(profiles), 'budget')} the lowest loss is at an end "
        f"of the sizes tried, and the law's best size beyond it: {listed(open_ended, 2)}. Add "
        "sizes beyond that end at the same budget",
        Weight.DOUBT,
    )


def _profiles(frame: pd.DataFrame) -> list[NDArray[np.int_]]:
    """The rows of every budget that has sizes to choose an optimum from."""
    log_C = np.log(frame["flops"].to_numpy(dtype=float))
    params = frame["params"].to_numpy(dtype=float)
    order = np.argsort(log_C, kind="stable")
    apart = np.flatnonzero(np.diff(log_C[order]) > np.log1p(_SAME_BUDGET)) + 1
    budgets = (np.sort(rows) for rows in np.split(order, apart))
    return [rows for rows in budgets if _is_profile(params[rows], log_C[rows])]


def _open_end(evidence: Evidence, rows: NDArray[np.int_]) -> str | None:
    """`1e18 FLOPs (largest, N = 10M)` if the best size of a budget is at an end of those tried, and
    the law says so, too: noise puts the lowest of flat losses anywhere."""
    frame = evidence.frame
    params, loss = (frame[name].to_numpy(dtype=float)[rows] for name in ("params", "loss"))
    best = best_at_end(params, loss)
    if best is None:
        return None
    end = "largest" if best == params.max() else "smallest"
    budget = np.exp(np.median(np.log(frame["flops"].to_numpy(dtype=float)[rows])))
    # Of the law a budget is 6ND, whatever the table's own FLOPs count.
    ND = np.median(6 * params * frame["tokens"].to_numpy(dtype=float)[rows])
    of_law = evidence.fit.law.optimal(np.array([ND]))
    if of_law is not None and params.min() < of_law[0][0] < params.max():
        return None
    return f"{format_count(budget)} FLOPs ({end}, N = {format_count(best)})"


def count_sensitive(evidence: Evidence) -> Note | None:
    """Exponents that hang on which parameters N counts, by a refit under each count of the
    table."""
    fit = evidence.fit
    found = _by_count(evidence)
    if len(found) < 2:
        return None
    hanging = []
    for name in _exponents(fit):
        values = [exponents[name] for exponents in found.values() if name in exponents]
        moved = max(values) > (1 + COUNT_SENSITIVE.limit) * max(min(values), 1e-12)
        if moved and len(values) == len(found):
            hanging.append(name)
    if not hanging:
        return None
    shown = []
    for count, exponents in found.items():
        given = ", ".join(f"{name} = {exponents[name]:.3g}" for name in hanging)
        shown.append(f"by {count} {given}")
    other = next(count for count in found if count != fit.table.count)
    return COUNT_SENSITIVE.note(
        f"the exponents hang on what N counts: {'; '.join(shown)}. State the count with them, and "
        f"compare like with like: --count {other}"
    )


def _by_count(evidence: Evidence) -> dict[str, dict[str, float]]:
    """The exponents under each count of N that the table has, if they can be refitted."""
    fit, frame = evidence.fit, evidence.frame
    counts = [name for name in COUNTS if known(frame, name)]
    if evidence.refit is None or "params" not in fit.law.inputs or len(counts) < 2:
        return {}
    found: dict[str, dict[str, float]] = {}
    for count in counts:
        if count == fit.table.count:
            found[count] = _exponents(fit)
            continue
        # A table read with --count has its `params` replaced by that count: its own are lost, and
        # not tried.
        if count == "params" and fit.table.count != "params":
            continue
        counted_so = frame.assign(params=frame[count].astype(float))
        with suppress(LlmscaleError):
            table = replace(fit.table, frame=counted_so, count=count)
            found[count] = _exponents(evidence.refit(table))
    return found


def embedding_share(evidence: Evidence) -> Note | None:
    """Models that are mostly vocabulary: their size grows more slowly than what does the work."""
    frame = evidence.frame
    totals = [name for name in ("params_total", "params", "n_params") if known(frame, name)]
    if not known(frame, "params_non_embedding") or not totals:
        return None
    blocks = frame["params_non_embedding"].to_numpy(dtype=float)
    total = np.max([frame[name].to_numpy(dtype=float) for name in totals], axis=0)
    share = 1 - blocks / total
    high = share > EMBEDDING_SHARE.limit
    if not high.any():
        return None
    return EMBEDDING_SHARE.note(
        f"embeddings and output layer are more than {EMBEDDING_SHARE.limit:.0%} of the parameters "
        f"in {high.sum()} of {counted(len(share), 'run')} ({share.min():.0%} to "
        f"{share.max():.0%}): N means another thing at each size. Compare --count "
        "params_non_embedding; use "
        f"{_smaller_vocabulary(frame)}larger models"
    )


def _smaller_vocabulary(frame: pd.DataFrame) -> str:
    """`a smaller vocabulary or `, if the runs have a larger one than would be advised."""
    if known(frame, "vocab_size") and frame["vocab_size"].max() <= _SMALL_VOCABULARY:
        return ""
    option = f"--tokenizer bpe:{_SMALL_VOCABULARY}"
    return f"a smaller vocabulary{sweep_with(frame, option)} or "


def _is_grid(frame: pd.DataFrame) -> bool:
    """Whether sizes and token budgets are crossed: equal FLOPs on the diagonals are then no search
    for an optimum."""
    cells = count_levels(frame["params"].to_numpy()) * count_levels(frame["tokens"].to_numpy())
    return len(np.unique(groups(frame))) > _GRID * cells


def _is_profile(params: Array, log_C: Array) -> bool:
    """Whether runs of one budget are sizes to choose an optimum from."""
    return bool(
        len(set(params)) >= _SIZES_OF_A_PROFILE
        and params.max() > 2 * params.min()
        and np.ptp(log_C) < 0.5
    )


def _exponents(fit: Fit) -> dict[str, float]:
    law = fit.law
    values = {name: float(getattr(law, name)) for name in law.exponents}
    best = law.compute_optimal()
    return {**values, "a": float(best["a"])} if best else values


def _condition(evidence: Evidence) -> float:
    """Condition number of the fit's Jacobian in ln coefficients, with columns of length one.

    ln N · A/N^alpha is nearly A/N^alpha itself, for no reason but the unit of N: the column of an
    exponent is cleared of the amplitude's that it most resembles, as measuring N in a unit from the
    middle of the table would."""
    columns = {
        name: column / np.linalg.norm(column)
        for name, column in zip(evidence.moving, evidence.jacobian.T, strict=True)
        if np.linalg.norm(column) > 0
    }
    exponents = [name for name in columns if name in evidence.fit.law.exponents]
    amplitudes = [column for name, column in columns.items() if name not in exponents]
    for name in exponents if amplitudes else ():
        column = columns[name]
        nearest = max(amplitudes, key=lambda other: abs(float(other @ column)))
        rest = column - (nearest @ column) * nearest
        length = float(np.linalg.norm(rest))
        columns[name] = rest / length if length > 1e-12 else column
    singular = np.linalg.svd(np.stack(list(columns.values()), axis=1), compute_uv=False)
    return float(singular[0] / max(singular[-1], 1e-300))
