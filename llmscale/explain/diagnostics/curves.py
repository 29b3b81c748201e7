"""What is seen along a run: checkpoints taken for runs, and loss curves that differ in shape."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import Note, listed
from llmscale.explain.diagnostics.checkpoints import hot_rows
from llmscale.explain.diagnostics.evidence import Evidence, SeenCurve, counted, known, where
from llmscale.explain.estimation.advice import more_budgets
from llmscale.explain.estimation.levels import count_levels
from llmscale.explain.laws import Array
from llmscale.notes.fitting import MID_SCHEDULE, NO_COLLAPSE
from llmscale.runs.curve_file import Curves, each_curve, known_columns
from llmscale.runs.title import run_titles

_SAME_RATIO = 0.15
_LEAST_CURVES = 3
_PROGRESS = np.linspace(0.25, 0.95, 15)
"""Where curves are compared: after the warm-up's transient, before the end, where all are 1."""
_WINDOW = 0.05


def seen_curves(curves: Curves) -> dict[str, SeenCurve]:
    """Of every run, by id: curves of any length are gone through once, a run at a time."""
    names = known_columns(curves, ("step", "tokens", "loss", "train_loss", "lr"))
    return {run_id: _seen(rows) for run_id, rows in each_curve(curves, names)}


def mid_schedule(evidence: Evidence) -> Note | None:
    """Checkpoints taken for runs: their learning rate had not come down."""
    if "lr_area" in evidence.fit.law.inputs:
        return None  # a law of whole curves, for which every step counts
    frame = evidence.frame
    reasons = [*_checkpoints(frame), *_stopped_early(frame), *hot_rows(evidence)]
    hot = _hot_endings(evidence)
    if hot:
        reasons.append(
            f"{counted(len(hot), 'run')} ended above half the peak learning rate ({listed(hot, 3)})"
        )
    if not reasons:
        return None
    return MID_SCHEDULE.note(
        f"{'; '.join(reasons)}: before its cooldown a run's loss is too high, so the exponent of D "
        "comes out wrong (Hoffmann et al. 2022). Fit final losses only: "
        f"{more_budgets(frame)}"
    )


def _checkpoints(frame: pd.DataFrame) -> list[str]:
    """Rows that are checkpoints of one run."""
    if not known(frame, "tokens"):
        return []
    tokens = frame.groupby("run_id")["tokens"].nunique()
    several = tokens[tokens > 1]
    if several.empty:
        return []
    runs = counted(len(several), "run")
    return [f"{int(several.sum())} rows are checkpoints of {runs} ({listed(several.index, 3)})"]


def _stopped_early(frame: pd.DataFrame) -> list[str]:
    """Rows with fewer tokens than their schedule was made for."""
    reasons = []
    for planned in ("schedule_tokens", "planned_tokens", "max_tokens"):
        if not (known(frame, planned) and known(frame, "tokens")):
            continue
        early = frame["tokens"].astype(float) < 0.99 * frame[planned].astype(float)
        if early.any():
            names = listed(run_titles(frame, np.flatnonzero(early)))
            rows = counted(int(early.sum()), "row")
            reasons.append(f"{rows} stopped before the schedule's end ({names})")
    return reasons


def no_collapse(evidence: Evidence) -> Note | None:
    """Curves of one token ratio that differ in shape once their ends agree (Qiu et al. 2025,
    2507.02119).

    Compared is (L(x) - E) / (L(1) - E) at progress x, E the law's floor: under equal care the sizes
    share it."""
    curves = evidence.curves
    if curves is None or not known(evidence.frame, "tokens"):
        return None
    frame = evidence.frame[evidence.frame["run_id"].isin(list(curves))]
    apart = [_apart(evidence, frame, rows) for rows in _by_ratio(frame)]
    found = [one for one in apart if one is not None]
    if not found:
        return None
    worst = max(found, key=lambda one: one.spread)
    return NO_COLLAPSE.note(
        f"loss curves of {worst.runs} runs of one token ratio differ by {worst.spread:.1%} of the "
        f"reducible loss when normalised at their ends (noise {worst.noise:.1%}), most for "
        f"{worst.furthest}. Equally tuned sizes share one curve (Qiu et al. 2025, 2507.02119): "
        "tune learning rate and batch there, or doubt the floor"
    )


@dataclass(frozen=True)
class _Apart:
    """Curves of one token ratio that do not collapse."""

    spread: float
    noise: float
    furthest: str
    runs: int


