"""The loss curve of one run from a log of anybody's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, counted, listed
from llmscale.explain.table.columns.names import is_training, is_validation, quantity_of
from llmscale.explain.table.files.logs import (
    Log,
    column_of_runs,
    counts_on,
    is_loss,
    log_of,
    losses_of,
)
from llmscale.explain.table.files.source import read_rows_of
from llmscale.notes.reading import STEPS_REPEATED

_NAME = "give a log with columns of its loss and of its steps or tokens: step,tokens,train_loss"
_FEWEST_ROWS = 3
_OFTEN = 0.05
"""Of the rows: a run is not resumed that often."""


@dataclass(frozen=True)
class LoggedCurve:
    """Losses (S,) in nats per token at steps, and at tokens unless the log has none; the column
    that they were in, and whether it is a validation loss."""

    steps_S: NDArray[np.float64]
    tokens_S: NDArray[np.float64] | None
    loss_S: NDArray[np.float64]
    column: str
    is_validation: bool
    notes: tuple[Note, ...] = ()


def read_curve(path: Path) -> LoggedCurve:
    """The training loss that a log has, or else its validation loss. Raises InputError."""
    frame = read_rows_of(path).reset_index(drop=True)
    logged, log = frame, log_of(frame)
    if log is None:
        logged = _by_tokens(frame)
        log = log_of(logged)
    if log is None or log.loss is None:
        raise _no_curve(path, frame)
    names = [name for name in losses_of(log) if log.frame[name].notna().any()]
    training = [name for name in names if is_training(name)]
    other = [name for name in names if not is_validation(name)]
    column = next(iter([*training, *other, log.loss]))
    _refuse_lost(path, column, log, log.frame[column].notna().to_numpy())
    rows, notes = _as_it_went_on(path, logged, log.step, column)
    loss = rows[column].to_numpy(dtype=float)
    if not (np.isfinite(loss).all() and (loss > 0).all()):
        raise InputError(
            f"column {column!r} of {path} has losses that are no positive numbers",
            "give the loss in nats per token, and leave out rows without one",
        )
    tokens = None
    if log.tokens is not None:
        ordered = logged.sort_values(log.step, kind="stable")
        every = pd.to_numeric(ordered[log.tokens], errors="coerce").ffill()
        tokens = every[rows.index].to_numpy(dtype=float)
        loss, tokens = loss[tokens > 0], tokens[tokens > 0]
    steps = rows[log.step].to_numpy(dtype=float)[-len(loss) :]
    return LoggedCurve(steps, tokens, loss, column, is_validation(column), notes)


def _by_tokens(frame: pd.DataFrame) -> pd.DataFrame:
    """With the tokens for steps."""
    tokens = next((name for name in frame.columns if quantity_of(name) == "tokens"), None)
    return frame if tokens is None else frame.assign(step=frame[tokens])


def _as_it_went_on(
    path: Path, frame: pd.DataFrame, step: str, column: str
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """The rows with a loss, less those that the run has gone back behind, as when it is resumed
    from a checkpoint. Raises InputError if no run can have gone so."""
    rows = frame[frame[column].notna() & frame[step].notna()]
    at, loss = rows[step].to_numpy(dtype=float), rows[column].to_numpy(dtype=float)
    ahead = np.diff(at)
    other = np.flatnonzero((ahead == 0) & (np.diff(loss) != 0))
    back = np.flatnonzero(ahead < 0)
    if len(other) > max(1, _OFTEN * len(rows)):
        place = other[0]
        raise InputError(
            f"{len(other)} steps of {path} stand twice with other losses, as {step} "
            f"{at[place]:.9g} with {loss[place]:.6g} and {loss[place + 1]:.6g}",
            "leave one row a step: of one run, and of one process or the mean over all",
        )
    if len(back) > max(1, _OFTEN * len(rows)):
        raise _unsorted(path, step, at)
    later = np.append(np.minimum.accumulate(at[::-1])[::-1][1:], np.inf)
    kept = at < later
    if not len(other) and not len(back):
        return rows[kept], ()
    place = (back if len(back) else other)[-1]
    message = (
        f"{path.name} goes back from {step} {at[place]:.9g} to {at[place + 1]:.9g}, as when a run "
        f"is resumed from a checkpoint or started anew: {counted(int((~kept).sum()), 'row')} "
        "before that, from there on, left out"
    )
    return rows[kept], (STEPS_REPEATED.note(message),)


def _unsorted(path: Path, step: str, at: NDArray[np.float64]) -> InputError:
    falls = np.flatnonzero(np.diff(at) < 0)
    return InputError(
        f"column {step!r} of {path} falls {counted(len(falls), 'time')}, as from "
        f"{at[falls[0]]:.9g} to {at[falls[0] + 1]:.9g}, and the rows of a log go on in steps",
        f"sort its rows by {step}",
    )


def _no_curve(path: Path, frame: pd.DataFrame) -> InputError:
    """Why the rows of a file are not the curve of one run."""
    apart = column_of_runs(frame)
    if apart is not None:
        runs = frame[apart].dropna().unique()
        return InputError(
            f"{path} has rows of {len(runs)} runs, by its column {apart!r} ({listed(runs, 3)})",
            f"keep the rows of one, as those of {apart} {runs[-1]}",
        )
    if len(frame) < _FEWEST_ROWS:
        return InputError(
            f"{path} has {counted(len(frame), 'row')}, too few for a curve",
            f"give the log of a run that has logged {_FEWEST_ROWS} steps or more",
        )
    losses = [name for name in frame.columns if is_loss(name)]
    numbers = {name: pd.to_numeric(frame[name], errors="coerce") for name in frame.columns}
    if losses and not any(numbers[name].notna().any() for name in losses):
        return InputError(
            f"column {losses[0]!r} of {path} has no number in any row",
            "a run that diverged from the start has no end to forecast; else give a log with "
            "its losses",
        )
    for name in filter(counts_on, frame.columns if losses else ()):
        at = numbers[name].dropna().to_numpy(dtype=float)
        if (np.diff(at) < 0).any():
            return _unsorted(path, name, at)
    missing = "its steps or tokens, which rise" if losses else "its loss"
    return InputError(
        f"{path} has no column of {missing}, among {listed(frame.columns)}",
        _NAME,
    )


def _refuse_lost(path: Path, column: str, log: Log, is_there: NDArray[np.bool_]) -> None:
    """Raise InputError if losses end long before the log does, as those of a run that diverged."""
    places = np.flatnonzero(is_there)
    longest = max(np.diff(places), default=1)
    if len(is_there) - places[-1] > max(longest, 3):
        name = log.step if log.tokens is None else log.tokens
        steps = log.frame[name]
        raise InputError(
            f"column {column!r} of {path} has no numbers after {name} "
            f"{steps.iloc[places[-1]]:.9g}, and the log goes on to {steps.iloc[-1]:.9g}",
            "a run that diverged has no end to forecast; if the loss only was not logged, leave "
            "those rows out",
        )
