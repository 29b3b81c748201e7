"""The standard error of the loss: which column holds it, in nats, and whether it can be one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note
from llmscale.errors.printable import shortened
from llmscale.explain.table.columns.names import words_of
from llmscale.explain.table.columns.units import to_base
from llmscale.notes.reading import LOSS_ERROR_IGNORED

LOSS_SE = "loss_se"
NONE = "none"
"""As `--columns loss_se=none`: the table's column is left alone."""

_ERRORS = (
    {"se"},
    {"stderr"},
    {"sem"},
    {"std", "err"},
    {"std", "error"},
    {"standard", "error"},
)
"""Words that say that a number is a standard error. (A standard deviation is something else.)"""
_VALIDATION = {"val", "valid", "validation", "eval", "evaluation", "test", "final"}
_STEP = 1e-4


def error_columns(names: Sequence[str], loss: str | None) -> list[str]:
    """The columns that say the standard error of the loss, which is read from column `loss`: of its
    full name, or else of one that differs in a word of validation (`loss_se` next to `val_loss`, or
    the other way round). The error of another column, as `acc_stderr` is of `acc`, is none of
    them."""
    if loss is None:
        return []
    of_loss = set(words_of(loss))
    others = [set(words_of(name)) for name in names if name != loss]
    exact, close = [], []
    for name in names:
        words = set(words_of(name))
        error = next((one for one in _ERRORS if one <= words), None)
        rest = words - (error or set())
        if error is None or not rest:
            continue
        if rest == of_loss:
            exact.append(name)
        elif rest not in others and _may_mean(rest, of_loss):
            close.append(name)
    return exact or close


def _may_mean(rest: set[str], of_loss: set[str]) -> bool:
    """Whether the words next to `stderr` leave out, or add, no more than that a loss is one, or is
    of validation."""
    if rest < of_loss:
        return of_loss - rest <= _VALIDATION or rest <= {"loss", *_VALIDATION}
    return rest - _VALIDATION == {"loss"}


def text_for_error(raw: pd.DataFrame, names: Sequence[str]) -> list[Note]:
    """What to say of columns that are named as errors of the loss and hold only text."""
    for name in names:
        texts = raw[name].dropna()
        if len(texts):
            example = shortened(repr(str(texts.iloc[0])), 20)
            message = (
                f"column {name!r} holds no numbers, such as {example}, and is not used as the "
                "standard error of the loss"
            )
            return [LOSS_ERROR_IGNORED.note(message)]
    return []


def error_in_nats(
    frame: pd.DataFrame, given: pd.Series, loss: pd.Series, unit: str | None
) -> pd.DataFrame:
    """The frame with the standard error (`given`, in the unit of the loss) in nats per token."""
    error = pd.to_numeric(given, errors="coerce").to_numpy(dtype=float)
    if unit is not None:
        value = pd.to_numeric(loss, errors="coerce").to_numpy(dtype=float)
        step = _STEP * np.maximum(np.abs(value), _STEP)
        with np.errstate(all="ignore"):
            rise = to_base(value + step, "loss", unit) - to_base(value - step, "loss", unit)
            error = error * np.abs(rise / (2 * step))
    return frame.assign(**{LOSS_SE: error})


def check_error(
    frame: pd.DataFrame, columns: Mapping[str, str], told: bool, path: Path
) -> Note | None:
    """Why the standard errors of these runs cannot be that; None if they can, or there are none.
    Raises InputError for a column that was asked for."""
    column = columns.get(LOSS_SE)
    if column is None:
        return None
    error, loss = frame[LOSS_SE].to_numpy(dtype=float), frame["loss"].to_numpy(dtype=float)
    known = np.isfinite(error)
    problem = None
    if not known.all():
        problem = f"holds no number in {int((~known).sum())} of {len(error)} runs"
    elif (error < 0).any():
        problem = f"is negative, {error.min():.3g}, in {int((error < 0).sum())} of {len(error)}"
    elif not error.any():
        problem = "is 0 in every run"
    elif (error >= loss).any():
        row = int(np.argmax(error / loss))
        problem = f"is {error[row]:.3g} for a loss of {loss[row]:.4g}"
    if problem is None:
        return None
    if told:
        raise InputError(
            f"column {column!r} of {path}, the standard error of the loss, {problem}",
            "name another column, or --columns loss_se=none for none",
        )
    return LOSS_ERROR_IGNORED.note(
        f"column {column!r} is no standard error of the loss, and is not used: it {problem}"
    )
