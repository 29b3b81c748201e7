"""Loss curves as a table for laws of whole curves: one row an evaluated step, with the areas under
its schedule."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError
from llmscale.explain.laws import Array
from llmscale.explain.table import Excluded, RunTable
from llmscale.notes.reading import ROWS_ARE_STEPS
from llmscale.runs.curve_file import (
    Curves,
    each_curve,
    is_id,
    known_columns,
    one_curve,
    parents_of,
    shared_rows,
)

MOMENTUM = 0.999
"""lambda of the annealing area: how much of a fall of the learning rate is still to come a step
later."""
_EVALUATIONS = 10
_MOST_STEPS, _LEAST_STEPS, _MOST_ROWS = 100, 10, 100_000
_LONG = 20_000
_CURVES_KEPT = 256
"""Curves of runs that others branched from, in memory at a time."""
_NEEDED = ("run_id", "step", "tokens", "lr")


def annealing(lr_S: Array, momentum: float = MOMENTUM) -> tuple[Array, Array]:
    """S1 and S2 after each step, from the learning rate of every step  (Tissue et al. 2024).

    S1 is the sum of learning rates. S2 = sum_i m_i with m_i = momentum m_(i-1) + lr_(i-1) - lr_i;
    the rise of the warm-up, up to the first highest rate, does not count, so that S2 is 0 until the
    rate first falls."""
    fall_S = -np.diff(lr_S, prepend=lr_S[:1])
    fall_S[: int(np.argmax(lr_S)) + 1] = 0.0
    momentum_S = _with_momentum(fall_S, momentum)
    return np.cumsum(lr_S), np.cumsum(momentum_S)


def _with_momentum(fall_S: Array, momentum: float) -> Array:
    """m_i = momentum m_(i-1) + fall_i. scipy does so fast, but takes a second to load: it is for
    long runs."""
    if len(fall_S) < _LONG:
        return np.array(
            list(itertools.accumulate(fall_S, lambda before, fall: momentum * before + fall))
        )
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -momentum], fall_S))


def folder_steps(runs: RunTable, every_run: pd.DataFrame, curves: Curves) -> RunTable:
    """The steps of the table's runs as evidence for laws of whole curves: after the warm-up, every
    one that was logged.

    The loss is the evaluated one if runs have at least 10 evaluations, and else the training loss,
    a step's mean over its own batch. More than 100 steps a run, or 100,000 in all (but at least 10
    a run), are averaged in turn to that many, geometrically as the fit is in ln L."""
    chosen = every_run[every_run["run_id"].isin(runs.frame["run_id"])]
    sparse = True
    if "loss" in curves.columns:
        evaluated = [
            rows["loss"].notna().sum()
            for _, rows in each_curve(curves, ["loss"], set(chosen["run_id"]))
        ]
        sparse = not evaluated or float(np.median(evaluated)) < _EVALUATIONS
    loss = "train_loss" if sparse and "train_loss" in curves.columns else "loss"
    most = min(_MOST_STEPS, max(_LEAST_STEPS, _MOST_ROWS // max(1, len(chosen))))
    number = 0

    def averaged(frame: pd.DataFrame) -> pd.DataFrame:
        nonlocal number
        frame = frame[int(frame["lr"].argmax()) :]
        number += len(frame)
        return _averaged(frame, most)

    table = curve_table(chosen, curves, runs.path, loss, averaged)
    what = "the training loss of" if loss == "train_loss" else "the loss at"
    note = ROWS_ARE_STEPS.note(
        f"fitted to {what} {number} steps after the warm-up, averaged to {len(table.frame)} rows, "
        f"of {table.frame['run_id'].nunique()} runs: steps of one run are not independent, and "
        "intervals rest on whole runs",
    )
    return replace(table, notes=(note,))


def _averaged(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most that many rows of one run: means over successive steps, geometric for the loss."""
    if len(frame) <= most:
        return frame
    starts = np.flatnonzero(np.diff((np.arange(len(frame)) * most) // len(frame), prepend=-1))
    counts = np.diff(starts, append=len(frame))
    columns = {
        name: frame[name].to_numpy(dtype=float) for name in frame.columns if name != "run_id"
    }
    columns["loss"] = np.log(columns["loss"])
    means = {name: np.add.reduceat(column, starts) / counts for name, column in columns.items()}
    means["loss"] = np.exp(means["loss"])
    return pd.DataFrame({"run_id": frame["run_id"].iloc[0], **means})


def curve_table(
    runs: pd.DataFrame,
    curves: Curves,
    path: Path | str,
    loss: str = "loss",
    kept: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows,
) -> RunTable:
    """One row an evaluated step: run_id, params, tokens, flops, loss, step, lr, lr_area (S1),
    annealing_area (S2).

    `runs` has run_id and params, and may have `status` (all but `done` are left out) and `parent`
    (the run whose schedule this one branched from: rows that are its parent's are in the table
    once, as the parent's). `curves` has run_id, step (counted from 1), tokens, lr and the column
    named `loss`, empty if the step was not evaluated. Between logged steps lr is linear. `kept`
    chooses from the rows of each run. Raises InputError."""
    for frame, what, needed in (
        (runs, "runs", ("run_id", "params")),
        (curves, "curves", (*_NEEDED, loss)),
    ):
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            raise InputError(
                f"the {what} of {path} have no column {' and '.join(missing)}",
                f"they need {', '.join(needed)}",
            )
    if runs["run_id"].duplicated().any():
        twice = runs.loc[runs["run_id"].duplicated(), "run_id"].iloc[0]
        raise InputError(f"{path} has more than one run {twice!r}", "give every run its own run_id")

    logged = _Logged(runs, curves, path, loss)
    excluded, parts = [], {}
    done = []
    for run in runs.to_dict("records"):
        if run.get("status", "done") != "done":
            excluded.append(Excluded(str(run["run_id"]), str(run["status"])))
        else:
            done.append(run)
    by_id = {str(run["run_id"]): run for run in done}
    for run_id, curve in each_curve(curves, logged.columns, by_id):
        curve = curve.sort_values("step", ignore_index=True)
        if curve[loss].notna().any():
            rows = _rows(
                by_id[run_id],
                logged.schedule(run_id, curve),
                curve[logged.shared(run_id, curve) :],
                loss,
            )
            parts[run_id] = kept(rows) if len(rows) else rows
    found = [parts[run_id] for run_id in by_id if run_id in parts and len(parts[run_id])]
    if not found:
        raise InputError(
            f"{path} has no finished run with an evaluated step", "name a folder that a sweep wrote"
        )
    excluded += [Excluded(run_id, "no evaluated step") for run_id in by_id if run_id not in parts]
    return RunTable(Path(path), pd.concat(found, ignore_index=True), tuple(excluded), (), "params")


class _Logged:
    """The curves of runs that others branched from, looked up by run."""

    def __init__(self, runs: pd.DataFrame, curves: Curves, path: Path | str, loss: str) -> None:
        self.columns = known_columns(
            curves, dict.fromkeys((*_NEEDED[1:], "flops", "train_loss", "loss", loss))
        )
        self._path = path
        given = (
            runs["parent"]
            if "parent" in runs.columns
            else pd.Series(None, index=runs.index, dtype=object)
        )
        self._parents = {
            str(run): str(parent)
            for run, parent in zip(runs["run_id"], given, strict=True)
            if is_id(parent)
        }
        finished = runs[runs["status"] == "done"] if "status" in runs.columns else runs
        self._sharing = parents_of(finished)
        self._curve = lru_cache(maxsize=_CURVES_KEPT)(
            partial(_curve_of, curves, tuple(self.columns))
        )

    def shared(self, run_id: str, curve: pd.DataFrame) -> int:
        """How many of the first rows of a run are those of another run of the table."""
        parent = self._curve(self._sharing[run_id]) if run_id in self._sharing else None
        return 0 if parent is None else shared_rows(curve, parent)

    def schedule(self, run_id: str, curve: pd.DataFrame) -> pd.DataFrame:
        """step and lr of the run as logged, with those of the runs that it branched from before its
        own first step."""
        schedule, seen = curve[["step", "lr"]], {run_id}
        while (parent := self._parents.get(run_id)) is not None:
            run_id = parent
            if run_id in seen:
                raise InputError(
                    f"run {run_id!r} of {self._path} branches from itself",
                    "correct the column parent",
                )
            seen.add(run_id)
            before = self._curve(run_id)
            if before is not None and before["step"].iloc[0] < schedule["step"].iloc[0]:
                earlier = before[["step", "lr"]]
                schedule = pd.concat(
                    [earlier[earlier["step"] < schedule["step"].iloc[0]], schedule]
                )
        return schedule


def _curve_of(curves: Curves, columns: tuple[str, ...], run_id: str) -> pd.DataFrame | None:
    """The rows of one run by step, or None if it has none."""
    rows = one_curve(curves, run_id, columns)
    return None if rows is None else rows.sort_values("step", ignore_index=True)


def _rows(
    run: dict[str, object], schedule: pd.DataFrame, curve: pd.DataFrame, loss: str
) -> pd.DataFrame:
    step, lr = schedule["step"].to_numpy(dtype=np.int64), schedule["lr"].to_numpy(dtype=float)
    every_step = np.arange(1, int(step[-1]) + 1)
    lr_S = np.interp(every_step, step, lr)
    if len(step) > 1 and lr[1] > lr[0]:
        # A warm-up had begun before the first logged step.
        early = every_step < step[0]
        slope = (lr[1] - lr[0]) / (step[1] - step[0])
        lr_S[early] = np.maximum(lr[0] - slope * (step[0] - every_step[early]), 0.0)
    lr_area, annealing_area = annealing(lr_S)
    evaluated = curve[curve[loss].notna()]
    at = evaluated["step"].to_numpy(dtype=np.int64) - 1
    tokens = evaluated["tokens"].to_numpy(dtype=float)
    params = float(run["params"])  # type: ignore[arg-type]
    flops = (
        evaluated["flops"].to_numpy(dtype=float)
        if "flops" in evaluated.columns
        else 6.0 * params * tokens
    )
    return pd.DataFrame(
        {
            "run_id": str(run["run_id"]),
            "params": params,
            "tokens": tokens,
            "flops": flops,
            "loss": evaluated[loss].to_numpy(dtype=float),
            "step": at + 1,
            "lr": lr_S[at],
            "lr_area": lr_area[at],
            "annealing_area": annealing_area[at],
        }
    )
