"""How the runs were made: mixed settings, learning rates at an edge, runs left out or counted
twice."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from llmscale.errors import Note, listed
from llmscale.errors.command_lines import command_line, where_option
from llmscale.explain.diagnostics.evidence import (
    Evidence,
    best_at_end,
    counted,
    groups,
    known,
    where,
)
from llmscale.explain.estimation.advice import sweep_with
from llmscale.explain.estimation.levels import count_levels, distinct
from llmscale.explain.estimation.repeats import differing, values_of
from llmscale.explain.laws import LETTERS, Array
from llmscale.explain.table.rows.resumed import COPY, STEP_TWICE
from llmscale.explain.table.rows.weights import NO_WEIGHT
from llmscale.notes.fitting import (
    DIVERGED_RUNS,
    DUPLICATE_RUNS,
    FEW_STEPS,
    LEARNING_RATE_AT_EDGE,
    MIXED_ARCHITECTURES,
    MIXED_CONTEXTS,
    MIXED_DATA,
    MIXED_EVALUATIONS,
    MIXED_OPTIMIZERS,
    MIXED_SCHEDULES,
    MIXED_SETTINGS,
    MIXED_TOKENIZERS,
    ONE_LEARNING_RATE,
    REPEATS_DIFFER,
    UNFINISHED_RUNS,
    UNTUNED_RUNS,
)
from llmscale.notes.kind import Kind, Weight
from llmscale.runs.title import run_titles

_MIXED: dict[Kind, tuple[tuple[str, ...], str]] = {
    MIXED_TOKENIZERS: (
        ("tokenizer", "vocab_size"),
        "tokenizers, whose losses per token do not compare",
    ),
    MIXED_DATA: (
        ("data", "dataset", "corpus", "data_fingerprint"),
        "data, each with a floor and scale of its own",
    ),
    MIXED_SCHEDULES: (
        ("schedule",),
        "learning-rate schedules, which end at different losses",
    ),
    MIXED_OPTIMIZERS: (("optimizer",), "optimizers, each with a law of its own"),
    MIXED_ARCHITECTURES: (("arch", "architecture"), "architectures, each with a law of its own"),
    MIXED_EVALUATIONS: (
        (
            "eval_set",
            "evalset",
            "eval_dataset",
            "eval_data",
            "evaluation_set",
            "val_set",
            "validation_set",
            "test_set",
            "eval_split",
            "metric",
            "metric_name",
            "loss_type",
            "loss_unit",
            "unit",
        ),
        "evaluations, whose losses do not compare",
    ),
    MIXED_CONTEXTS: (
        ("context", "context_length", "seq_len"),
        "context lengths: longer ones predict better",
    ),
}
"""The columns that tell, and what several values of one mean."""
MIXED_CODES = {kind.code for kind in (*_MIXED, MIXED_SETTINGS, REPEATS_DIFFER)}
"""The codes of notes that say that a table holds more than one law."""
_NAMED = [name for columns, _ in _MIXED.values() for name in columns]
_SEARCHED = ("lr", "learning_rate", "lr_scale", "lr_area", "annealing_area")
"""Learning rates, whose searches have notes of their own."""
_LEAST_REPEATED = 3
_EFFECT = 0.003
"""0.3% of the loss: settings that matter less matter no more than seeds do."""

_WAYS = 5
"""Values of a column that are tried as what tells the ways apart in which runs were made."""


def mixed(kind: Kind, evidence: Evidence) -> Note | None:
    """Runs made in ways that one law cannot hold, told by a column with several values."""
    columns, what = _MIXED[kind]
    for name in columns:
        law = evidence.fit.law
        if name not in evidence.frame or name in (*law.inputs, *law.explained):
            continue
        shares = evidence.frame[name].value_counts(dropna=True)
        if len(shares) < 2:
            continue
        shown = listed((f"{key} ({count})" for key, count in shares.items()), 4)
        return kind.note(
            f"the runs have {len(shares)} {what} ({name}: {shown}). {_apart(evidence, shares)}"
        )
    return None


def mixed_settings(evidence: Evidence) -> Note | None:
    """A setting that has no note of its own, by which runs of one size and budget differ in loss.
    One-way analysis of variance of ln loss within points."""
    frame = evidence.frame
    if frame["run_id"].duplicated().any():
        return None
    point_R = groups(frame, [name for name in _NAMED if name in frame])
    off_R = evidence.level - _means(evidence.level, point_R)[point_R]
    law, columns = evidence.fit.law, evidence.fit.origin.columns
    known = {*law.inputs, *law.explained}
    taken = {*known, *(columns.get(name, name) for name in known), *LETTERS, *_SEARCHED}
    names = [name for name in differing(frame, point_R) if name not in taken]
    found = [(*_effect(off_R, values_of(frame[name])), name) for name in names]
    certain = [(effect, name) for p, effect, name in found if p < MIXED_SETTINGS.limit]
    effect, name = max(certain, default=(0.0, ""))
    if effect < _EFFECT:
        return None
    shares = frame[name].value_counts(dropna=True)
    shown = listed((f"{key} ({count})" for key, count in shares.items()), 4)
    return MIXED_SETTINGS.note(
        f"runs of one size and budget differ in {name} ({shown}), and by it "
        f"{evidence.size(effect)} in loss, which this law does not know. {_apart(evidence, shares)}"
    )


def _apart(evidence: Evidence, shares: pd.Series) -> str:
    """How to fit runs of several values of a column apart: a law each only if that can be done."""
    only = where_option(shares.index.name, "==", shares.index[0])
    enough = shares >= _LEAST_A_LAW
    if len(shares) <= _MOST_LAWS and enough.all():
        by = command_line("--by", shares.index.name)
        return f"Fit one law each: {evidence.command} {by}; or one of them: {only}"
    if enough.any():
        return f"Fit those of one value: {evidence.command} {only}"
    return f"No value has the {_LEAST_A_LAW} runs that a law of its own takes"


_MOST_LAWS, _LEAST_A_LAW = 6, 4
"""Values of a column, and runs of each, for which a law each can be fitted and read."""


def repeats_differ(evidence: Evidence) -> Note | None:
    """Runs that nothing in the table tells apart, and that differ by more than seeds do."""
    frame = evidence.frame
    if frame["run_id"].duplicated().any() or _searched(frame):
        return None
    point_R = groups(frame)
    names = differing(frame, point_R)
    alike_R = distinct([point_R, *(values_of(frame[name]) for name in names)])
    count = np.bincount(alike_R)
    off_R = evidence.level - _means(evidence.level, alike_R)[alike_R]
    places, spare = int((count > 1).sum()), int((count - 1).sum())
    spread = float(np.sqrt((off_R**2).sum() / max(spare, 1)))
    # Differences of scores are in the score's own unit: percents or shares.
    unit = float(np.abs(np.median(evidence.level))) if evidence.fit.law.plain else 1.0
    if places < _LEAST_REPEATED or spread < REPEATS_DIFFER.limit * unit:
        return None
    return REPEATS_DIFFER.note(
        f"at {places} sizes and budgets stand {int(count[count > 1].sum())} runs that no setting "
        f"in the table tells apart, and that differ by "
        f"{evidence.size(spread)} in loss, more than seeds do: are they of several data, "
        "tokenizers or recipes? Add a column that says so, and fit "
        f"one law each: {evidence.command} --by NAME"
    )


def _effect(off_R: Array, value_R: NDArray[np.int_]) -> tuple[float, float]:
    """The p-value of a difference between values, and the standard deviation of their means."""
    mean_R = _means(off_R, value_R)[value_R]
    count, spare = int(value_R.max()), len(off_R) - int(value_R.max()) - 1
    explained, rest = float((mean_R**2).sum()), float(((off_R - mean_R) ** 2).sum())
    if count < 1 or spare < 1:
        return 1.0, 0.0
    ratio = (explained / count) / max(rest / spare, 1e-300)
    return float(special.fdtrc(count, spare, ratio)), float(np.sqrt(explained / len(off_R)))


def _means(values_R: Array, group_R: NDArray[np.int_]) -> Array:
    return np.asarray(np.bincount(group_R, weights=values_R) / np.bincount(group_R))


MIXED: tuple[Callable[[Evidence], Note | None], ...] = (
    *(partial(mixed, kind) for kind in _MIXED),
    mixed_settings,
    repeats_differ,
)
"""A diagnostic for each way in which runs can be mixed."""


def learning_rate_at_edge(evidence: Evidence) -> Note | None:
    """Points whose best learning rate is the smallest or the largest tried."""
    done = evidence.done
    edges, points = [], _searched(done)
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
        f"of those tried: {listed(edges, 3)}. Their losses are too high by an unknown amount: try "
        f"beyond that end{sweep_with(done, '--lr-scale 0.5, or 2')} until a worse one is found on "
        "both sides"
    )


def untuned_runs(evidence: Evidence) -> Note | None:
    """A search over learning rates fitted as if each of its runs were the best of its point."""
    frame = evidence.frame
    points = _searched(frame)
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
                only = where_option(name, "==", value)
                return f"keep those of one kind, {evidence.command} {only}"
    lr, loss = (frame[name].to_numpy(dtype=float) for name in ("lr", "loss"))
    best_of_points = [set(lr[rows][loss[rows] == loss[rows].min()]) for rows in points]
    best = set.intersection(*best_of_points)
    if best:
        only = where_option("lr", "==", min(best))
        return f"keep the best, {evidence.command} {only}"
    return "put the best of each into a table of its own, and fit that"


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
        f"{params.max() / params.min():.0f} in N: the best one falls with size (as N^-1/3, Porian "
        "et al. 2024), and the exponents take the mistuning for scaling. Use the rule in N, as a "
        "sweep without --lr does, or tune each size",
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
        f"out: {listed(run.title for run in diverged)}{_beyond(evidence, names)}. The law "
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
    reasons = listed(f"{run.title} ({run.reason})" for run in left_out)
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


def _searched(frame: pd.DataFrame) -> list[NDArray[np.int_]]:
    """The rows of every point (size and budget) at which several learning rates were tried."""
    if not all(known(frame, name) for name in ("lr", "loss", "params")):
        return []
    if "run_id" in frame and frame["run_id"].duplicated().any():
        return []  # steps of one run, whose learning rate is the schedule's
    lr = frame["lr"].to_numpy(dtype=float)
    point = groups(frame, [name for name in _NAMED if name in frame])
    rows = (np.flatnonzero(point == number) for number in range(int(point.max()) + 1))
    return [chosen for chosen in rows if len(set(lr[chosen])) > 1]


def _beyond(evidence: Evidence, names: list[str]) -> str:
    """`, larger than any that is left` if that is so."""
    runs = evidence.runs
    if runs is None or "run_id" not in runs or "params" not in runs:
        return ""
    sizes = pd.to_numeric(runs["params"][runs["run_id"].astype(str).isin(names)], errors="coerce")
    if not len(sizes) or not sizes.max() > 1.01 * evidence.frame["params"].max():
        return ""
    return ", with the largest size among them"
