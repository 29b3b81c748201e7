"""The curves of a results folder, for the end of a run that is under way. Light: `status` uses
it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from llmscale.errors import LlmscaleError
from llmscale.explain.forecast.curve import Curve
from llmscale.explain.forecast.curve_end import EndForecast, forecast_end
from llmscale.runs.logged_losses import Logged, logged_losses
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.title import run_title

_TRAITS = ("params", "tokens", "unique_tokens", "params_total", "lr", "batch_tokens")
_MOST_FINISHED = 40
"""Finished runs that a quick forecast is made by: those of the nearest compute."""
_MOST_ASKED = 10
_LEVEL = 0.9


def folder_curves(folder: ResultsFolder, runs: Iterable[Any]) -> list[Curve]:
    """The curves of runs, each a row of the folder's table, or how it stands. Raises
    DamagedFile."""
    rows = {run.run_id: run for run in runs}
    return [_curve(rows[run_id], logged) for run_id, logged in logged_losses(folder, rows).items()]


def _curve(run: Any, logged: Logged) -> Curve:
    known = {name: getattr(run, name, None) for name in _TRAITS}
    return Curve(
        run_id=run.run_id,
        traits={name: float(value) for name, value in known.items() if value},
        tokens_S=np.asarray(logged[0], dtype=float),
        train_loss_S=np.asarray(logged[1], dtype=float),
        family=run.parent or run.run_id,
        loss=math.nan if run.loss is None else float(run.loss),
    )


def ends_under_way(folder: ResultsFolder, runs: Sequence[Any]) -> list[EndForecast]:
    """The end of every run that is being trained, by the finished runs of its recipe, as far as
    these are enough: quickly, without a law. `runs` are as `status` has them. Never fails."""
    asked = [run for run in runs if run.is_under_way and run.tokens_done][:_MOST_ASKED]
    done = [run for run in runs if run.state == "done"]
    if not asked or not done:
        return []
    told = []
    try:
        curves = {one.run_id: one for one in folder_curves(folder, [*asked, *done])}
        for run in asked:
            alike = [one for one in done if one.recipe == run.recipe]
            nearest = sorted(alike, key=lambda one: _apart(one.flops, run.flops))[:_MOST_FINISHED]
            found = _end(curves[run.run_id], [curves[one.run_id] for one in nearest], run)
            told += [found] if found else []
    except (LlmscaleError, OSError, ArithmeticError, ValueError):
        # Whatever a damaged curve does, a sweep's status is shown.
        return told
    return told


def _apart(one: float, other: float) -> float:
    return abs(math.log(max(one, 1.0) / max(other, 1.0)))


def _end(curve: Curve, finished: Sequence[Curve], run: Any) -> EndForecast | None:
    """None if there is too little to tell."""
    title = run_title(run.run_id, vars(run))
    try:
        return forecast_end(curve, finished, title=title, level=_LEVEL)
    except LlmscaleError:
        return None
