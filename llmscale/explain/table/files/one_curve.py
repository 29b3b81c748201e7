"""The loss curve of one run from a log of anybody's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.table.columns.names import is_training, is_validation
from llmscale.explain.table.files.logs import log_of, losses_of
from llmscale.explain.table.files.source import read_rows_of

_NAME = "name a log of one run with columns of its steps or tokens and its loss"


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
    log = log_of(read_rows_of(path))
    if log is None or log.loss is None:
        raise InputError(f"{path} is no log of one run", _NAME)
    names = losses_of(log)
    training = [name for name in names if is_training(name)]
    other = [name for name in names if not is_validation(name)]
    column = next(iter([*training, *other, log.loss]))
    rows = log.frame[log.frame[column].notna()]
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
