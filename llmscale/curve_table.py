"""Loss curves as a table for laws of whole curves: one row an evaluated step, with the areas under its schedule."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note
from llmscale.laws import Array
from llmscale.table import Excluded, RunTable

MOMENTUM = 0.999
"""lambda of the annealing area: how much of a fall of the learning rate is still to come a step later."""
_EVALUATIONS = 10
_MOST_STEPS = 100
_NEEDED = ("run_id", "step", "tokens", "lr")


def annealing(lr_S: Array, momentum: float = MOMENTUM) -> tuple[Array, Array]:
    """S1 and S2 after each step, from the learning rate of every step  (Tissue et al. 2024).

    S1 is the sum of learning rates. S2 = sum_i m_i with m_i = momentum m_(i-1) + lr_(i-1) - lr_i; the rise of the
    warm-up, up to the first highest rate, does not count, so that S2 is 0 until the rate first falls.
    """
    fall_S = -np.diff(lr_S, prepend=lr_S[:1])
    fall_S[: int(np.argmax(lr_S)) + 1] = 0.0
    momentum_S = np.array(list(itertools.accumulate(fall_S, lambda before, fall: momentum * before + fall)))
    return np.cumsum(lr_S), np.cumsum(momentum_S)


def curve_table(
    runs: pd.DataFrame, curves: pd.DataFrame, path: Path | str, *, loss: str = "loss", momentum: float = MOMENTUM
) -> RunTable:
    """One row an evaluated step: run_id, params, tokens, flops, loss, step, lr, lr_area (S1), annealing_area (S2).

    `runs` has run_id and params, and may have `status` (all but `done` are left out) and `parent` (the run whose
    schedule this one branched from). `curves` has run_id, step (counted from 1), tokens, lr and the column named
    `loss`, empty where the step was not evaluated. Between logged steps lr is linear. Rows of one run share its
    run_id: they are not independent, and a bootstrap must draw them together. Raises InputError.
    """
    for frame, what, needed in ((runs, "runs", ("run_id", "params")), (curves, "curves", (*_NEEDED, loss))):
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            raise InputError(
                f"the {what} of {path} have no column {' and '.join(missing)}", f"they need {', '.join(needed)}"
            )
    if not 0 <= momentum < 1:
        raise InputError(f"momentum {momentum:g} of the annealing area is not in [0, 1)", "use 0.999")
    if runs["run_id"].duplicated().any():
        twice = runs.loc[runs["run_id"].duplicated(), "run_id"].iloc[0]
        raise InputError(f"{path} has more than one run {twice!r}", "give every run its own run_id")

    logged = {run_id: rows.sort_values("step") for run_id, rows in curves.groupby("run_id", sort=False)}
    parents = _parents(runs)
    parts, excluded, unevaluated = [], [], []
    for run in runs.to_dict("records"):
        run_id = run["run_id"]
        if run.get("status", "done") != "done":
            excluded.append(Excluded(str(run_id), str(run["status"])))
        elif run_id not in logged or not logged[run_id][loss].notna().any():
            unevaluated.append(str(run_id))
        else:
            parts.append(_rows(run, _schedule(run_id, logged, parents, path), logged[run_id], loss, momentum))
    if not parts:
        raise InputError(f"{path} has no finished run with an evaluated step", "name a folder that a sweep wrote")
    excluded += [Excluded(run_id, "no evaluated step") for run_id in unevaluated]
    table = pd.concat(parts, ignore_index=True)
    note = Note(
        "rows-are-steps", f"{len(table)} evaluated steps of {len(parts)} runs: steps of one run are not independent"
    )
    return RunTable(Path(path), table, tuple(excluded), (note,), "params")


def folder_steps(runs: RunTable, every_run: pd.DataFrame, curves: pd.DataFrame) -> RunTable:
    """The steps of the table's runs as evidence for laws of whole curves: after the warm-up, every one that was logged.

    The loss is the evaluated one where runs have at least 10 evaluations, and else the training loss, a step's mean
    over its own batch. More than 100 steps a run are averaged in turn to 100, geometrically as the fit is in ln L.
    """
    chosen = every_run[every_run["run_id"].isin(runs.frame["run_id"])]
    evaluated = curves[curves["run_id"].isin(chosen["run_id"])].groupby("run_id")["loss"].count()
    sparse = not len(evaluated) or evaluated.median() < _EVALUATIONS
    loss = "train_loss" if sparse and "train_loss" in curves.columns else "loss"
    table = curve_table(chosen, curves, runs.path, loss=loss)
    frame = table.frame
    peak = frame.groupby("run_id")["lr"].transform("idxmax")
    frame = frame[frame.index >= peak].reset_index(drop=True)
    count = frame.groupby("run_id")["step"].transform("size")
    place = frame.groupby("run_id").cumcount()
    bins = np.where(count > _MOST_STEPS, (place * _MOST_STEPS) // count, place)
    frame["loss"] = np.log(frame["loss"])
    averaged = frame.groupby(["run_id", bins], sort=False).mean(numeric_only=True).reset_index(level=0)
    averaged["loss"] = np.exp(averaged["loss"])
    what = "the training loss of" if loss == "train_loss" else "the loss at"
    note = Note(
        "rows-are-steps",
        f"fitted to {what} {len(frame)} steps after the warm-up, averaged to {len(averaged)} rows, of"
        f" {frame['run_id'].nunique()} runs: steps of one run are not independent, and intervals rest on whole runs",
    )
    return replace(table, frame=averaged.reset_index(drop=True), notes=(note,))


def _parents(runs: pd.DataFrame) -> dict[object, object]:
    if "parent" not in runs.columns:
        return {}
    branched = runs[runs["parent"].notna()]
    return dict(zip(branched["run_id"], branched["parent"], strict=True))


def _schedule(
    run_id: object, logged: dict[object, pd.DataFrame], parents: dict[object, object], path: Path | str
) -> pd.DataFrame:
    """step and lr of the run as logged, with those of the runs that it branched from before its own first step."""
    schedule, seen = logged[run_id][["step", "lr"]], {run_id}
    while (run_id := parents.get(run_id)) is not None:
        if run_id in seen:
            raise InputError(f"run {run_id!r} of {path} branches from itself", "mend the column parent")
        seen.add(run_id)
        if run_id in logged:
            before = logged[run_id][["step", "lr"]]
            schedule = pd.concat([before[before["step"] < schedule["step"].iloc[0]], schedule])
    return schedule


def _rows(
    run: dict[str, object], schedule: pd.DataFrame, curve: pd.DataFrame, loss: str, momentum: float
) -> pd.DataFrame:
    step, lr = schedule["step"].to_numpy(dtype=np.int64), schedule["lr"].to_numpy(dtype=float)
    every_step = np.arange(1, int(step[-1]) + 1)
    lr_S = np.interp(every_step, step, lr)
    if len(step) > 1 and lr[1] > lr[0]:
        # A warm-up had begun before the first logged step.
        early = every_step < step[0]
        slope = (lr[1] - lr[0]) / (step[1] - step[0])
        lr_S[early] = np.maximum(lr[0] - slope * (step[0] - every_step[early]), 0.0)
    lr_area, annealing_area = annealing(lr_S, momentum)
    evaluated = curve[curve[loss].notna()]
    at = evaluated["step"].to_numpy(dtype=np.int64) - 1
    tokens = evaluated["tokens"].to_numpy(dtype=float)
    params = float(run["params"])  # type: ignore[arg-type]
    flops = evaluated["flops"].to_numpy(dtype=float) if "flops" in evaluated.columns else 6.0 * params * tokens
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
