"""How the runs were made: learning rates at an edge, untuned searches, runs left out or counted
twice."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import Note, listed
from llmscale.errors.command_lines import condition
from llmscale.explain.diagnostics.evidence import (
    Evidence,
    best_at_end,
    counted,
    known,
    where,
)
from llmscale.explain.diagnostics.mixing import NAMED, searched
from llmscale.explain.estimation.advice import sweep_with
from llmscale.explain.estimation.levels import count_levels
from llmscale.explain.laws import LETTERS
from llmscale.explain.table.rows.resumed import COPY, STEP_TWICE
from llmscale.explain.table.rows.weights import NO_WEIGHT
from llmscale.explain.table.run_table import titles_of, with_reasons
from llmscale.notes.fitting import (
    DIVERGED_RUNS,
    DUPLICATE_RUNS,
    FEW_STEPS,
    LEARNING_RATE_AT_EDGE,
    ONE_LEARNING_RATE,
    UNFINISHED_RUNS,
    UNTUNED_RUNS,
)
from llmscale.notes.kind import Weight
from llmscale.runs.title import run_titles

_WAYS = 5
"""Values of a column that are tried as what tells the ways apart in which runs were made."""


def learning_rate_at_edge(evidence: Evidence) -> Note | None:
    """Points whose best learning rate is the smallest or the largest tried."""
    done = evidence.done
    edges, points = [], searched(done)
    lr, loss = (
        done[name].to_numpy(dtype=float) if points else np.zeros(0) for name in ("lr", "loss")
    )
    for rows in points:
        tried = np.unique(lr[rows])
        best = best_at_end(lr[rows], loss[rows])
        if best is not None:
            end = "smallest" if best == tried[0] else "largest"
            edges.append(f"{where(done, rows[0])} (lr {best:.3g}, the {end} of {len(tried)})")
    if not edges:
        return None
    return LEARNING_RATE_AT_EDGE.note(
        f"at {len(edges)} of {counted(len(points), 'point')} the best learning rate is at an end "
        f"of those tried: {listed(edges, 2)}. Their losses are too high: try "
        f"beyond that end{sweep_with(done, '--lr-scale 0.5, or 2')} until a worse one is found on "
        "both sides"
    )


def untuned_runs(evidence: Evidence) -> Note | None:
    """A search over learning rates fitted as if each of its runs were the best of its point."""
    frame = evidence.frame
    points = searched(frame)
    if not points:
        return None
    loss = frame["loss"].to_numpy(dtype=float)
    excess = np.concatenate([np.sort(loss[rows])[1:] / loss[rows].min() - 1 for rows in points])
    return UNTUNED_RUNS.note(
        f"{counted(len(points), 'point')} hold runs at several learning rates, and the fit takes "
        f"all of them: {len(excess)} are not the best of their point, by "
        f"{float(np.median(excess)):.1%} in the middle and {excess.max():.1%} at the most. A law "
        f"describes tuned runs: {_tuned_only(evidence, points)}",
    )


def _tuned_only(evidence: Evidence, points: list[NDArray[np.int_]]) -> str:
    """How to fit one run a point: those of one way of making them, or the best."""
    frame = evidence.frame
    searched = np.concatenate(points)
    for name in frame.columns:
        if not (frame[name].dtype == object or isinstance(frame[name].dtype, pd.StringDtype)):
            continue
        for value in frame[name].iloc[searched].dropna().unique()[:_WAYS]:
            chosen = frame[name] == value
            if all(frame["lr"][rows][chosen[rows]].nunique() == 1 for rows in points):
                only = condition(name, "==", value)
                return f"keep those of one kind, {evidence.again('--where', only)}"
    lr, loss = (frame[name].to_numpy(dtype=float) for name in ("lr", "loss"))
    best_of_points = [set(lr[rows][loss[rows] == loss[rows].min()]) for rows in points]
    best = set.intersection(*best_of_points)
    if best:
        only = condition("lr", "==", min(best))
        return f"keep the best, {evidence.again('--where', only)}"
    return f"keep the best of each point, {evidence.again('--best-of', _point_of(evidence))}"


def _point_of(evidence: Evidence) -> str:
    """The columns that tell the points of a search apart, with commas between."""
    frame, inputs = evidence.frame, evidence.fit.law.inputs
    names = ["params", "tokens", *NAMED, *(name for name in inputs if name not in LETTERS)]
    there = [name for name in dict.fromkeys(names) if name in frame]
    return ",".join(name for name in there if frame[name].nunique() > 1)


def one_learning_rate(evidence: Evidence) -> Note | None:
    """One learning rate for sizes a factor of ten apart."""
    done = evidence.done
    if not (known(done, "lr") and known(done, "params")) or done["lr"].nunique() > 1:
        return None
    params = done["params"].to_numpy(dtype=float)
    if count_levels(params) < 3 or params.max() < ONE_LEARNING_RATE.limit * params.min():
        return None
    return ONE_LEARNING_RATE.note(
        f"every size was trained at learning rate {done['lr'].iloc[0]:.3g}, over a factor of "
        f"{params.max() / params.min():.0f} in N: the best one falls with size (Porian et al. "
        "2024), and the exponents take the mistuning for scaling. Tune each size, or use the rule "
        "in N, as a sweep without --lr does",
    )


def few_steps(evidence: Evidence) -> Note | None:
    """Runs of so few steps that warm-up and cooldown are most of them."""
    frame = evidence.frame
    if not known(frame, "steps"):
        return None
    short = frame[frame["steps"].astype(float) < FEW_STEPS.limit]
    if short.empty:
        return None
    return FEW_STEPS.note(
        f"{counted(len(short), 'run')} had fewer than {FEW_STEPS.limit:g} steps "
        f"({listed(run_titles(short))}), mostly warm-up and cooldown: use smaller "
        f"batches{sweep_with(frame, '--batch-tokens')} or more tokens"
    )


def diverged_runs(evidence: Evidence) -> Note | None:
    """Runs that diverged, which the fit leaves out."""
    diverged = [run for run in evidence.fit.table.excluded if "diverged" in run.reason.lower()]
    if not diverged:
        return None
    names = [run.run_id for run in diverged]
    return DIVERGED_RUNS.note(
        f"{counted(len(names), 'run')} diverged and {'is' if len(names) == 1 else 'are'} left "
        f"out: {listed(titles_of(diverged))}{_beyond(evidence, names)}. The law "
        f"describes the runs that survived; train {'it' if len(names) == 1 else 'them'} again at "
        f"half the learning rate{sweep_with(evidence.frame, '--retry-diverged 1')}",
    )


def unfinished_runs(evidence: Evidence) -> Note | None:
    """Runs left out because they are not done."""
    finished = (NO_WEIGHT, COPY, STEP_TWICE)
    excluded = [run for run in evidence.fit.table.excluded if run.reason not in finished]
    left_out = [run for run in excluded if "diverged" not in run.reason.lower()]
    if not left_out:
        return None
    names = [run.run_id for run in left_out]
    reasons = listed(with_reasons(left_out))
    own = ". The sweep's own command finishes them" if evidence.fit.table.path.is_dir() else ""
    return UNFINISHED_RUNS.note(
        f"{counted(len(names), 'run')} left out as not done: "
        f"{reasons}{_beyond(evidence, names)}{own}",
    )


_MANY_DUPLICATES = 0.05
"""A share of the rows. Fewer make intervals narrower by less than a fortieth."""


def duplicate_runs(evidence: Evidence) -> Note | None:
    """The same run twice, counted as two."""
    frame = evidence.frame
    again = (
        frame.duplicated([name for name in frame.columns if name != "run_id"])
        & frame["loss"].duplicated()
    )
    what = "repeat another in every column"
    if not again.any():
        again, what = _rounded(frame), "repeat another, rounded, at its size and tokens"
    if not again.any():
        return None
    return DUPLICATE_RUNS.note(
        f"{counted(int(again.sum()), 'row')} {what}: "
        f"{listed(run_titles(frame, np.flatnonzero(again)))}. They weigh double and make "
        "intervals too narrow: take them out",
        Weight.DOUBT if again.mean() < _MANY_DUPLICATES else None,
    )


_LEAST_ROUNDED, _LEAST_DECIMALS = 2, 3


def _rounded(frame: pd.DataFrame) -> pd.Series:
    """Rows whose loss is that of another of the same size and tokens with fewer decimals: two or
    more of three decimals at least, as chance hardly makes."""
    again = pd.Series(data=False, index=frame.index)
    names = [name for name in ("params", "tokens") if name in frame]
    if frame["run_id"].duplicated().any() or not frame.duplicated(names).any():
        return again
    for _, rows in frame[frame.duplicated(names, keep=False)].groupby(names, dropna=False):
        losses = rows["loss"].to_numpy(dtype=float)
        decimals = np.array([_decimals(loss) for loss in losses])
        for place in np.argsort(decimals, kind="stable")[:-1]:
            few = int(decimals[place])
            same = np.round(losses, few) == losses[place]
            finer = same & (decimals > few)
            again[rows.index[place]] = few >= _LEAST_DECIMALS and bool(finer.any())
    return again if again.sum() >= _LEAST_ROUNDED else again & False


def _decimals(value: float) -> int:
    return len(f"{value:.15g}".partition(".")[2])


def _beyond(evidence: Evidence, names: list[str]) -> str:
    """`, larger than any that is left` if that is so."""
    runs = evidence.runs
    if runs is None or "run_id" not in runs or "params" not in runs:
        return ""
    sizes = pd.to_numeric(runs["params"][runs["run_id"].astype(str).isin(names)], errors="coerce")
    if not len(sizes) or not sizes.max() > 1.01 * evidence.frame["params"].max():
        return ""
    return ", with the largest size among them"