def _by_ratio(frame: pd.DataFrame) -> list[NDArray[np.int_]]:
    """The rows of about one token ratio each, which have three sizes or more."""
    ratio = np.log((frame["tokens"] / frame["params"]).to_numpy(dtype=float))
    params = frame["params"].to_numpy(dtype=float)
    order = np.argsort(ratio, kind="stable")
    starts = np.flatnonzero(np.diff(ratio[order], prepend=-np.inf) > _SAME_RATIO)
    return [
        rows for rows in np.split(order, starts[1:]) if count_levels(params[rows]) >= _LEAST_CURVES
    ]


def _apart(evidence: Evidence, frame: pd.DataFrame, rows: NDArray[np.int_]) -> _Apart | None:
    """How far the curves of these rows are apart, if by more than tuned ones, and their noise."""
    law, curves = evidence.fit.law, evidence.curves
    assert curves is not None
    floor = float(law.coefficients()[law.floor]) if law.floor else 0.0
    shapes = {row: _shape(curves[frame["run_id"].iloc[row]], floor) for row in rows}
    seen = {row: shape for row, shape in shapes.items() if shape is not None}
    if len(seen) < _LEAST_CURVES:
        return None
    log_shape = np.stack([shape for shape, _ in seen.values()])
    noise = float(np.median([error for _, error in seen.values()]))
    off = log_shape - np.median(log_shape, axis=0)
    spread = float(np.median(off.std(axis=0)))
    if spread <= max(NO_COLLAPSE.limit, 3 * noise):
        return None
    row = list(seen)[int(np.argmax(np.abs(off).mean(axis=1)))]
    furthest = f"{run_titles(frame, [row])[0]} ({where(frame, row)})"
    return _Apart(spread, noise, furthest, len(seen))


def _seen(curve: pd.DataFrame) -> SeenCurve:
    columns = {name: curve[name].to_numpy(dtype=float) for name in curve.columns}
    windows = _windows(columns) if {"tokens", "loss", "train_loss"} <= set(columns) else None
    means, errors = windows or (None, None)
    return SeenCurve(
        means, errors, {"lr", "step"} <= set(columns) and _ends_hot(columns["step"], columns["lr"])
    )


def _windows(columns: dict[str, Array]) -> tuple[Array, Array] | None:
    """Mean loss in each window of progress and its standard error; None if one has fewer than 3
    rows."""
    evaluated = int((~np.isnan(columns["loss"])).sum())
    tokens, loss = _ordered(columns["tokens"], columns["loss" if evaluated >= 20 else "train_loss"])
    if not len(tokens):
        return None
    progress = tokens / np.nanmax(tokens)
    means, errors = [], []
    for x in (*_PROGRESS, 1.0 - _WINDOW / 2):
        inside = loss[np.abs(progress - x) <= _WINDOW / 2]
        if len(inside) < 3:
            return None
        means.append(inside.mean())
        # From differences of neighbours, which the slope within a window hardly touches.
        errors.append(np.sqrt(np.mean(np.diff(inside) ** 2) / 2 / len(inside)))
    return np.array(means), np.array(errors)


def _ends_hot(step: Array, lr: Array) -> bool:
    _, lr = _ordered(step, lr)
    return bool(len(lr) and lr[-1] > MID_SCHEDULE.limit * lr.max())


def _ordered(by: Array, values: Array) -> tuple[Array, Array]:
    """Both if there is a value, in the order of the first."""
    there = ~np.isnan(values)
    by, values = by[there], values[there]
    order = np.argsort(by, kind="stable")
    return by[order], values[order]


def _shape(curve: SeenCurve, floor: float) -> tuple[Array, float] | None:
    """ln of the normalised reducible loss at _PROGRESS, and its noise; None for a curve too sparse
    or too low."""
    if curve.windows is None or curve.noise is None or curve.windows.min() <= floor:
        return None
    means = curve.windows - floor
    logs = np.log(means)
    return logs[:-1] - logs[-1], float(np.sqrt(2) * np.median(curve.noise / means))


def _hot_endings(evidence: Evidence) -> list[str]:
    """Runs that end above half their highest learning rate, if the schedule is not constant."""
    curves, frame = evidence.curves, evidence.frame
    if curves is None:
        return []
    hot = {run_id for run_id, curve in curves.items() if curve.ends_hot}
    constant = (
        set(frame["run_id"][frame["schedule"] == "constant"]) if "schedule" in frame else set()
    )
    return [run_id for run_id in dict.fromkeys(frame["run_id"]) if run_id in hot - constant]
