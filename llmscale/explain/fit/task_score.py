"""A column that holds the score of a task: as a share of one, next to the loss, with the law that
it follows in the loss."""

from dataclasses import dataclass, replace

import numpy as np

from llmscale.errors import InputError, Note, counted, listed
from llmscale.errors.command_lines import command_line
from llmscale.explain.estimation.levels import numbers
from llmscale.explain.estimation.suitability import inputs_of
from llmscale.explain.estimation.trend import chance_of_rank, rank_correlation
from llmscale.explain.fit.task_shares import check_no_loss, shares_of
from llmscale.explain.laws import LETTERS, Array, Law, law_named
from llmscale.explain.laws.task_accuracy import TaskAccuracy
from llmscale.explain.laws.task_error import TaskError
from llmscale.explain.table import RunTable
from llmscale.explain.table.columns.names import ERRORS, is_loss, rises, says_loss, words_of
from llmscale.explain.table.columns.resolve import source_columns

TASK_LOSS = "task_loss"
"""The input of laws of the second step."""
LAWS_OF_TASKS = ("task-accuracy", "task-error")
_LEAST_RUNS = 4
"""What the law with the fewest coefficients takes."""
_ROUNDING = 1e-6
"""Scores that differ by less are one: no task has a million questions."""
_SURE = 0.05
"""A score moves with the loss if the p of its rank correlation is below this."""


@dataclass(frozen=True)
class Score:
    """The score of a task: `table` holds the runs that have one, as `loss` from 0 to 1, and what
    was the loss as `task_loss`; `laws` are those that it may follow in the loss, usual ones first,
    and `reason` why."""

    column: str
    table: RunTable
    laws: tuple[type[Law], ...]
    reason: str
    rises: bool
    """Whether it rises with the loss, as errors do."""
    in_percent: bool
    notes: tuple[Note, ...]

    @property
    def read(self) -> str:
        """How the column was read."""
        return f"{self.column} in percent" if self.in_percent else self.column

    def mirrors(self, law: type[Law]) -> bool:
        """Whether a law is that of scores which move the other way: it is one of 1 - score."""
        return law is (TaskAccuracy if self.rises else TaskError)

    def named_for(self, law: type[Law]) -> str:
        """What a law is fitted to."""
        return f"1 - {self.column}" if self.mirrors(law) else self.column

    def table_for(self, law: type[Law]) -> RunTable:
        """The runs as a law takes them."""
        if not self.mirrors(law):
            return self.table
        frame = self.table.frame.assign(loss=1.0 - self.table.frame["loss"])
        columns = {**self.table.columns, "loss": self.named_for(law)}
        return replace(self.table, frame=frame, columns=columns)


def score_of(table: RunTable, column: str, law: str | type[Law] | None = None) -> Score:
    """The score in `column` of a table, with the law named or those that suit. Raises InputError
    for what is no score, or does not move with the loss as its name says."""
    _check_column(table, column)
    loss_column = table.columns.get("loss", "loss")
    shares = shares_of(table, column)
    known = np.isfinite(shares.values)
    share, frame = shares.values[known], table.frame[known].reset_index(drop=True)
    _check_varied(column, share)
    loss = numbers(frame, "loss")
    _check_no_copy(column, numbers(table.frame, column)[known], loss, loss_column)
    rank = _rank_of(column, share, loss, loss_column)
    if rank > 0:
        check_no_loss(column, shares)
    laws, reason = _laws_of(column, rank, len(share), law)
    frame = frame.assign(**{TASK_LOSS: frame["loss"], "loss": share})
    columns = {**table.columns, "loss": column, TASK_LOSS: loss_column}
    scored = replace(table, frame=frame, columns=columns, notes=())
    return Score(column, scored, laws, reason, rank > 0, shares.in_percent, shares.notes)


