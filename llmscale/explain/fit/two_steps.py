"""From size and tokens to a task in two steps: a law of the loss, and one of the task's score in
that loss (Gadre et al. 2024; Bhagia et al. 2024), with what either does not know."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import InputError, Note, listed
from llmscale.explain import digits
from llmscale.explain.estimation.levels import numbers
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, percentiles, with_coefficients
from llmscale.explain.fit.parametric import fit_law
from llmscale.explain.fit.sources import Source, as_table
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.laws import Array, Law
from llmscale.quantity import format_count

TASK_LOSS = "task_loss"
"""The input of laws of the second step."""


@dataclass(frozen=True)
class TaskForecast:
    """A task's score for new runs, with the interval that one should fall in at `level`; the loss
    on the way there with its own. Numbers, or arrays of one shape."""

    metric: str
    score: Any
    low: Any
    high: Any
    task_loss: Any
    task_loss_low: Any
    task_loss_high: Any
    level: float
    at: Mapping[str, Any]

    def __str__(self) -> str:
        lines = []
        for place in range(np.size(self.score)):
            score, low, high, loss = (
                float(np.atleast_1d(values)[place])
                for values in (self.score, self.low, self.high, self.task_loss)
            )
            at = " ".join(
                f"{name} = {format_count(float(np.atleast_1d(values)[place]))}"
                for name, values in self.at.items()
            )
            lines.append(
                f"{at}  {self.metric} {digits.with_ends(score, low, high)} at "
                f"{100 * self.level:g}%, by a loss of {digits.number(loss)}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class TwoSteps:
    """The fit of the loss in size and tokens, and that of the score `metric` in the loss."""

    metric: str
    first: Fit
    second: Fit

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to know of either."""
        return (*self.first.notes, *self.second.notes)

    def forecast(self, *, level: float | None = None, **inputs: Any) -> TaskForecast:
        """The score of a new run at params=, tokens= (or N=, D=).

        The interval is that of draws: of the loss by the first step, refits, run noise and the
        misfit that grows beyond the runs included; and for each loss of the score by the second, so
        too. The errors of the steps are taken as independent. Raises InputError."""
        loss = forecast_at(self.first, level=level, **inputs)
        score = forecast_at(self.second, level=level, **{TASK_LOSS: loss.loss})
        level = loss.level
        shape = np.shape(loss.loss)
        low, high = np.full(shape, np.nan), np.full(shape, np.nan)
        if len(self.first.replicates) and len(self.second.replicates):
            at = [np.reshape(loss.at[name], (1, -1)) for name in self.first.law.inputs]
            loss_BX = _stretched(_drawn(self.first, at), loss, loss.loss)
            score_BX = _stretched(_drawn(self.second, [loss_BX]), score, self._score(loss_BX))
            ends = percentiles(score_BX, level)
            low, high = (end.reshape(shape) for end in ends)
        return TaskForecast(
            self.metric, score.loss, low, high, loss.loss, loss.low, loss.high, level, loss.at
        )

    def _score(self, loss: Array) -> Array:
        return np.asarray(self.second.law.loss(loss))

    def to_json(self) -> dict[str, Any]:
        """Both fits as `fit --json` prints them."""
        return {
            "metric": self.metric,
            "first": self.first.to_json(),
            "second": self.second.to_json(),
        }

    def __str__(self) -> str:
        return f"{self.first}\nthen {self.metric} by {self.second}"


def two_steps(
    source: Source,
    metric: str,
    *,
    first: str | type[Law] = "chinchilla",
    second: str | type[Law] = "task-accuracy",
    options: Options | None = None,
    **changes: Any,
) -> TwoSteps:
    """The laws of both steps for a table whose `loss` is that of a task's answers or of a text, and
    whose column `metric` holds the score.

    `second` is a law in the loss: task-accuracy for what rises from chance to a ceiling, task-error
    for errors. Every run with a score is in the second step. Raises InputError, and WorkError as
    `fit_law` does."""
    options = replace(options or Options(), **changes)
    table = as_table(source)
    if metric not in table.frame:
        raise InputError(
            f"{table.path} has no column {metric!r} for the score",
            f"its columns are {listed(map(str, table.frame.columns))}",
        )
    of_loss = fit_law(table, first, options)
    score = numbers(table.frame, metric)
    known = np.isfinite(score)
    if not known.any():
        raise InputError(
            f"column {metric!r} of {table.path} holds no numbers", "name the column of the score"
        )
    frame = table.frame.assign(**{TASK_LOSS: table.frame["loss"], "loss": score})[known]
    columns = {**table.columns, "loss": metric}
    in_loss = replace(table, frame=frame.reset_index(drop=True), columns=columns, notes=())
    quiet = replace(options, holdout="none", diagnostics=False)
    return TwoSteps(metric, of_loss, fit_law(in_loss, second, quiet))


def _drawn(fit: Fit, at: list[Array]) -> Array:
    """What each refit says of new runs, with their noise: (B, X)."""
    with np.errstate(all="ignore"):
        told = with_coefficients(fit.law, fit.replicates).loss(*at)
    return np.asarray(fit.law.moved(told, fit.noise[:, None]))


def _stretched(drawn_BX: Array, told: Any, middle: ArrayLike) -> Array:
    """Draws as far from the law as its widened interval is beside the plain one, on either side."""
    middle_X = np.asarray(middle, dtype=float)
    middle_X = middle_X.reshape(1, -1) if middle_X.ndim < 2 else middle_X
    centre = np.reshape(told.loss, (1, -1))
    off_BX = drawn_BX - middle_X
    sides = []
    for wide, plain in ((told.low, told.plain_low), (told.high, told.plain_high)):
        whole, own = (np.abs(np.reshape(end, (1, -1)) - centre) for end in (wide, plain))
        sides.append(np.divide(whole, own, out=np.ones_like(whole), where=own > 0))
    return np.asarray(middle_X + off_BX * np.where(off_BX < 0, *sides))
