"""From size and tokens to a task in two steps: a law of the loss, and one of the task's score in
that loss (Gadre et al. 2024; Bhagia et al. 2024), with what either does not know."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import Note, first_lines
from llmscale.explain import digits, html
from llmscale.explain.estimation.options import Options, without_constraints
from llmscale.explain.estimation.result import Fit, Tested, percentiles, with_coefficients
from llmscale.explain.fit.backtest import check as backtest
from llmscale.explain.fit.parametric import fit_law
from llmscale.explain.fit.sources import Source, as_table
from llmscale.explain.fit.task_choice import chosen_law
from llmscale.explain.fit.task_score import TASK_LOSS, Score, score_of
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.forecast import Forecast, amount
from llmscale.explain.laws import LETTERS, Array, Law
from llmscale.explain.laws.task_accuracy import TaskAccuracy
from llmscale.notes import with_codes
from llmscale.notes.predicting import TASK_BEFORE_HALFWAY, TASK_NOT_A_SHARE


@dataclass(frozen=True)
class TaskForecast:
    """A task's score for new runs, from 0 to 1, with the interval that one should fall in at
    `level`: numbers, or arrays of one shape. `loss` is the forecast of the loss on the way there,
    with all that is known of it, and `steps` are both laws."""

    score: Any
    low: Any
    high: Any
    loss: Forecast
    steps: "TwoSteps"
    coverage: str = ""
    """What forecasts of the score have held on this table, the losses being known."""
    notes: tuple[Note, ...] = ()

    @property
    def metric(self) -> str:
        """The column of the score."""
        return self.steps.score.column

    @property
    def at(self) -> Mapping[str, Any]:
        """What was asked for, by column."""
        return self.loss.at

    @property
    def level(self) -> float:
        """The share of intervals that should hold a new run."""
        return self.loss.level

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of both fits, and of the forecast."""
        # How the score was read comes before all that hangs on it.
        return (
            *self.steps.score.notes,
            *self.loss.all_notes,
            *self.steps.second.notes,
            *self.notes,
        )

    @property
    def verdict(self) -> str:
        """A sentence on the point that lies furthest beyond the runs."""
        row = max(self.rows(), key=lambda row: row["horizon"])
        which = ", the furthest of those asked for" if len(self.rows()) > 1 else ""
        return f"{self._told(row)} at {self._place(row)}{which}"

    def rows(self) -> list[dict[str, float]]:
        """One row a point: what was asked for, the score, and all that is forecast of the loss."""
        names = {"score": self.score, "score_low": self.low, "score_high": self.high}
        flat = [np.atleast_1d(values).ravel().tolist() for values in names.values()]
        added = (dict(zip(names, row, strict=True)) for row in zip(*flat, strict=True))
        return [{**row, **more} for row, more in zip(self.loss.rows(), added, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """What `predict --json` prints: the forecast of the loss, with the score of each point."""
        told = self.loss.to_json()
        scores = ("score", "score_low", "score_high")
        points = [
            {**point, **{name: row[name] for name in scores}}
            for point, row in zip(told["predictions"], self.rows(), strict=True)
        ]
        notes = [{"code": note.code, "message": note.message} for note in self.all_notes]
        task = {**self.steps.task_json(), "coverage": self.coverage}
        return {**told, "task": task, "predictions": points, "warnings": notes}

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [
            f"{self._place(row)}  {self._told(row)}, by a loss of {digits.number(row['loss'])}"
            for row in self.rows()
        ]
        lines += [f"{name}: {said}" for name, said in self.covered()]
        notes = with_codes((*self.steps.score.notes, *self.notes))
        return "\n".join([*lines, *(f"note: {line}" for line in notes)])

    def covered(self) -> Iterator[tuple[str, str]]:
        """What forecasts of either step have held: `coverage of mmlu` and a sentence."""
        both = {"the loss": self.loss.coverage, self.metric: self.coverage}
        yield from ((f"coverage of {name}", said) for name, said in both.items() if said)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        interval = f"{100 * self.level:g}% interval"
        letters = [LETTERS.get(name, name) for name in self.at]
        headings = (*letters, "loss", interval, self.metric, interval)
        cells = [
            (
                *(amount(name, row) for name in self.at),
                *_in_two(row["loss"], row["low"], row["high"]),
                *_in_two(row["score"], row["score_low"], row["score_high"]),
            )
            for row in self.rows()
        ]
        told = (*self.steps.said(), *self.covered())
        said = (html.sentence(f"{name}: {text}") for name, text in told)
        return "".join([html.table(headings, cells), *said, html.notes(self.all_notes)])

    def _place(self, row: Mapping[str, float]) -> str:
        return ", ".join(f"{LETTERS.get(name, name)} = {amount(name, row)}" for name in self.at)

    def _told(self, row: Mapping[str, float]) -> str:
        said = digits.with_ends(row["score"], row["score_low"], row["score_high"])
        level = f" ({100 * self.level:g}%)" if np.isfinite(row["score_low"]) else ""
        return f"{self.metric} {said}{level}"


@dataclass(frozen=True)
class TwoSteps:
    """The fit of the loss in size and tokens, and that of a task's score in the loss."""

    first: Fit
    second: Fit
    score: Score
    choice: str = ""
    """Why the law of the second, if it could have been another."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to know of either."""
        return (*self.score.notes, *self.first.notes, *self.second.notes)

    @property
    def mirrored(self) -> bool:
        """Whether the second is a fit to 1 - score."""
        return self.score.mirrors(type(self.second.law))

    def forecast(self, *, level: float | None = None, **inputs: Any) -> TaskForecast:
        """The score of a new run at params=, tokens= (or N=, D=). Raises InputError."""
        return self.after(forecast_at(self.first, level=level, **inputs))

    def after(self, loss: Forecast) -> TaskForecast:
        """The score of new runs of which the loss is forecast by the first step.

        The interval is that of draws: of the loss by the first step, refits, run noise and the
        misfit that grows beyond the runs included; and for each loss of the score by the second, so
        too. The errors of the steps are taken as independent, and a share is from 0 to 1."""
        check = self.tested
        told = forecast_at(self.second, level=loss.level, check=check, **{TASK_LOSS: loss.loss})
        shape = np.shape(loss.loss)
        low, high = np.full(shape, np.nan), np.full(shape, np.nan)
        drawn = min(len(self.first.replicates), len(self.second.replicates))
        if drawn:
            at = [np.reshape(loss.at[name], (1, -1)) for name in self.first.law.inputs]
            loss_BX = _drawn(self.first, np.arange(drawn), at)
            loss_BX = np.maximum(_stretched(loss_BX, loss, loss.loss), np.finfo(float).tiny)
            # In another order: refits of one seed draw the same runs and the same noise.
            order = np.random.default_rng(self.second.options.seed).permutation(drawn)
            score_BX = _drawn(self.second, order, [loss_BX])
            score_BX = _stretched(score_BX, told, self.second.law.loss(loss_BX))
            ends = percentiles(score_BX, loss.level)
            low, high = (np.clip(end, 0.0, 1.0).reshape(shape)[()] for end in ends)
        coverage = ""
        if drawn:
            coverage = (check and check.coverage) or "not tested on this table: too few budgets"
        notes = (*told.notes, *_outside(self.second.law, told.loss))
        score, ends = told.loss, (low[()], high[()])
        if self.mirrored:
            score, ends = 1.0 - score, (1.0 - ends[1], 1.0 - ends[0])
        return TaskForecast(score, *ends, loss, self, coverage, notes)

    @cached_property
    def tested(self) -> Tested | None:
        """What scores of higher budgets needed when they were forecast from those of lower ones, at
        the losses that were measured; None without refits."""
        if not len(self.second.replicates):
            return None
        with np.errstate(all="ignore"):
            test = backtest(self.second)
        # What else a backtest notes is on laws of the loss.
        remedy = "take another --task-law, or the loss of the task's own answers (--task-loss)"
        note = test.not_covered(f"{self.score.column} by {self.second.law.name}", remedy)
        return replace(test.tested, notes=(note,) if note else ())

    def said(self) -> Iterator[tuple[str, str]]:
        """What each step is, and what it was fitted to: a name and a sentence of each."""
        loss, score = self.score.table.columns[TASK_LOSS], self.score.column
        first, second = self.first, self.second
        yield loss, f"{first.law.name}: {first.formula}, fitted to {first.origin.size}"
        size = f"the {second.origin.runs} of them with {score}"
        if second.origin.rows == first.origin.rows:
            size = "all of them"
        formula = f"1 - {second.formula}" if self.mirrored else second.formula
        yield score, f"{second.law.name}: {formula}, fitted to {size}; {self.score.reason}"
        if self.choice:
            yield f"law of {score}", self.choice

    def task_json(self) -> dict[str, Any]:
        """The second step."""
        law = self.second.law
        return {
            "column": self.score.column,
            "loss": self.score.table.columns[TASK_LOSS],
            "law": law.name,
            "of_one_minus_score": self.mirrored,
            "in_percent": self.score.in_percent,
            "reason": self.score.reason,
            "choice": self.choice,
            "coefficients": {name: float(value) for name, value in law.coefficients().items()},
            "n_rows": self.second.origin.rows,
        }

    def to_json(self) -> dict[str, Any]:
        """Both fits as `fit --json` prints them."""
        return {
            "metric": self.score.column,
            "first": self.first.to_json(),
            "second": self.second.to_json(),
        }

    def __str__(self) -> str:
        return f"{self.first}\nthen {self.score.column} by {self.second}"


def two_steps(
    source: Source,
    metric: str,
    *,
    first: str | type[Law] = "chinchilla",
    second: str | type[Law] | None = None,
    options: Options | None = None,
    **changes: Any,
) -> TwoSteps:
    """The laws of both steps for a table whose `loss` is that of a task's answers or of a text, and
    whose column `metric` holds the score.

    `second` is a law in the loss: task-accuracy for what rises from chance to a ceiling as the loss
    falls, task-error for errors; the score tells which if none is named, and of errors the
    residuals. One that moves the other way is fitted to 1 - score. Every run with a score is in
    the second step. Raises InputError, and WorkError as `fit_law` does."""
    options = replace(options or Options(), **changes)
    table = as_table(source)
    score = score_of(table, metric, second)
    return with_score(fit_law(table, first, options), score, options)


def with_score(first: Fit, score: Score, options: Options) -> TwoSteps:
    """Both steps, of which the first is fitted. The second minimises squares, as both papers do:
    scores have the errors of counts, and no long tails."""
    quick = replace(options, objective="squared", holdout="none", diagnostics=False)
    quick = without_constraints(quick)
    law, choice = chosen_law(score, quick)
    second = fit_law(score.table_for(law), law, quick)
    second = replace(second, notes=(*second.notes, *_halfway(second, score)))
    return TwoSteps(first, second, score, choice)


def _halfway(second: Fit, score: Score) -> tuple[Note, ...]:
    """The note on a sigmoid of which the runs show only the lower half."""
    law, lowest = second.law, float(second.inputs[0].min())
    if not isinstance(law, TaskAccuracy) or lowest <= law.L_0:
        return ()
    said = (
        f"no run is halfway from chance to the ceiling of {score.named_for(type(law))}: that is at "
        f"a loss of "
        f"{law.L_0:.4g}, and the lowest is {lowest:.4g}; where it levels off is hardly known"
    )
    return (TASK_BEFORE_HALFWAY.note(said),)


def _outside(law: Law, score: Any) -> tuple[Note, ...]:
    """The note on scores that are no share."""
    beyond = (np.asarray(score) < 0) | (np.asarray(score) > 1)
    if not beyond.any():
        return ()
    said = (
        f"{law.name} gives a score below 0 or above 1 at {int(beyond.sum())} of {beyond.size} "
        "forecasts: its formula does not hold there; forecast nearer to the runs"
    )
    return (TASK_NOT_A_SHARE.note(said),)


def _in_two(value: float, low: float, high: float) -> tuple[str, str]:
    """A value, and its interval, for two columns."""
    return digits.number(value, low, high), digits.ends(low, high, value)


def _drawn(fit: Fit, order: Any, at: list[Array]) -> Array:
    """What refits say of new runs, with their noise, in this order: (B, X)."""
    with np.errstate(all="ignore"):
        told = with_coefficients(fit.law, fit.replicates[order]).loss(*at)
    return np.asarray(fit.law.moved(told, fit.noise[order, None]))


def _stretched(drawn_BX: Array, told: Forecast, middle: ArrayLike) -> Array:
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
