"""A column that holds the score of a task: as a share of one, next to the loss, with the law that
it follows in the loss."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtr

from llmscale.errors import InputError, Note, counted, listed
from llmscale.explain.estimation.levels import numbers
from llmscale.explain.estimation.suitability import inputs_of
from llmscale.explain.laws import Array, Law, law_named
from llmscale.explain.laws.task_accuracy import TaskAccuracy
from llmscale.explain.laws.task_error import TaskError
from llmscale.explain.table import RunTable
from llmscale.explain.table.columns.names import is_loss, of_hundred, rises, words_of
from llmscale.notes.predicting import TASK_IN_PERCENT

TASK_LOSS = "task_loss"
"""The input of laws of the second step."""
LAWS_OF_TASKS = ("task-accuracy", "task-error")
_ERRORS = {"err", "error", "errors", "wer", "cer"}
_LEAST_RUNS = 4
"""What the law with the fewest coefficients takes."""
_SURE = 0.05
"""A score moves with the loss if the p of its rank correlation is below this."""
_UNCLEAR = 1.5
"""A share is at most 1, and whole percents of a task that models have begun to learn are more."""


@dataclass(frozen=True)
class Score:
    """The score of a task: `table` holds the runs that have one, as `loss` from 0 to 1, and what
    was the loss as `task_loss`; `law` is that of the score in the loss, and `reason` why."""

    column: str
    table: RunTable
    law: type[Law]
    reason: str
    notes: tuple[Note, ...]


def score_of(table: RunTable, column: str, law: str | type[Law] | None = None) -> Score:
    """The score in `column` of a table, with the law named or the one that suits. Raises InputError
    for what is no score, or does not move with the loss as its law says."""
    if column not in table.frame:
        raise InputError(
            f"{table.path} has no column {column!r} for the score of a task",
            f"its columns are {listed(map(str, table.frame.columns), 12)}",
        )
    loss_column = table.columns.get("loss", "loss")
    if column in ("loss", loss_column):
        raise InputError(
            f"{column} was taken for the loss, and is asked for as the score",
            "name another column as the loss: --task-loss NAME",
        )
    values = numbers(table.frame, column)
    known = np.isfinite(values)
    if not known.any():
        raise InputError(
            f"column {column!r} of {table.path} holds no numbers", "name the column of the score"
        )
    share, notes = _as_share(column, values[known])
    frame = table.frame[known].reset_index(drop=True)
    _check_varied(column, share)
    kind, reason = _law_of(column, share, numbers(frame, "loss"), loss_column, law)
    frame = frame.assign(**{TASK_LOSS: frame["loss"], "loss": share})
    columns = {**table.columns, "loss": column, TASK_LOSS: loss_column}
    scored = replace(table, frame=frame, columns=columns, notes=())
    return Score(column, scored, kind, reason, notes)


def _as_share(column: str, values: Array) -> tuple[Array, tuple[Note, ...]]:
    """Scores from 0 to 1; those in percent are divided by 100, which is said."""
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 100:
        raise InputError(
            f"{column} is from {low:g} to {high:g}, and the score of a task is a share, from 0 to "
            "1, or in percent, from 0 to 100",
            "name the column of an accuracy or an error rate",
        )
    named = of_hundred(column) or "%" in column
    in_percent = high > (1.0 if named else _UNCLEAR)
    if not in_percent and (named or high > 1):
        raise InputError(
            f"{column} is from {low:g} to {high:g}, which may be a share or in percent",
            f"give a column from 0 to 1: {column} as it is, or divided by 100, under a name "
            "without percent",
        )
    if not in_percent:
        return values, ()
    said = f"{column} is from {low:g} to {high:g}: taken as percent, and divided by 100"
    return values / 100.0, (TASK_IN_PERCENT.note(said),)


def _check_varied(column: str, share: Array) -> None:
    if len(share) < _LEAST_RUNS:
        raise InputError(
            f"{counted(len(share), 'run')} with {column} are too few to see how it moves with the "
            f"loss",
            f"evaluate at least {_LEAST_RUNS} runs; an accuracy takes 5",
        )
    if np.ptp(share) < 1e-12:
        raise InputError(
            f"{column} is {share[0]:g} in every run, which tells nothing of how it moves with the "
            "loss",
            "name another task, or evaluate larger runs",
        )


def _law_of(
    column: str, share: Array, loss: Array, loss_column: str, law: str | type[Law] | None
) -> tuple[type[Law], str]:
    """The law named, or that of scores which move with the loss like these; and why."""
    if law is not None and (kind := law_named(law)) not in (TaskAccuracy, TaskError):
        if inputs_of(kind) != (TASK_LOSS,):
            raise InputError(
                f"{kind.name} is a law in {listed(inputs_of(kind))}, and that of a score is one in "
                f"{TASK_LOSS}",
                f"take one of {', '.join(LAWS_OF_TASKS)}, or a law of your own in {TASK_LOSS}",
            )
        return kind, "as asked for"
    rank = float(pd.Series(share).rank().corr(pd.Series(loss).rank()))
    seen = f"rank correlation {rank:+.2f} over {counted(len(share), 'run')}"
    if not _p_of(rank, len(share)) < _SURE:
        raise InputError(
            f"{column} does not move with the loss, {loss_column} ({seen}): the loss does not "
            "forecast it",
            "name the loss of the task's own answers, --task-loss NAME, or evaluate larger runs",
        )
    found: type[Law] = TaskError if rank > 0 else TaskAccuracy
    moves = f"{'rises' if rank > 0 else 'falls'} as the loss rises"
    if law is not None and law_named(law) is not found:
        raise InputError(
            f"{law_named(law).name} was asked for, and {column} {moves} ({seen})",
            f"leave --task-law out, or take {found.name}",
        )
    named = _named(column)
    if law is None and named not in (None, found):
        raise InputError(
            f"{column} {moves} ({seen}), and its name is that of "
            f"{'an error' if named is TaskError else 'an accuracy'}",
            f"if it is right, say so: --task-law {found.name}; or name another loss: --task-loss "
            "NAME",
        )
    return found, f"{column} {moves} ({seen})"


def _named(column: str) -> type[Law] | None:
    """The law that a name speaks of, if it does."""
    if set(words_of(column)) & _ERRORS:
        return TaskError
    return TaskAccuracy if rises(column) and not is_loss(column) else None


def _p_of(rank: float, number: int) -> float:
    """The two-sided p of a rank correlation, by Student's t."""
    if not np.isfinite(rank):
        return 1.0
    left = number - 2
    t = abs(rank) * np.sqrt(left / max(1.0 - rank * rank, 1e-12))
    return float(2.0 * stdtr(left, -t))