def _check_column(table: RunTable, column: str) -> None:
    """Raise InputError for a column that is not there, or by its name or use no score."""
    if column not in table.frame:
        raise InputError(
            f"{table.path} has no column {column!r} for the score of a task",
            f"its columns are {listed(source_columns(table.frame), 12)}",
        )
    if column in ("loss", table.columns.get("loss")):
        raise InputError(
            f"{column} was taken for the loss, and is asked for as the score",
            "name another column as the loss: --task-loss NAME",
        )
    used = [name for name, named in table.columns.items() if column in (name, named)]
    if used:
        raise InputError(
            f"{column} was taken for {LETTERS.get(used[0], used[0])}, and is asked for as the "
            "score",
            "name the column of an accuracy or an error rate",
        )
    if says_loss(column):
        raise InputError(
            f"{column} is a loss by its name, and the score of a task is an accuracy or an error "
            "rate",
            f"forecast it as the loss, without --task: --columns {command_line(f'loss={column}')}",
        )


def _check_no_copy(column: str, values: Array, loss: Array, loss_column: str) -> None:
    if np.allclose(values, loss, rtol=1e-6, atol=0.0):
        raise InputError(
            f"{column} repeats {loss_column}, the loss, and is asked for as the score",
            "name the column of an accuracy or an error rate",
        )


def _check_varied(column: str, share: Array) -> None:
    if len(share) < _LEAST_RUNS:
        raise InputError(
            f"{counted(len(share), 'run')} with {column} are too few to see how it moves with the "
            f"loss",
            f"evaluate at least {_LEAST_RUNS} runs; an accuracy takes 5",
        )
    if np.ptp(share) < _ROUNDING:
        raise InputError(
            f"{column} is {share[0]:g} in every run, which tells nothing of how it moves with the "
            "loss",
            "name another task, or evaluate larger runs",
        )


def _rank_of(column: str, share: Array, loss: Array, loss_column: str) -> float:
    """The rank correlation of a score and the loss, if it is one that chance does not give."""
    rank = rank_correlation(share, loss)
    if chance_of_rank(rank, len(share)) < _SURE:
        return rank
    raise InputError(
        f"{column} does not move with the loss, {loss_column} (rank correlation {rank:+.2f} over "
        f"{counted(len(share), 'run')}): the loss does not forecast it",
        "name the loss of the task's own answers, --task-loss NAME, or evaluate larger runs",
    )


def _laws_of(
    column: str, rank: float, runs: int, law: str | type[Law] | None
) -> tuple[tuple[type[Law], ...], str]:
    """The law named, or those of scores which move with the loss like these; and why."""
    kind = None if law is None else law_named(law)
    if kind is not None and kind not in (TaskAccuracy, TaskError):
        if inputs_of(kind) != (TASK_LOSS,):
            raise InputError(
                f"{kind.name} is a law in {listed(inputs_of(kind))}, and that of a score is one in "
                f"{TASK_LOSS}",
                f"take one of {', '.join(LAWS_OF_TASKS)}, or a law of your own in {TASK_LOSS}",
            )
        return (kind,), "as asked for"
    usual: type[Law] = TaskError if rank > 0 else TaskAccuracy
    moves = f"{'rises' if rank > 0 else 'falls'} as the loss rises"
    seen = f"rank correlation {rank:+.2f} over {counted(runs, 'run')}"
    named = _named(column)
    if named not in (None, usual) and kind is not usual:
        raise InputError(
            f"{column} {moves} ({seen}), and its name is that of "
            f"{'an error' if named is TaskError else 'an accuracy'}",
            f"if it is right, say so: --task-law {usual.name}; or name another loss: --task-loss "
            "NAME",
        )
    reason = f"{column} {moves} ({seen})"
    if kind is not None:
        return (kind,), reason
    # The sigmoid holds the exponential as the limit in which no run is halfway; an error rate may
    # follow either.
    return ((TaskError, TaskAccuracy) if rank > 0 else (TaskAccuracy,)), reason


def _named(column: str) -> type[Law] | None:
    """The law that a name speaks of, if it does."""
    if set(words_of(column)) & {*ERRORS}:
        return TaskError
    return TaskAccuracy if rises(column) and not is_loss(column) else None
