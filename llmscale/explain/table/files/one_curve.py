"""The loss curve of one run from a log of anybody's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.table.columns.names import is_training, is_validation, quantity_of
from llmscale.explain.table.files.logs import Log, log_of, losses_of
from llmscale.explain.table.files.source import read_rows_of

_NAME = (
    "name a log of one run, of three rows or more, with columns of its loss and of its steps or "
    "tokens, which rise: step,tokens,train_loss"
)


@dataclass(frozen=True)
class LoggedCurve:
    """Losses (S,) in nats per token at steps, and at tokens unless the log has none; the column
    that they were in, and whether it is a validation loss."""

    steps_S: NDArray[np.float64]
    tokens_S: NDArray[np.float64] | None
    loss_S: NDArray[np.float64]
    column: str
    is_validation: bool


def read_curve(path: Path) -> LoggedCurve:
    """The training loss that a log has, or else its validation loss. Raises InputError."""
    frame = read_rows_of(path)
    log = log_of(frame) or log_of(_by_tokens(frame))
    if log is None or log.loss is None:
        raise InputError(f"{path} is no log of one run", _NAME)
    names = [name for name in losses_of(log) if log.frame[name].notna().any()]
    training = [name for name in names if is_training(name)]
    other = [name for name in names if not is_validation(name)]
    column = next(iter([*training, *other, log.loss]))
    is_there = log.frame[column].notna().to_numpy()
    _refuse_lost(path, column, log, is_there)
    rows = log.frame[is_there]
    loss = rows[column].to_numpy(dtype=float)
    if not (np.isfinite(loss).all() and (loss > 0).all()):
        raise InputError(
            f"column {column!r} of {path} has losses that are no positive numbers", "fix them"
        )
    tokens = None
    if log.tokens is not None:
        every = pd.to_numeric(log.frame[log.tokens], errors="coerce").ffill()
        tokens = every[rows.index].to_numpy(dtype=float)
        loss, tokens = loss[tokens > 0], tokens[tokens > 0]
    steps = rows[log.step].to_numpy(dtype=float)[-len(loss) :]
    return LoggedCurve(steps, tokens, loss, column, is_validation(column))


def _by_tokens(frame: pd.DataFrame) -> pd.DataFrame:
    """With the tokens for steps."""
    tokens = next((name for name in frame.columns if quantity_of(name) == "tokens"), None)
    return frame if tokens is None else frame.assign(step=frame[tokens])


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
